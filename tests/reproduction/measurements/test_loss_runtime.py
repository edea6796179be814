"""Table ntl-runtime at its smallest: measured, taken up again, rebuilt from reports alone."""

from __future__ import annotations

import importlib.util
import math
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from beyond_ce.benchmarks.ntl_runtime import PackageWasserstein, TorchCrossEntropy, main
from beyond_ce.configuration import CONF_DIR, build, compose
from beyond_ce.errors import UsageError
from beyond_ce.losses import CrossEntropy, WassersteinLoss
from beyond_ce.reporting.numbers import cells, tabulate
from beyond_ce.reporting.tables import load_table, read_reports
from beyond_ce.reproduction.measurement import measure
from beyond_ce.reproduction.measurements import loss_runtime
from beyond_ce.reproduction.measurements.loss_runtime import Runtime
from beyond_ce.reproduction.measurements.random_models import digit_values, random_labels
from beyond_ce.reproduction.plan import plan
from beyond_ce.reproduction.write import write
from beyond_ce.runs.identity import run_hash
from beyond_ce.runs.store import is_done, read_report

PARTS = ("loss", "forward", "step")
SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runtime") / "results"
    measure(plan("ntl-runtime", "smoke", overrides=[f"results_dir={folder}"]))
    return folder


@pytest.fixture
def planned(results: Path):
    return plan("ntl-runtime", "smoke", overrides=[f"results_dir={results}"])


def test_every_row_and_repeat_has_its_report(planned) -> None:
    reports = read_reports(list(planned.configs), planned.folder)
    assert len(reports) == len(planned.configs) == 6 * 2
    for job, report in reports.items():
        found = report["metrics"]
        assert set(found) == {
            f"{part}/{name}" for part in PARTS for name in ("milliseconds", "slowdown", "to_torch")
        }
        assert all(math.isfinite(value) and value > 0 for value in found.values())
        assert (report["seed"], report["threads"], report["steps"]) == (job.seed, 1, 2)
        assert {"commit", "hardware", "versions", "config", "wall_clock_s"} <= set(report)


def test_ratios_are_those_of_one_repeat(planned) -> None:
    reports = read_reports(list(planned.configs), planned.folder)
    by_row = {(job.row, job.seed): report["metrics"] for job, report in reports.items()}
    for (row, seed), found in by_row.items():
        for part in PARTS:
            for name, reference in (("slowdown", "CE"), ("to_torch", "CE, torch")):
                base = by_row[reference, seed][f"{part}/milliseconds"]
                ratio = found[f"{part}/milliseconds"] / base
                assert found[f"{part}/{name}"] == pytest.approx(ratio), row


def test_a_measurement_and_a_training_run_are_told_apart(planned) -> None:
    job = next(iter(planned.configs))
    config = planned.configs[job]
    assert run_hash(compose(job.overrides)) != run_hash(config)
    elsewhere = plan("ntl-runtime", "smoke", overrides=["results_dir=/elsewhere"])
    assert {elsewhere.folder(j).name for j in elsewhere.configs} == {
        planned.folder(j).name for j in planned.configs
    }


def test_only_repeats_that_lack_a_row_are_measured_again(planned) -> None:
    folders = {(job.row, job.seed): planned.folder(job) for job in planned.configs}
    before = {key: read_report(folder)["metrics"] for key, folder in folders.items()}
    measure(planned)
    assert {key: read_report(folder)["metrics"] for key, folder in folders.items()} == before
    (folders["NTL-WAS", 1] / "DONE").unlink()
    measure(planned)
    for key, folder in folders.items():
        assert is_done(folder)
        assert (read_report(folder)["metrics"] == before[key]) == (key[1] == 0)


def test_the_table_is_rebuilt_from_reports_alone(results: Path, planned, tmp_path: Path) -> None:
    """As from a clone, where a run's folder holds nothing but its report."""
    made = write(planned)["csv"].read_text()
    elsewhere = plan("ntl-runtime", "smoke", overrides=[f"results_dir={tmp_path}"])
    for job in planned.configs:
        elsewhere_folder = tmp_path / "runs" / planned.folder(job).name
        elsewhere_folder.mkdir(parents=True)
        report = (planned.folder(job) / "report.json").read_text()
        (elsewhere_folder / "report.json").write_text(report)
    paths = write(elsewhere)
    assert paths["csv"].read_text() == made
    text = paths["md"].read_text()
    assert "## Loss" in text and "## Forward" in text and "## Step" in text
    assert "8.958" in text and "25.680" in text  # the paper's


