"""Rebuild tables from the reports that exist, without running anything.

    python scripts/make_table.py ntl-2 --scale cpu --latex

Takes the same seeds and overrides as reproduce_table.py, which select the runs.
"""

from beyond_ce.command_line import command


@command()
def main() -> None:
    from beyond_ce.reproduction.plan import argument_parser, plans
    from beyond_ce.reproduction.write import write

    parser = argument_parser(__doc__)
    parser.add_argument("--latex", action="store_true", help="write a .tex file as well")
    args = parser.parse_intermixed_args()
    for plan in plans(args):
        for path in write(plan, latex=args.latex).values():
            print(path)


if __name__ == "__main__":
    main()
