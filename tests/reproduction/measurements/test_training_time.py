"""Table mtp-s5 at its smallest: measured, and relative to one head of the same repeat."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from beyond_ce.benchmarks.mtp_runtime import main
from beyond_ce.configuration import compose
from beyond_ce.reporting.tables import read_reports
from beyond_ce.reproduction.measurement import measure
from beyond_ce.reproduction.measurements.random_models import decoder_flops
from beyond_ce.reproduction.plan import plan
from beyond_ce.reproduction.write import write


def test_every_size_and_repeat_has_its_report(tmp_path: Path) -> None:
    made = plan("mtp-s5", "smoke", overrides=[f"results_dir={tmp_path}"])
    measure(made)
    assert not made.missing()
    reports = read_reports(list(made.configs), made.folder)
    assert [(job.row, job.seed) for job in reports] == [("1M", 0), ("1M", 1)]
    for report in reports.values():
        found = report["metrics"]
        assert found["time/n1"] == found["time/n1_flops"] == 1.0
        assert 1.0 < found["time/n2_flops"] < found["time/n4_flops"]
        assert all(math.isfinite(each) and each > 0 for each in found.values())
        assert (report["steps"], report["samples"], report["threads"]) == (2, 4, 1)
    text = write(made)["md"].read_text()
    assert "| 13B " in text and "1.09" in text


def test_larger_models_pay_less() -> None:
    """In operations, with 32,000 tokens; in the paper 1.22 and 1.09 of the time."""
    ratios = []
    for size in ("0_3b", "13b"):
        config = compose([f"model=decoder_{size}", "head=multi_token"])
        one, four = (decoder_flops(config, n, 32000, (1, 4096)) for n in (1, 4))
        ratios.append(four / one)
    assert ratios == pytest.approx([1.237, 1.034], abs=0.001)


@pytest.mark.slow
def test_the_benchmark_prints_means_and_intervals() -> None:
    figures = main(["--scale", "smoke", "--repeats", "2"])
    assert figures["rows"]["1M"]["time/n4"]["n"] == 2
