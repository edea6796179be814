"""Scripts called in this process: a process of their own takes seconds to import torch."""

from __future__ import annotations

import io
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., CompletedProcess[str]]:
    """`call("evaluate.py", *arguments)` gives what the script prints and its exit code.

    Not for scripts that Hydra starts, which leaves its logging behind.
    """

    def run(name: str, *arguments: object, stdin: bytes = b"") -> CompletedProcess[str]:
        path = SCRIPTS / name
        command = [str(path), *map(str, arguments)]
        main = runpy.run_path(str(path))["main"]
        monkeypatch.setattr(sys, "argv", command)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            assert isinstance(end.code, int)
            code = end.code
        return CompletedProcess(command, code, *capfd.readouterr())

    return run
