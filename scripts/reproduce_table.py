"""Run the missing runs of a table, write the table and print it beside the paper's.

    python scripts/reproduce_table.py ntl-2
    python scripts/reproduce_table.py 1 --scale smoke --seeds 0,1 trainer.max_steps=50
    python scripts/reproduce_table.py ntl-2 --seeds auto --max-seeds 30
    python scripts/reproduce_table.py ntl-2 --launcher slurm hydra.launcher.partition=gpu
    python scripts/reproduce_table.py ntl-2 --launcher slurm --detach

Finished runs are skipped and interrupted ones continue: start the same command again.
--seeds auto runs the table's seeds first. Their spread says how many more would decide the claims
about the table (Stein's two-stage rule); these are run next, and the intervals allow for that.
"""

import sys

from beyond_ce.command_line import command
from beyond_ce.errors import UsageError


@command()
def main() -> None:
    from beyond_ce.reproduction.cost import estimate_line
    from beyond_ce.reproduction.launch import (
        check_configs,
        default_jobs,
        prepare_once,
        run_local,
        run_slurm,
        train_beforehand,
    )
    from beyond_ce.reproduction.plan import AUTO, Plan, argument_parser, plans
    from beyond_ce.reproduction.stages import MAX_SEEDS, second_stage
    from beyond_ce.reproduction.workers import preload
    from beyond_ce.reproduction.write import write

    parser = argument_parser(__doc__)
    parser.add_argument(
        "--jobs",
        type=int,
        help="runs at a time, in training only if their scores are times; default: as many as fit "
        "the cores",
    )
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local")
    parser.add_argument(
        "--detach",
        action="store_true",
        help="only submit to SLURM; the same command without it waits and writes the table",
    )
    parser.add_argument(
        "--max-seeds",
        type=int,
        help=f"of a row with --seeds {AUTO}, default: {MAX_SEEDS}",
    )
    args = parser.parse_intermixed_args()
    if args.jobs is not None and args.jobs < 1:
        raise UsageError(f"--jobs {args.jobs}: give at least 1")
    if args.max_seeds is not None and args.max_seeds < 1:
        raise UsageError(f"--max-seeds {args.max_seeds}: give at least 1")
    if args.max_seeds is not None and args.seeds != AUTO:
        raise UsageError(f"--max-seeds is for --seeds {AUTO}, which runs as many as are needed")
    if args.detach and (args.launcher != "slurm" or args.seeds == AUTO):
        raise UsageError("--detach is for --launcher slurm, and not for --seeds auto, which waits")
    if args.launcher == "local":
        preload()
    todo = plans(args)
    for plan in todo:
        check_configs(plan)
        if line := estimate_line(plan):
            print(line)
    overrides = [name for name in args.names if "=" in name]

    from beyond_ce.reproduction.measurement import measure
    from beyond_ce.runs.experiment import run, train
    from beyond_ce.runs.preparation import prepare
    from beyond_ce.storage.writing import check_writable

    def run_missing(plan: Plan) -> list[str]:
        if plan.table.measure:
            measure(plan)  # by one process on this machine, whatever the launcher
            return []
        everything = [*plan.sources(), plan]
        if args.launcher == "slurm":
            for runs in everything:
                prepare_once(runs, prepare)
            return run_slurm(everything, run, overrides, args.detach)
        failed: list[str] = []
        for runs in everything:
            if not failed:  # what starts from runs that failed would only fail as well
                prepare_once(runs, prepare)
                jobs = args.jobs
                if runs.table.alone:
                    train_beforehand(runs, train, args.jobs)
                    jobs = None
                failed = run_local(runs, run, jobs or default_jobs(runs))
        return failed

    for plan in todo:
        if plan.missing():
            check_writable(plan.results / "runs", "set results_dir to a writable folder")
    failed_runs = 0
    unmade = []
    for plan in todo:
        try:
            failed = run_missing(plan)
            if args.seeds == AUTO and not failed:
                later, lines = second_stage(plan, args.max_seeds or MAX_SEEDS)
                print("\n".join(lines))
                failed = run_missing(later)
        except UsageError as error:
            if len(todo) == 1:
                raise
            print(f"error: {plan.table.id}: {error}", file=sys.stderr)
            unmade.append(plan.table.id)  # one without its data must not keep back the others
            continue
        failed_runs += len(failed)
        if args.detach and plan.missing():
            print(f"`make status TABLE={plan.table.id} SCALE={plan.scale}` shows its runs")
        elif plan.any_done():
            print(f"\n{write(plan, only_done=True)['md'].read_text(encoding='utf-8')}")
    if unmade:
        print(f"not made, see above: {', '.join(unmade)}", file=sys.stderr)
    if failed_runs:
        print(f"{failed_runs} runs failed; start the same command again", file=sys.stderr)
    if unmade or failed_runs:
        sys.exit(1)


if __name__ == "__main__":
    main()
