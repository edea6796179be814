"""Generate or read a data set before the runs that need it, e.g. with dataset=mathematics.

A corpus, such as dataset=python_source, is tokenized as well, with the tokenizer= of those runs.
"""

from contextlib import nullcontext

import hydra
from omegaconf import DictConfig

from beyond_ce.configuration import build, one_line_errors, single_job


@hydra.main(config_path="../conf", config_name="train", version_base="1.3")
def main(config: DictConfig) -> None:
    with one_line_errors() if single_job() else nullcontext():
        from beyond_ce.data import Corpus  # slow to import: --help and config errors come first

        data = build(config.dataset, "dataset")
        corpus = isinstance(data, Corpus)
        for split, examples in data.load().items():
            print(f"{split}: {len(examples)} {'documents' if corpus else 'examples'}")
        if corpus:
            from beyond_ce.runs.preparation import prepare

            prepared = prepare(config)
            for split, tokens in (("train", prepared.train), ("validation", prepared.validation)):
                print(f"{split}: {len(tokens.tokens)} tokens, {len(tokens)} rows")


if __name__ == "__main__":
    with one_line_errors():
        main()
