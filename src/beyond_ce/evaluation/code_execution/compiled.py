"""Tests as the process that runs them reads them: compiled once, for any number of programs."""

from __future__ import annotations

import ast
import builtins
import functools
import hashlib
import marshal
import sys
from dataclasses import dataclass

from beyond_ce.errors import UsageError, one_line

_FILE = "<tests>"


@dataclass(frozen=True)
class Compiled:
    """Tests for the process that runs them.

    Attributes:
        name: a digest of the content.
        content: source and code, with the names that they take from a program.
    """

    name: str
    content: bytes


@functools.lru_cache(maxsize=256)
def compiled(source: str, entry_point: str | None) -> Compiled:
    """The tests in the form that their process reads.

    Names that the tests do not define are the program's, as when both are one file, with two
    exceptions that keep a program from replacing what decides: a name that is only used as a
    module, as `math` in `math.isclose`, is the standard library's, and builtins stay (unless the
    tests take nothing else from the program: then the function to test is named as a builtin).

    Raises:
        UsageError: the source is no Python.
    """
    try:
        tree = ast.parse(source, _FILE)
        code = compile(tree, _FILE, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(
            f"the tests of a problem are no Python ({one_line(error)}): leave it out"
        ) from error
    content = marshal.dumps((source, code, *map(sorted, _names(tree, entry_point))))
    return Compiled(hashlib.sha256(content).hexdigest(), content)


def _names(tests: ast.Module, entry_point: str | None) -> tuple[set[str], set[str]]:
    """The names of the program's own that the tests use, and of modules."""
    nodes = list(ast.walk(tests))
    loaded = [n for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    bases = {id(n.value) for n in nodes if isinstance(n, ast.Attribute)}
    used = {n.id for n in loaded if id(n) not in bases}
    modules = ({n.id for n in loaded} - used) & sys.stdlib_module_names
    own = {n.id for n in loaded} - modules - vars(builtins).keys()
    defined = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    defined |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    defined |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    if not own - defined:
        own = used
    return own | ({entry_point} if entry_point else set()), modules
