"""Train and evaluate one run, or a sweep with -m. `--help` lists the choices."""

from omegaconf import DictConfig

from beyond_ce.command_line import command


@command(config="train")
def main(config: DictConfig) -> None:
    # Slow to import: --help and config errors come first.
    from lightning_fabric.utilities import rank_zero_only

    from beyond_ce.runs.experiment import run

    rank_zero_only(print)(run(config))


if __name__ == "__main__":
    main()
