"""Table mtp-cost at its smallest: measured, and relative to one head of the same repeat."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from beyond_ce.benchmarks.mtp_cost import main
from beyond_ce.configuration import compose
from beyond_ce.reporting.tables import read_reports
from beyond_ce.reproduction.measurement import measure
from beyond_ce.reproduction.measurements.decoding_cost import forward
from beyond_ce.reproduction.measurements.random_models import random_decoder, random_prompts
from beyond_ce.reproduction.plan import plan
from beyond_ce.reproduction.write import write


def test_every_model_and_repeat_has_its_report(tmp_path: Path) -> None:
    made = plan("mtp-cost", "smoke", overrides=[f"results_dir={tmp_path}"])
    measure(made)
    assert not made.missing()
    reports = read_reports(list(made.configs), made.folder)
    assert {job.row for job in reports} == {"1M", "1M, linear heads"}
    for report in reports.values():
        found = report["metrics"]
        names = [f"cost/b{batch}_k{k}" for batch in (1, 8) for k in (1, 2, 3, 4)]
        assert set(names) < set(found)
        assert found["cost/b1_k1"] == found["cost/b8_k1"] == 1.0
        assert all(math.isfinite(each) and each > 0 for each in found.values())
        assert (report["steps"], report["samples"]) == (2, 18)
    assert "| 1M, linear heads " in write(made)["md"].read_text()


def test_a_forward_is_the_same_each_time() -> None:
    """It neither moves on nor fills the cache, which has room for the prompt and 2 k tokens."""
    model = random_decoder(compose(["model=decoder_1m", "head=multi_token"]), 30)
    step = forward(model, random_prompts(30, 2, 5), 3)
    for _ in range(4):
        step()


@pytest.mark.slow
def test_the_benchmark_prints_means_and_intervals() -> None:
    figures = main(["--scale", "smoke", "--repeats", "2"])
    assert figures["rows"]["1M"]["cost/b8_k4"]["n"] == 2
