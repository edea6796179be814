"""DeepMind's own generator of mathematics questions, on today's Python, numpy and sympy.

The package `mathematics_dataset` 1.0.1 (Saxton et al. 2019, arXiv 1904.01557) dates from numpy 1.14
and sympy 1.2. Nothing of it is edited or copied: the names it looks up in its own modules are
replaced in those modules only, so numpy, sympy and `random` stay as they are for everybody else.

Bridged, because it no longer runs:
- `sympy.solvers.diophantine` lost `base_solution_linear` in sympy 1.6 (it moved one module down);
- `numpy.object` went in numpy 1.24 and `ndarray.itemset` in numpy 2;
- `random.randint` takes no floats from Python 3.12 on, and `round_number` passes whole floats;
- `absl` flags can be read only after `absl.app` parsed a command line, and there is none here.

Pinned, because it differs from one process to the next:
- names of variables and the order of sentences follow the order of sets of strings (hash seed) and
  of objects (addresses): sets in `composition` keep the order of insertion instead;
- `sympy.factorint` returns its factors in an order that depends on the numbers factored before (a
  cache, new in sympy 1.13), and the generator draws in that order: each call starts without cache.

Made faster, with the same result: `sympy.gcd` of two integers goes through polynomials and took
half of all time; `math.gcd` takes none.

Run as `python -m beyond_ce.data.deepmind_generator` this module is a worker process: it reads one
request `[regime, module, count, seed]` per line of standard input and answers each with one line
`[[question, answer], ...]`, both JSON.
"""

from __future__ import annotations

import importlib
import json
import math
import random
import signal
import string
import sys
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import sympy
from sympy.solvers.diophantine.diophantine import base_solution_linear

# `sympy.solvers.diophantine` as an attribute is a function of that name, hence import_module.
_diophantine = importlib.import_module("sympy.solvers.diophantine")
_diophantine.base_solution_linear = base_solution_linear  # type: ignore[attr-defined]
try:
    from mathematics_dataset import generate
    from mathematics_dataset.modules import modules, numbers
    from mathematics_dataset.sample import arithmetic, number, polynomials
    from mathematics_dataset.util import composition, display
finally:
    del _diophantine.base_solution_linear  # type: ignore[attr-defined]


class _Patched:
    """A module seen with some of its names replaced."""

    def __init__(self, module: ModuleType, **replacements: Any) -> None:
        self._module = module
        self.__dict__.update(replacements)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Array(np.ndarray):
    """An array that still has `itemset`."""

    def itemset(self, index: Any, value: Any) -> None:
        self[index] = value


class _OrderedSet(dict):
    """The part of `set` that `composition` uses, iterating in order of insertion."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__(dict.fromkeys(items))

    def add(self, item: Any) -> None:
        self[item] = None

    def copy(self) -> _OrderedSet:
        return _OrderedSet(self)

    def union(self, other: Iterable[Any]) -> _OrderedSet:
        return _OrderedSet([*self, *other])

    def difference(self, other: Iterable[Any]) -> _OrderedSet:
        return _OrderedSet(item for item in self if item not in other)


def _factorint(n: Any) -> dict[int, int]:
    sympy.factor_cache.cache_clear()
    return sympy.factorint(n)


def _zeros(shape: Any, dtype: Any = float) -> _Array:
    return np.zeros(shape, dtype).view(_Array)


def _empty(shape: Any, dtype: Any = float) -> _Array:
    return np.empty(shape, dtype).view(_Array)


def _randint(low: float, high: float) -> int:
    return random.randint(int(low), int(high))


polynomials.np = _Patched(np, object=object, zeros=_zeros, empty=_empty)
numbers.random = _Patched(random, randint=_randint)
generate.FLAGS = SimpleNamespace(show_dropped=False)
composition.set = _OrderedSet
composition._ALLOWED_SYMBOLS = _OrderedSet(sorted(set(string.ascii_lowercase) - {"e"}))
number.sympy = _Patched(sympy, factorint=_factorint, gcd=math.gcd)
for _user_of_factorint in (arithmetic, polynomials, numbers, display):
    _user_of_factorint.sympy = _Patched(sympy, factorint=_factorint)

_REGIMES: dict[str, dict[str, dict[str, Callable[[], Any]]]] = {
    "train-easy": modules.train(generate._make_entropy_fn(0, 3)),
    "train-medium": modules.train(generate._make_entropy_fn(1, 3)),
    "train-hard": modules.train(generate._make_entropy_fn(2, 3)),
    "interpolate": modules.test(),
    "extrapolate": modules.test_extra(),
}


def pairs(
    regime: str, module: str, count: int, seed: int, operations: Sequence[int] | None = None
) -> list[tuple[str, str]]:
    """The first `count` (question, answer) pairs of a module, e.g. "arithmetic__mul", at a seed.

    Args:
        regime: "train-easy", "train-medium", "train-hard", "interpolate" or "extrapolate".
        seed: in [0, 2**32). The generator draws from the global states of `random` and of
            `numpy.random`; both are seeded, and put back afterwards.
        operations: the least and the most operations of an expression, uniform between them, for
            a module that takes a length; None leaves the number to the generator.
    """
    area, name = module.split("__")
    sample = _REGIMES[regime][area][name]
    if operations is not None:
        sample = _with_length(sample, *operations)
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        problems = (generate.sample_from_module(sample)[0] for _ in range(count))
        return [(str(problem.question), str(problem.answer)) for problem in problems]
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _with_length(sample: Callable[..., Any], low: int, high: int) -> Callable[[], Any]:
    return lambda: sample(length=random.randint(low, high))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    for request in sys.stdin:
        print(json.dumps(pairs(*json.loads(request))), flush=True)
