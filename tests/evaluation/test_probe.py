"""The epoch at which a metric first is small: by hand, in a run, and across an interruption."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import datasets
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import FSDPStrategy
from omegaconf import DictConfig

from beyond_ce.configuration import CONF_DIR, build, compose
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import Evaluation, Probe
from beyond_ce.reporting.paper import PAPER_DIR
from beyond_ce.reporting.tables import load_table
from beyond_ce.runs.experiment import run
from beyond_ce.runs.identity import run_folder, run_hash
from beyond_ce.training import Stopped


def make(**changes) -> Probe:
    settings = {
        "every": 10,
        "metric": "mape",
        "thresholds": [0.5, 0.1],
        "splits": None,
        "examples_per_task": 2,
    }
    return Probe(**{**settings, **changes})


RECORDS = [
    {"step": 5, "train/loss": 1.0},
    {"step": 10, "probe/mape@1x1": 0.6, "probe/mape@2x1": 0.9, "probe/other@3x1": 0.0},
    {"step": 20, "probe/mape@1x1": 0.4, "probe/mape@2x1": 0.7},
    {"step": 20, "validation/loss": 1.0},
    {"step": 30, "probe/mape@1x1": 0.55, "probe/mape@2x1": 0.5},
    {"step": 35, "probe/mape@1x1": 0.05, "probe/mape@2x1": 0.3},
    {"step": 35, "validation/loss": 1.0},
]


def test_first_crossings_by_hand() -> None:
    """20 steps are an epoch; 1x1 crosses at 20, rises again at 30, and 2x1 is only at 30, not below
    it; 3x1 never has a number that could be compared."""
    found = make().summary(RECORDS, ["1x1", "2x1", "2x1", "3x1"], steps_per_epoch=20)
    assert found == pytest.approx(
        {
            "probe/epochs_to_0.5@1x1": 1.0,
            "probe/epochs_to_0.5@2x1": 1.75,
            "probe/reached_0.5": 2 / 3,
            "probe/mean_epochs_to_0.5": (1.0 + 1.75 + 1.75) / 3,
            "probe/epochs_to_0.1@1x1": 1.75,
            "probe/reached_0.1": 1 / 3,
            "probe/mean_epochs_to_0.1": 1.75,
        }
    )


def test_the_mean_is_a_lower_bound_until_every_task_is_there() -> None:
    """Training on can only raise it, while the tasks that are there keep their epochs."""
    probe = make(thresholds=[0.5])
    means = []
    for last in (2, 3, 4, 6):
        found = probe.summary(RECORDS[:last], ["1x1", "2x1"], steps_per_epoch=20)
        means.append(found["probe/mean_epochs_to_0.5"])
    assert means == sorted(means)
    assert found["probe/reached_0.5"] == 1


SPLITS = {
    "near": datasets.Dataset.from_dict(
        {
            "prompt": [f"n{i}" for i in range(8)],
            "answer": [str(i) for i in range(8)],
            "task": ["a", "b", "a", "a", "b", "a", "a", "c"],
        }
    ),
    "far": datasets.Dataset.from_dict({"prompt": ["f"], "answer": ["1"], "task": ["d"]}),
}


def test_the_sample_is_spread_over_each_task_of_the_splits() -> None:
    near = make(splits=["near"]).sample(SPLITS, ["near", "far"])
    assert near["prompt"][:] == ["n0", "n6", "n1", "n4", "n7"]
    assert make(examples_per_task=3).sample(SPLITS, ["near", "far"])["prompt"][:] == [
        *("n0", "n3", "n6"),
        *("n1", "n4"),
        "n7",
        "f",
    ]
    with pytest.raises(UsageError, match="no split 'far off'; known: near, far"):
        make(splits=["far off"]).sample(SPLITS, ["near"])


def evaluator(metrics: dict[str, float]) -> Callable[..., Evaluation]:
    return lambda *_: Evaluation(metrics, pd.DataFrame())


def test_measures_each_task_also_where_there_is_one_only() -> None:
    probe = make()
    several = probe.sample(SPLITS, ["near"])
    metrics = {"mape": 0.3, "mape@a": 0.1, "mape@c": 0.2, "mae@a": 9.0}
    assert probe.measure(evaluator(metrics), None, several) == {
        "probe/mape@a": 0.1,
        "probe/mape@c": 0.2,
    }
    # One answer without a number, and the others' distance says little.
    assert probe.measure(
        evaluator({**metrics, "invalid@a": 0.5, "invalid@c": 0.0}), None, several
    ) == {"probe/mape@c": 0.2}
    one = probe.sample(SPLITS, ["far"])
    assert probe.measure(evaluator(metrics), None, one) == {"probe/mape@d": 0.3}
    assert probe.measure(evaluator({}), None, one) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"every": 0}, "probe.every=0"),
        ({"examples_per_task": 0}, "probe.examples_per_task=0"),
        ({"metric": "mpae"}, "probe.metric=mpae: choose one of mae"),
        ({"thresholds": []}, r"probe.thresholds=\[\]: give a list of at least one"),
    ],
)
def test_a_probe_that_says_nothing_is_refused(change: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(**change)


def test_no_probe_leaves_no_trace_in_a_config() -> None:
    assert "probe" not in compose()
    assert run_hash(compose(["probe=sample_efficiency"])) != run_hash(compose())


PROBE = [
    "probe=sample_efficiency",
    "probe.every=4",
    "probe.metric=log_mae",
    "probe.thresholds=[100,0.001]",
    "probe.examples_per_task=4",
    "model.dropout=0.1",
    "optimizer.lr=0.03",
    "scheduler.warmup_steps=0",
    "trainer.max_steps=14",
    "trainer.checkpoint_every=5",
]


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def metrics(folder: Path) -> dict[str, float]:
    return json.loads((folder / "report.json").read_text())["metrics"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "last.ckpt", weights_only=True)["module"]


def test_a_run_with_a_probe(smoke_config: Callable[..., DictConfig]) -> None:
    """It is probed on time and at the end, reported, and trained as without a probe."""
    config = smoke_config(*PROBE)
    folder = run(config)
    probed = [line for line in lines(folder) if not {"train/loss", "validation/loss"} & set(line)]
    assert [line["step"] for line in probed] == [4, 8, 12, 14]
    names = {name for line in probed for name in line} - {"step"}
    assert names == {f"probe/log_mae@arithmetic__add_sub_multiple{end}" for end in ("", "_longer")}
    found = metrics(folder)
    assert found["probe/reached_100"] == 1
    assert 4 <= found["probe/mean_epochs_to_100"] * 240 / 16 <= 14
    assert found["probe/reached_0.001"] == 0
    assert found["probe/mean_epochs_to_0.001"] == pytest.approx(14 * 16 / 240)
    without = run(smoke_config(*(each for each in PROBE if not each.startswith("probe"))))
    plain = {name: value for name, value in found.items() if not name.startswith("probe/")}
    assert plain == metrics(without)
    assert all(torch.equal(weights(folder)[n], value) for n, value in weights(without).items())


@pytest.mark.parametrize("stop_after", [4, 9])
def test_an_interrupted_run_says_the_same(
    smoke_config: Callable[..., DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_after: int,
) -> None:
    """Stopped at a probe, or killed a step after it was probed beyond its last checkpoint."""
    whole = run(smoke_config(*PROBE, f"results_dir={tmp_path / 'whole'}"))
    folder = run_folder(smoke_config(*PROBE))
    measure, calls = Probe.measure, []

    def interrupted(self: Probe, *parts) -> dict[str, float]:
        found = measure(self, *parts)
        calls.append(found)
        if len(calls) == 1 and stop_after == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        if len(calls) == 2 and stop_after == 9:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Probe, "measure", interrupted)
        with pytest.raises((Stopped, KeyboardInterrupt)):
            run(smoke_config(*PROBE))
    assert not (folder / "DONE").exists()
    run(smoke_config(*PROBE))
    assert metrics(folder) == metrics(whole)
    assert all(torch.equal(weights(folder)[n], value) for n, value in weights(whole).items())
    kept = [{k: v for k, v in line.items() if "samples_per_s" not in k} for line in lines(folder)]
    assert kept == [
        {k: v for k, v in line.items() if "samples_per_s" not in k} for line in lines(whole)
    ]


def test_the_papers_mean_is_that_of_its_grid() -> None:
    grid = pd.read_csv(PAPER_DIR / "ntl" / "sample_efficiency.csv").set_index("loss")
    means = pd.read_csv(PAPER_DIR / "ntl" / "sample_efficiency_mean.csv").set_index("loss")
    for loss, mean in means["mean_epochs"].items():
        cells = grid.loc[[loss]].drop(columns="digits_row").to_numpy()
        assert cells.shape == (6, 6)
        assert mean == pytest.approx(cells.mean(), abs=5e-4)


def test_the_table_reads_what_the_probe_reports() -> None:
    table = load_table(CONF_DIR / "table" / "ntl-efficiency.yaml")
    for scale in table.seeds:
        config = compose([f"experiment={table.experiment}/{scale}"])
        probe = build(config.probe, "probe")
        found = probe.summary([{"step": 1, "probe/mape@1x1": 0.0}], ["1x1"], 1)
        assert {f"probe/{column.metric}" for column in table.metrics} <= set(found)
        assert {f"probe/{metric}@1x1" for metric in table.breakdown} <= set(found)
        without = compose([f"experiment=ntl/multiplication/{scale}"])
        # At some scale the factors are shorter, so that there are several lengths to compare.
        same = config.keys() - {"probe", "dataset"}
        assert {key: config[key] for key in same} == {key: without[key] for key in same}
        assert without.keys() - same == {"dataset"}


def test_a_model_in_shards_is_not_probed(
    smoke_config: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fabric, "strategy", property(lambda self: FSDPStrategy()))
    with pytest.raises(UsageError, match="a probe needs the whole model: set trainer.strategy=ddp"):
        run(smoke_config(*PROBE))
