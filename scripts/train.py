"""Train and evaluate one run, or a sweep with -m. `--help` lists the config groups."""

from contextlib import nullcontext

import hydra
from omegaconf import DictConfig

from beyond_ce.configuration import one_line_errors, single_job


@hydra.main(config_path="../conf", config_name="train", version_base="1.3")
def main(config: DictConfig) -> None:
    # Here rather than around Hydra alone, which would print a line of its own above ours.
    with one_line_errors() if single_job() else nullcontext():
        # Slow to import: --help and config errors come first.
        from lightning_fabric.utilities import rank_zero_only

        from beyond_ce.runs.experiment import run

        rank_zero_only(print)(run(config))


if __name__ == "__main__":
    with one_line_errors():
        main()
