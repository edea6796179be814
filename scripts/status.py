"""Show what has become of the runs of tables, from their folders alone.

    python scripts/status.py ntl-2
    python scripts/status.py ntl-2 --scale gpu results_dir=/shared/results

A table is a line; of the tables that you name, each run is one, with its step, its speed and the
time that is left of its training. Without a table: all of them.
"""

from beyond_ce.command_line import command


@command()
def main() -> None:
    from beyond_ce.reproduction.plan import argument_parser, plans, tables_at
    from beyond_ce.reproduction.status import summary, table_of_runs

    parser = argument_parser(__doc__, needs_names=False)
    args = parser.parse_intermixed_args()
    named = [name for name in args.names if "=" not in name]
    if not named:
        args.names = [*tables_at(args.scale), *args.names]
    for plan in plans(args):
        for runs in (*plan.sources(), plan):
            print(summary(runs))
            if named:
                print(table_of_runs(runs))


if __name__ == "__main__":
    main()
