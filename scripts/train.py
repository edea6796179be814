"""Train and evaluate one run, or a sweep with -m. `--help` lists the choices."""

from omegaconf import DictConfig

from beyond_ce.command_line import command


@command(config="train")
def main(config: DictConfig) -> None:
    # Slow to import: --help and errors in the config come first, then wrong values.
    from beyond_ce.runs.checks import check_settings

    check_settings(config)
    from lightning_fabric.utilities import rank_zero_only

    from beyond_ce.runs.experiment import run

    rank_zero_only(print)(run(config))


if __name__ == "__main__":
    main()
