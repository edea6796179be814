"""Generate or read a data set before the runs that need it, e.g. with dataset=mathematics."""

from contextlib import nullcontext

import hydra
from omegaconf import DictConfig

from beyond_ce.configuration import build, one_line_errors, single_job


@hydra.main(config_path="../conf", config_name="train", version_base="1.3")
def main(config: DictConfig) -> None:
    with one_line_errors() if single_job() else nullcontext():
        data = build(config.dataset, "dataset")
        for split, examples in data.load().items():
            print(f"{split}: {len(examples)} examples")


if __name__ == "__main__":
    with one_line_errors():
        main()
