"""Generate or read a data set before the runs that need it, e.g. with dataset=mathematics.

A corpus, such as dataset=python_source, is tokenized as well: give the tokenizer= of those runs.
"""

from omegaconf import DictConfig

from beyond_ce.command_line import command
from beyond_ce.configuration import build


@command(config="train")
def main(config: DictConfig) -> None:
    from beyond_ce.data import PackedData  # slow to import: --help and config errors come first

    data = build(config.dataset, "dataset")
    corpus = isinstance(data, PackedData)
    for split, examples in data.load().items():
        print(f"{split}: {len(examples)} {'documents' if corpus else 'examples'}")
    if corpus:
        from beyond_ce.runs.preparation import prepare
        from beyond_ce.runs.start import with_source

        prepared = prepare(with_source(config))
        for split, tokens in (("train", prepared.train), ("validation", prepared.validation)):
            print(f"{split}: {len(tokens.tokens)} tokens, {len(tokens)} rows")


if __name__ == "__main__":
    main()
