"""Measure speed and memory: `python scripts/benchmark.py <target> [options]`.

Progress goes to stderr; the last line of stdout is one JSON object.
"""

import importlib
import json
import pkgutil
import sys

import beyond_ce.benchmarks
from beyond_ce.command_line import command
from beyond_ce.errors import UsageError


@command()
def main() -> None:
    targets = [module.name for module in pkgutil.iter_modules(beyond_ce.benchmarks.__path__)]
    target, *args = sys.argv[1:] or ["--help"]
    if target in ("-h", "--help"):
        print(f"{__doc__}\nTargets: {', '.join(targets)}; options: <target> --help")
        return
    if target not in targets:
        raise UsageError(f"no benchmark {target!r}: choose one of {', '.join(targets)}")
    module = importlib.import_module(f"beyond_ce.benchmarks.{target}")
    print(json.dumps(module.main(args)))


if __name__ == "__main__":
    main()
