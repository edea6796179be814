import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sympy

from beyond_ce.data import Arithmetic, Mathematics
from beyond_ce.data.deepmind_generator import pairs

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "deepmind_generator.json").read_text())
CASES = FIXTURE["cases"]
COMPOSED = ("train-easy", "numbers__div_remainder_composed")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['regime']}/{case['module']}")
def test_generates_what_the_unmodified_package_generates_in_its_own_environment(case):
    got = [list(pair) for pair in pairs(case["regime"], case["module"], 40, case["seed"])]
    assert got[: len(case["pairs"])] == case["pairs"]
    assert hashlib.sha256(json.dumps(got).encode()).hexdigest() == case["sha256"]


def test_the_fixture_covers_every_module_in_use():
    covered = {(case["regime"], case["module"]) for case in CASES}
    for data in (Mathematics, Arithmetic):
        for name in data.categories:
            regimes = ("train-easy", "train-medium", "train-hard", "interpolate")
            assert covered >= {(regime, name) for regime in regimes}
        assert covered >= {("extrapolate", name) for name in data.extrapolation}
    assert FIXTURE["count"] == 40
    assert FIXTURE["made_with"]["sympy"] == "1.5.1"


def test_questions_without_variables_needed_no_holding_still_in_the_fixture():
    for case in CASES:
        if case["module"].startswith(("arithmetic", "numbers")):
            assert case["as_installed"] == ("composed" not in case["module"])


def _pairs_in_a_new_process(hash_seed: str) -> list:
    request = json.dumps([*COMPOSED, 20, 7]) + "\n"
    command = [sys.executable, "-m", "beyond_ce.data.deepmind_generator"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        command, input=request, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_pairs_depend_on_nothing_but_the_seed():
    here = [list(pair) for pair in pairs(*COMPOSED, 20, 7)]
    assert _pairs_in_a_new_process("1") == _pairs_in_a_new_process("2") == here
    assert pairs(*COMPOSED, 20, 8) != here


def test_factors_come_in_the_same_order_whatever_was_factored_before():
    number = 2 * 10177 * 10861 * 1000003
    from beyond_ce.data.deepmind_generator import arithmetic

    first = list(arithmetic.sympy.factorint(number))
    sympy.factorint(10861 * 1000003)
    sympy.factorint(number)
    assert list(arithmetic.sympy.factorint(number)) == first


def test_leaves_global_random_states_numpy_and_sympy_alone():
    random.seed(1)
    np.random.seed(1)
    pairs("interpolate", "arithmetic__mul", 3, 0)
    after = random.random(), np.random.rand()
    random.seed(1)
    np.random.seed(1)
    assert after == (random.random(), np.random.rand())
    assert "object" not in vars(np)
    assert not hasattr(sys.modules["sympy.solvers.diophantine"], "base_solution_linear")
    assert sympy.gcd(sympy.Rational(1, 2), sympy.Rational(3, 4)) == sympy.Rational(1, 4)