def test_slowdown_has_a_mean_and_an_interval(planned) -> None:
    reports = read_reports(list(planned.configs), planned.folder)
    found = cells(tabulate(planned.table, reports))
    for part in PARTS:
        assert found["CE", f"{part}/slowdown"].ours.mean == 1
        slowdown = found["NTL-WAS", f"{part}/slowdown"].ours
        more = found["NTL-WAS", f"{part}/slowdown_minus_baseline"].ours
        assert slowdown.low < slowdown.mean < slowdown.high
        assert more.mean == pytest.approx(slowdown.mean - 1)
    assert found["NTL-MSE", "loss/milliseconds"].paper == 9.178
    assert math.isnan(found["NTL-MSE", "step/milliseconds"].paper)


def test_medians_and_ratios_by_hand() -> None:
    runtime = Runtime([1, 1], [1, 1], 512, 3, {"slowdown": "a"})
    seconds = {"loss": defaultdict(list, {"a": [0.002, 0.004, 0.9], "b": [0.005, 0.006, 0.001]})}
    assert runtime._metrics(seconds, "b") == pytest.approx(
        {"loss/milliseconds": 5.0, "loss/slowdown": 1.25}
    )
    assert runtime._metrics(seconds, "not installed") == {}


def test_rows_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime, calls = Runtime([1, 1], [1, 1], 512, 1, {}), []
    steps = {row: lambda row=row: calls.append(row) for row in "abc"}
    runtime._repeat({"loss": steps}, 4, random.Random(0), torch.device("cpu"))
    turns = [calls[i : i + 3] for i in range(0, 12, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1


def test_a_package_that_is_not_installed_leaves_its_row_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = OmegaConf.create({"_target_": "beyond_ce.benchmarks.ntl_runtime.PackageWasserstein"})
    monkeypatch.setitem(sys.modules, "ntloss", None)
    assert loss_runtime._loss(node, digit_values(512)) is None
    node._target_ = "beyond_ce.benchmarks.ntl_runtime.Nothing"
    with pytest.raises(InstantiationException):
        loss_runtime._loss(node, digit_values(512))


@pytest.mark.parametrize("peer", [TorchCrossEntropy, PackageWasserstein])
def test_peers_compute_what_ours_do(peer: type) -> None:
    if peer is PackageWasserstein and importlib.util.find_spec("ntloss") is None:
        pytest.skip("ntloss is not installed")
    values, labels = digit_values(512), random_labels((2, 8), 512)
    ours = (CrossEntropy if peer is TorchCrossEntropy else WassersteinLoss)(values)
    hidden, unembedding = torch.randn(2, 8, 4), torch.randn(512, 4)
    expected = ours.from_hidden(hidden, unembedding, labels).total
    torch.testing.assert_close(
        peer(values).from_hidden(hidden, unembedding, labels).total, expected
    )


def test_the_scales_agree_and_compose() -> None:
    table = load_table(CONF_DIR / "table" / "ntl-runtime.yaml")
    assert set(table.measure) == set(table.seeds)
    for scale in table.seeds:
        made = plan("ntl-runtime", scale, [0])
        runtime = build(next(iter(made.configs.values())).measure, "measure")
        assert set(runtime.ratios.values()) <= {row.label for row in table.rows}


def test_a_scale_without_a_measurement_is_refused(tmp_path: Path) -> None:
    text = (CONF_DIR / "table" / "ntl-runtime.yaml").read_text()
    (tmp_path / "ntl-runtime.yaml").write_text(text.replace("  paper: *gpu\n", ""))
    with pytest.raises(UsageError, match="measure"):
        load_table(tmp_path / "ntl-runtime.yaml")


def test_the_benchmark_prints_means_and_intervals() -> None:
    figures = main(["--scale", "smoke", "--repeats", "2"])
    assert figures.keys() >= {"rows", "threads", "repeats", "hardware", "commit", "versions"}
    slowdown = figures["rows"]["NTL-WAS"]["step/slowdown"]
    assert slowdown["low"] < slowdown["mean"] < slowdown["high"] and slowdown["n"] == 2


@pytest.mark.slow
def test_the_script_measures_and_prints(tmp_path: Path) -> None:
    where = f"results_dir={tmp_path}"
    command = [sys.executable, SCRIPTS / "reproduce_table.py", "ntl-runtime", "--scale", "smoke"]
    done = subprocess.run([*command, where], capture_output=True, text=True, check=True)
    assert "What a number token loss costs" in done.stdout
    assert len(list((tmp_path / "runs").iterdir())) == 12
    # Two repeats of two iterations scatter so much that the cap ends the second stage.
    more = [*command, where, "--seeds", "auto", "--max-seeds", "3"]
    done = subprocess.run(more, capture_output=True, text=True, check=True)
    assert "ntl-runtime: stopping at 3 seeds a row" in done.stdout
    assert "seeds [0, 1] and, as a second stage of those rows that have them, [2]" in done.stdout
    assert len(list((tmp_path / "runs").iterdir())) == 18
