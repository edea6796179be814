from __future__ import annotations

import pytest

from beyond_ce.benchmarks.sweep import BAR, main, shares


def test_shares_by_hand() -> None:
    """Two jobs for 10 seconds: of 20, the runs train for 12 and take 15."""
    found = shares([(4.0, 5.0), (4.0, 5.0), (4.0, 5.0)], wall=10.0, jobs=2)
    assert found["outside_training"] == pytest.approx(0.4)
    assert (found["train_s"], found["score_and_build_s"]) == (12.0, 3.0)
    assert found["before_and_between_s"] == 5.0
    # The 8 seconds outside are the bar's share of a table whose three runs train this long.
    longer = found["train_s_for_bar"]
    assert 8.0 / (8.0 + 3 * longer) == pytest.approx(BAR, abs=1e-3)


@pytest.mark.slow
def test_a_small_table() -> None:
    found = main(["--table", "ntl-3", "--seeds", "0", "--jobs", "2"])
    assert found["runs"] == 4
    assert 0 < found["train_s"] < 2 * found["wall_s"]
    assert 0 < found["outside_training"] < 1
    assert found["before_and_between_s"] > 0 and found["score_and_build_s"] > 0
    assert {"versions", "hardware", "commit"} <= found.keys()
