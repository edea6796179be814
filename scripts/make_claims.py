"""Judge the papers' claims on the reports that exist, and write results/claims.md and .csv.

    python scripts/make_claims.py

Nothing is run: make the tables first. For each claim that is undecided it prints how many seeds it
would take; `reproduce_table.py <table> --seeds auto` runs them.
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
    args = parser.parse_args()

    from beyond_ce.reproduction.write import write_claims

    path, undecided = write_claims(args.results)
    print("\n".join([*undecided, str(path)]))


if __name__ == "__main__":
    main()
