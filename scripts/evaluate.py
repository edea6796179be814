"""Evaluate a trained run again, for example with other generation settings.

    python scripts/evaluate.py results/runs/0123456789abcdef evaluator.num_beams=4
    python scripts/evaluate.py results/runs/0123456789abcdef --split interpolate --checkpoint best

The metrics and predictions go to <run>/evaluation/<split>-<checkpoint>-<overrides>.json and
.parquet; the run's own results stay.
"""

import argparse
from pathlib import Path

from beyond_ce.command_line import command


@command()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("overrides", nargs="*", metavar="evaluator.key=value")
    parser.add_argument("--split", nargs="+", default=[], help="default: the test splits")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last")
    args = parser.parse_intermixed_args()

    import pandas as pd

    from beyond_ce.runs.scoring import score_again

    metrics = score_again(args.run, args.checkpoint, args.split, args.overrides)
    print(pd.DataFrame(metrics).to_string(float_format="{:.4g}".format, na_rep=""))


if __name__ == "__main__":
    main()
