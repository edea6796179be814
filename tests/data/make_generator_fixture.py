"""Writes fixtures/deepmind_generator.json: what the unmodified package generates in its own time.

    python3.11 -m venv old
    old/bin/pip install mathematics_dataset==1.0.1 'sympy==1.5.1' 'numpy<1.24'
    old/bin/python tests/data/make_generator_fixture.py

The package runs as installed, once as it is and once with two things held still that make its
output differ from one process to the next: the order of its sets (hash seed, addresses), and
sympy 1.5, which shuffles its own work with the `random` that the generator draws from, as often as
its caches happen to ask. What is the same in both runs is marked `as_installed`.
"""

import hashlib
import importlib.util
import json
import os
import random
import string
import subprocess
import sys
import types

CATEGORIES = [
    "algebra__linear_1d",
    "algebra__linear_1d_composed",
    "algebra__linear_2d",
    "algebra__linear_2d_composed",
    "algebra__sequence_next_term",
    "arithmetic__add_or_sub",
    "arithmetic__add_sub_multiple",
    "arithmetic__mul",
    "numbers__div_remainder",
    "numbers__div_remainder_composed",
    "numbers__place_value",
    "numbers__round_number",
    "numbers__round_number_composed",
]
EXTRAPOLATION = [
    "arithmetic__add_or_sub_big",
    "arithmetic__add_sub_multiple_longer",
    "arithmetic__mixed_longer",
    "arithmetic__mul_big",
    "arithmetic__mul_div_multiple_longer",
    "numbers__place_value_big",
    "numbers__round_number_big",
]
SHOWN, COUNT = 5, 40  # pairs kept word for word, and pairs under the digest
FIXTURE = os.path.join(os.path.dirname(__file__), "fixtures", "deepmind_generator.json")


class OrderedSet(dict):
    def __init__(self, items=()):
        super().__init__(dict.fromkeys(items))

    def add(self, item):
        self[item] = None

    def copy(self):
        return OrderedSet(self)

    def union(self, other):
        return OrderedSet([*self, *other])

    def difference(self, other):
        return OrderedSet(item for item in self if item not in other)


def import_sympy_with_its_own_random():
    spec = importlib.util.spec_from_file_location("random", random.__file__)
    own = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own)
    sys.modules["random"] = own
    import sympy.solvers.diophantine
    import sympy.utilities.randtest  # noqa: F401

    sys.modules["random"] = random


def samplers(held_still):
    if held_still:
        import_sympy_with_its_own_random()
    from mathematics_dataset import generate
    from mathematics_dataset.modules import modules
    from mathematics_dataset.util import composition

    generate.FLAGS = types.SimpleNamespace(show_dropped=False)
    if held_still:
        composition.set = OrderedSet
        composition._ALLOWED_SYMBOLS = OrderedSet(sorted(set(string.ascii_lowercase) - {"e"}))
    regimes = {
        f"train-{name}": modules.train(generate._make_entropy_fn(level, 3))
        for level, name in enumerate(["easy", "medium", "hard"])
    }
    regimes.update(interpolate=modules.test(), extrapolate=modules.test_extra())
    for regime, areas in regimes.items():
        for module in EXTRAPOLATION if regime == "extrapolate" else CATEGORIES:
            area, name = module.split("__")
            yield regime, module, lambda f=areas[area][name]: generate.sample_from_module(f)[0]


def main():
    held_still = "--held-still" in sys.argv
    import numpy as np

    cases = []
    for seed, (regime, module, sample) in enumerate(samplers(held_still)):
        random.seed(seed)
        np.random.seed(seed)
        problems = [sample() for _ in range(COUNT)]
        pairs = [[str(problem.question), str(problem.answer)] for problem in problems]
        case = {"regime": regime, "module": module, "seed": seed, "pairs": pairs[:SHOWN]}
        case["sha256"] = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
        cases.append(case)
    if held_still:
        print(json.dumps(cases))
        return

    import sympy

    output = subprocess.check_output([sys.executable, __file__, "--held-still"])
    made_with = {"python": sys.version.split()[0], "numpy": np.__version__}
    made_with.update(sympy=sympy.__version__, mathematics_dataset="1.0.1")
    as_installed = [case["sha256"] for case in cases]
    cases = json.loads(output.decode())
    for case, sha256 in zip(cases, as_installed, strict=True):
        case["as_installed"] = case["sha256"] == sha256
    with open(FIXTURE, "w") as file:
        json.dump({"made_with": made_with, "count": COUNT, "cases": cases}, file, indent=1)
        file.write("\n")
    print(f"{len(cases)} cases, {sum(case['as_installed'] for case in cases)} as installed")


if __name__ == "__main__":
    main()
