"""Score a trained run again, for example with other generation settings, or any other model.

    python scripts/evaluate.py results/runs/0123456789abcdef evaluator.num_beams=4
    python scripts/evaluate.py results/runs/0123456789abcdef --split interpolate --checkpoint best
    python scripts/evaluate.py results/runs/0123456789abcdef evaluator=humaneval
    python scripts/evaluate.py 7B_1T_4 evaluator=mbpp evaluator.samples=20
    python scripts/evaluate.py evaluator=humaneval model=causal_lm model.pretrained=my-model

MODEL is a run's folder, or a checkpoint in the layout of Llama, Hugging Face or this repository.
Without one, it is the model that the settings choose. The metrics and predictions of a run go to
<run>/evaluation/<split>-<checkpoint>-<overrides>.json and .parquet; the run's own results stay.
Those of other models go to <results_dir>/evaluations/.
"""

import argparse
from pathlib import Path

from beyond_ce.command_line import command
from beyond_ce.errors import UsageError


@command()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "words", nargs="*", metavar="MODEL key=value", help="folder of a run or of a checkpoint"
    )
    parser.add_argument("--split", nargs="+", default=[], help="default: the test splits")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="of a run")
    parser.add_argument("--tokenizer", type=Path, help="of a checkpoint; default: MODEL's")
    args = parser.parse_intermixed_args()
    folder, overrides = None, args.words
    if overrides and ("=" not in overrides[0] or Path(overrides[0]).exists()):
        folder, overrides = Path(overrides[0]), overrides[1:]

    import pandas as pd

    from beyond_ce.runs.scoring import score_again
    from beyond_ce.runs.scoring_models import score_checkpoint, score_model

    is_checkpoint = folder is not None and folder.is_dir() and not _is_run(folder)
    if args.tokenizer is not None and not is_checkpoint:
        raise UsageError("--tokenizer is for a checkpoint's folder: leave it out")
    if folder is None:
        scores = score_model(args.split, overrides)
    elif is_checkpoint:
        scores = score_checkpoint(folder, args.tokenizer, args.split, overrides)
    else:
        scores = score_again(folder, args.checkpoint, args.split, overrides)
    print(pd.DataFrame(scores).to_string(float_format="{:.4g}".format, na_rep=""))


def _is_run(folder: Path) -> bool:
    """Whether the folder is no checkpoint: an empty one, say, is the folder of no run."""
    checkpoint = any((folder / name).exists() for name in ("config.json", "params.json"))
    return (folder / "config.yaml").exists() or not checkpoint


if __name__ == "__main__":
    main()
