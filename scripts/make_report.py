"""Write results/report/index.html: claims, tables, figures and runs as a site to look at.

    python scripts/make_report.py

Open it with a browser; it needs no server and no network. Nothing is run: make the tables first.
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

    from beyond_ce.reproduction.report import write_report_site

    print(write_report_site(args.results))


if __name__ == "__main__":
    main()
