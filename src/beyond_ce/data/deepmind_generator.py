"""DeepMind's own generator of mathematics questions, patched for today's Python, numpy and sympy.

The package `mathematics_dataset` 1.0.1 (Saxton et al. 2019, arXiv 1904.01557) dates from numpy 1.14
and sympy 1.2. We neither edit nor copy it. We patch names in its own modules only, so numpy, sympy
and `random` stay as they are for all other code.

Patched because it no longer runs:
- `sympy.solvers.diophantine` lost `base_solution_linear` in sympy 1.6 (it moved to a submodule);
- numpy 1.24 removed `numpy.object`, numpy 2 removed `ndarray.itemset`;
- `random.randint` refuses floats since Python 3.12, and `round_number` passes whole floats;
- `absl` flags can be read only after `absl.app` has parsed a command line, which is not done here.

Patched because results differ between processes:
- variable names and the order of sentences follow the iteration order of sets of strings (hash
  seed) and of objects (addresses): sets in `composition` keep their insertion order instead;
- `sympy.factorint` returns its factors in an order that depends on earlier calls (a cache, new in
  sympy 1.13), and the generator draws in that order: we clear the cache before each call.

Patched for speed, with the same result: `sympy.gcd` of two integers goes through polynomials and
took half of the total time; `math.gcd` takes almost none.

Run as `python -m beyond_ce.data.deepmind_generator`, this module is a worker process: it reads one
JSON request `[regime, module, count, seed, operations]` per line of standard input and answers with
one JSON line `[[question, answer], ...]`.
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

# import_module, because the attribute `sympy.solvers.diophantine` is a function of the same name.
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
    """A view of a module with some names replaced."""

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
for _module in (arithmetic, polynomials, numbers, display):
    _module.sympy = _Patched(sympy, factorint=_factorint)

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
        seed: in [0, 2**32). The generator draws from the global states of `random` and
            `numpy.random`: both are seeded here and restored afterwards.
        operations: minimum and maximum number of operations in an expression, drawn uniformly, for
            modules that take a length; None keeps the generator's own lengths.
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent process ends this one
    for request in sys.stdin:
        print(json.dumps(pairs(*json.loads(request))), flush=True)
