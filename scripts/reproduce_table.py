"""Run the missing runs of a table, write the table and print it beside the paper's.

    python scripts/reproduce_table.py ntl-2
    python scripts/reproduce_table.py 1 --scale smoke --seeds 0,1 trainer.max_steps=50
    python scripts/reproduce_table.py ntl-2 --launcher slurm hydra.launcher.partition=gpu

Finished runs are skipped and interrupted ones continue: start the same command again.
"""

import sys

from beyond_ce.command_line import command
from beyond_ce.errors import UsageError


@command()
def main() -> None:
    from beyond_ce.reproduction.launch import (
        check_configs,
        default_jobs,
        prepare_once,
        run_local,
        run_slurm,
    )
    from beyond_ce.reproduction.plan import argument_parser, plans
    from beyond_ce.reproduction.write import write

    parser = argument_parser(__doc__)
    parser.add_argument(
        "--jobs", type=int, help="runs at a time; default: as many as fit the cores"
    )
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local")
    args = parser.parse_intermixed_args()
    if args.jobs is not None and args.jobs < 1:
        raise UsageError(f"--jobs {args.jobs}: give at least 1")
    todo = plans(args)
    for plan in todo:
        check_configs(plan)
    overrides = [name for name in args.names if "=" in name]

    from beyond_ce.reproduction.measurement import measure
    from beyond_ce.runs.experiment import run
    from beyond_ce.runs.preparation import prepare

    failures = []
    for plan in todo:
        if plan.table.measure:
            measure(plan)  # by one process on this machine, whatever the launcher
        else:
            for runs in (*plan.sources(), plan):
                prepare_once(runs, prepare)
                if args.launcher == "slurm":
                    failed = run_slurm(runs, run, overrides)
                else:
                    failed = run_local(runs, run, args.jobs or default_jobs(runs))
                failures += failed
                if failed:
                    break  # what starts from these runs would only fail as well
        if plan.any_done():
            print(f"\n{write(plan, only_done=True)['md'].read_text(encoding='utf-8')}")
    if failures:
        print(f"{len(failures)} runs failed; start the same command again", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
