"""Every command that README.md shows exists: make targets, scripts, and configs that compose."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from beyond_ce.configuration import compose

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command(command: list[str]) -> None:
    if command[0] == "make":
        subprocess.run(["make", "--dry-run", *command[1:]], cwd=ROOT, check=True)
        return
    program, script, *arguments = command
    assert program == "python" and (ROOT / script).exists()
    if script.endswith("train.py"):
        # The first value of each sweep; launchers are Hydra's own and are tested elsewhere.
        overrides = [a.split(",")[0] for a in arguments if "=" in a and "hydra/" not in a]
        compose(overrides)


def test_the_table_map_lists_every_table() -> None:
    for path in (ROOT / "conf/table").glob("*.yaml"):
        assert f"| `{path.stem}` |" in README


def test_relative_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
