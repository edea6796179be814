"""Train a tokenizer on text files and save it in a folder.

    python scripts/train_tokenizer.py questions.txt out/ --tokenizer subword --vocab-size 2048
    python scripts/train_tokenizer.py src/ notes.md out/ --tokenizer sentencepiece --files "*.py"

`Tokenizer.load` reads the folder. Experiments can use a tokenizer trained with --tokenizer
sentencepiece, as tokenizer=sentencepiece tokenizer.model=out/.
"""

import argparse
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from tqdm import tqdm

from beyond_ce.command_line import command
from beyond_ce.errors import UsageError, check_no_device

KINDS = {
    "digit": "DigitTokenizer",
    "subword": "SubwordTokenizer",
    "sentencepiece": "BPETokenizer",
}


def find_files(paths: Iterable[Path], pattern: str) -> list[Path]:
    """All given files, and the files below given folders whose name matches the pattern."""
    files: list[Path] = []
    for path in paths:
        check_no_device(path)
        if not path.is_dir():
            files.append(path)
            continue
        below = sorted(p for p in path.rglob("*") if fnmatch(p.name, pattern) and p.is_file())
        if not below:
            raise UsageError(f"no file in {path} matches --files {pattern}: give another pattern")
        files += below
    return files


def read(files: Iterable[Path], documents: bool, bar: tqdm) -> Iterator[str]:
    """The texts of the files; the bar counts their bytes."""
    for path in files:
        try:
            with path.open(encoding="utf-8", newline="" if documents else None) as file:
                for text in [file.read()] if documents else file:
                    yield text if documents else text.rstrip("\n")
            bar.update(path.stat().st_size)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {path} as UTF-8 text: {error}") from error
    bar.set_description("learning")


@command()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "texts", type=Path, nargs="+", help="UTF-8 text files, or folders of them at any depth"
    )
    parser.add_argument("folder", type=Path, help="where the tokenizer goes")
    parser.add_argument(
        "--tokenizer",
        choices=KINDS,
        default="digit",
        help="digit: every digit a token (default); subword: pieces of words and of numbers; "
        "sentencepiece: as Llama's, for code and prose",
    )
    parser.add_argument(
        "--vocab-size",
        type=int,
        default=1024,
        help="at most so many tokens, including 259 for bytes and special tokens; default: 1024",
    )
    parser.add_argument(
        "--files",
        metavar="PATTERN",
        default="*",
        help='names of the files to read in folders, such as "*.py"',
    )
    parser.add_argument(
        "--documents",
        action="store_true",
        help="a text is a whole file, not a line of one; sentencepiece ignores this, as it learns "
        "from lines",
    )
    args = parser.parse_args()
    # Imported late, so that --help and wrong arguments do not wait for torch.
    from beyond_ce import tokenizers

    files = find_files(args.texts, args.files)
    size = sum(path.stat().st_size for path in files if path.is_file())
    tokenizer = getattr(tokenizers, KINDS[args.tokenizer])(vocab_size=args.vocab_size)
    with tqdm(desc="reading", total=size, unit="B", unit_scale=True, disable=None) as bar:
        tokenizer.train(read(files, args.documents, bar))
    tokenizer.save(args.folder)
    print(f"{tokenizer.vocab_size} tokens in {args.folder}")


if __name__ == "__main__":
    main()
