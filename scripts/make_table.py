"""Rebuild tables from the reports that exist, without running anything.

    python scripts/make_table.py ntl-2 --scale cpu --latex
    python scripts/make_table.py ntl-2 --keep

Takes the same seeds and overrides as reproduce_table.py, which select the runs.
"""

from beyond_ce.command_line import command


@command()
def main() -> None:
    from beyond_ce.reproduction.plan import argument_parser, plans
    from beyond_ce.reproduction.write import keep_reports, write

    parser = argument_parser(__doc__)
    parser.add_argument("--latex", action="store_true", help="write a .tex file as well")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="copy the reports of the runs here to results/reports, where git keeps them",
    )
    args = parser.parse_intermixed_args()
    for plan in plans(args):
        if args.keep:
            for path in keep_reports(plan):
                print(path)
        for path in write(plan, latex=args.latex).values():
            print(path)


if __name__ == "__main__":
    main()
