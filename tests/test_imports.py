"""No module imports itself by a detour: the packages stand in an order."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import beyond_ce

ROOT = Path(beyond_ce.__file__).parent

# Imports inside of functions that run up the order, with the reason in the module itself.
DEFERRED = {("beyond_ce.models", "beyond_ce.checkpoints")}


def modules() -> dict[str, Path]:
    """Dotted name -> file; a package by its own name."""
    names = {}
    for path in ROOT.rglob("*.py"):
        parts = ("beyond_ce", *path.relative_to(ROOT).with_suffix("").parts)
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


MODULES = modules()


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """All imports below `node`, in functions as well, except those for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for other in child.orelse:
                yield from statements(ast.Module([other], []))
        elif isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        else:
            yield from statements(child)


def imported(module: str, tree: ast.AST) -> set[str]:
    """The modules of ours that `module` imports, and the packages that are run for them.

    The packages around `module` itself are left out: they are being imported already.
    """
    named = set()
    for node in statements(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                named.add(whole if whole in MODULES else str(node.module))
        elif isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
    ours = {name for name in named if name in MODULES}
    around = {package for name in ours for package in packages_of(name)}
    return (ours | around - set(packages_of(module))) - {module}


def packages_of(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def graph() -> dict[str, set[str]]:
    """Module -> what it imports."""
    return {
        module: {
            name
            for name in imported(module, ast.parse(path.read_text()))
            if (module, name) not in DEFERRED
        }
        for module, path in MODULES.items()
    }


def order() -> dict[str, int]:
    """Package or top module -> its place on the way that CONTRIBUTING.md tells."""
    text = (ROOT.parents[1] / "CONTRIBUTING.md").read_text()
    way = re.search(r"One way through the packages\*\*: `([^`]*)`", text)
    assert way is not None
    steps = [" ".join(step.split()).split(", ") for step in way[1].split("->")]
    return {name.strip(): place for place, step in enumerate(steps) for name in step}


def test_no_module_imports_a_later_package() -> None:
    place = order()
    assert set(place) == {name.split(".")[1] for name in MODULES if "." in name}
    for module, names in graph().items():
        for name in names - {"beyond_ce"}:
            here, there = module.split(".")[1], name.split(".")[1]
            assert place[there] <= place[here], f"{module} imports {name}, which stands later"


def test_no_module_imports_itself_by_a_detour() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


@pytest.mark.parametrize(("module", "name"), DEFERRED)
def test_a_deferred_import_is_still_there(module: str, name: str) -> None:
    assert name in imported(module, ast.parse(MODULES[module].read_text()))


def test_imports_are_found_where_they_stand() -> None:
    tree = ast.parse(
        "import os\n"
        "from beyond_ce import errors\n"
        "if TYPE_CHECKING:\n"
        "    from beyond_ce.losses import Loss\n"
        "else:\n"
        "    import beyond_ce.configuration\n"
        "def f():\n"
        "    from beyond_ce.models.heads import Head\n"
    )
    assert imported("beyond_ce.batches.batch", tree) == {
        "beyond_ce.errors",
        "beyond_ce.configuration",
        "beyond_ce.models",
        "beyond_ce.models.heads",
    }
