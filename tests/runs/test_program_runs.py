"""A run that learns to write programs, and is scored by running them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from omegaconf import DictConfig

from beyond_ce.configuration import CONF_DIR, compose
from beyond_ce.evaluation import code_samples
from beyond_ce.reporting.tables import load_table
from beyond_ce.runs.experiment import run
from beyond_ce.runs.store import is_done, read_report


@pytest.fixture
def config(tmp_path: Path, cache_dir: Path) -> DictConfig:
    sizes = {"train_size": 60, "validation_size": 5, "test_size": 8}
    return compose(
        [
            "dataset=code_tasks_packed",
            "dataset.sequence_length=64",
            *(f"dataset.data.{name}={size}" for name, size in sizes.items()),
            *("tokenizer=byte", "model=decoder_smallest", "head=lm"),
            *("evaluator=programs", "evaluator.samples=3", "evaluator.ks=[1,2]"),
            *("evaluator.temperatures=[0,0.8]", "evaluator.max_new_tokens=6"),
            *("evaluator.max_examples=4", "evaluator.timeout_s=3", "evaluator.batch_size=5"),
            *("trainer.max_steps=2", "trainer.batch_size=4", "trainer.progress=false"),
            *(f"results_dir={tmp_path / 'results'}", f"cache_dir={cache_dir}"),
        ]
    )


def test_its_report_has_pass_at_k_and_what_kept_the_programs_in(config: DictConfig) -> None:
    folder = run(config)
    report = read_report(folder)
    assert is_done(folder) and report["isolation"]
    assert report["metrics"]["test/problems"] == 4
    assert 0 <= report["metrics"]["test/pass@2@oracle"] <= 1
    samples = pd.read_parquet(folder / "evaluation" / "test.parquet")
    assert len(samples) == 4 * (1 + 3)
    assert set(samples["verdict"]) <= {"passed", "failed", "timeout", "memory", "crashed"}


def test_killed_while_programs_run_it_goes_on_with_the_same_samples(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(code_samples, "run_all", dies)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    kept = {path: path.read_bytes() for path in folder.rglob("samples/**/*.parquet")}
    assert len(kept) == 1 + 3  # 4 samples at temperature 0, 12 at 0.8
    monkeypatch.setattr(
        "beyond_ce.evaluation.sampling.generate", lambda *_, **__: pytest.fail("sampled again")
    )
    run(config)
    assert is_done(folder)
    assert {path: path.read_bytes() for path in kept} == kept


@pytest.mark.parametrize(
    "experiment", ["mtp/code_tasks head=lm", "mtp/code_tasks head.n=8", "mtp/code_tasks_bytes"]
)
def test_the_smoke_runs_of_table_1_have_its_columns(
    experiment: str, tmp_path: Path, cache_dir: Path
) -> None:
    name, *overrides = experiment.split()
    places = [f"results_dir={tmp_path}", f"cache_dir={cache_dir}", "trainer.progress=false"]
    config = compose([f"experiment={name}/smoke", *overrides, *places])
    metrics = read_report(run(config))["metrics"]
    table = load_table(CONF_DIR / "table" / "mtp-1.yaml").at("smoke")
    heads = int(config.head.get("n", 1))
    expected = {
        f"test/{column.metric}"
        for column in table.metrics
        if not column.metric.startswith("accuracy@head") or int(column.metric[-1]) <= heads
    }
    assert expected <= metrics.keys() and len(expected) >= 6
    temperatures = load_table(CONF_DIR / "table" / "mtp-s12.yaml").at("smoke")
    assert {f"test/{column.metric}" for column in temperatures.metrics} <= metrics.keys()
