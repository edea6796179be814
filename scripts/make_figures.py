"""Draw the figures of results/figures from the tables and reports that exist.

    python scripts/make_figures.py

Nothing is run: make the tables first.
"""

import argparse
from pathlib import Path

from beyond_ce.command_line import command


@command()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: results")
    parser.add_argument("--scale", default="cpu", help="cpu (default), gpu or paper")
    args = parser.parse_args()

    from beyond_ce.reproduction.figures import write_figures

    for path in write_figures(args.results, args.scale):
        print(path)


if __name__ == "__main__":
    main()
