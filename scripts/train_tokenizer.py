"""Train a tokenizer on a text file, one text a line, and save it in a folder.

    python scripts/train_tokenizer.py questions.txt out/ --tokenizer subword --vocab-size 2048

`Tokenizer.load` reads the folder.
"""

import argparse
from pathlib import Path

from beyond_ce.configuration import one_line_errors
from beyond_ce.errors import UsageError


def main() -> None:
    from beyond_ce.tokenizers import DigitTokenizer, SubwordTokenizer

    kinds = {"digit": DigitTokenizer, "subword": SubwordTokenizer}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", type=Path, help="UTF-8 text file")
    parser.add_argument("folder", type=Path, help="where the tokenizer goes")
    parser.add_argument("--tokenizer", choices=kinds, default="digit")
    parser.add_argument("--vocab-size", type=int, default=1024, help="at most; default: 1024")
    args = parser.parse_args()
    tokenizer = kinds[args.tokenizer](vocab_size=args.vocab_size)
    try:
        with args.texts.open(encoding="utf-8") as lines:
            tokenizer.train(line.rstrip("\n") for line in lines)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {args.texts}: {error}") from error
    tokenizer.save(args.folder)
    print(f"{tokenizer.vocab_size} tokens in {args.folder}")


if __name__ == "__main__":
    with one_line_errors():
        main()
