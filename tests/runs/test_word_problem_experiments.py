"""Word problems at every scale's settings, with a model and data of no size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beyond_ce.configuration import CONF_DIR, compose
from beyond_ce.reporting.tables import jobs, load_table
from beyond_ce.runs.experiment import run
from beyond_ce.runs.start import with_source
from beyond_ce.runs.store import read_report

TABLE = load_table(CONF_DIR / "table" / "mtp-figs13.yaml")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    problems = [{"question": f"{i}?", "answer": f"#### {i}"} for i in range(20)]
    for split in ("train", "test"):
        lines = "".join(json.dumps(row) + "\n" for row in problems)
        (folder / f"{split}.jsonl").write_text(lines)
    (folder / "rows").mkdir()
    texts = [json.dumps({"text": f"text {i} says nothing. " * 20}) for i in range(200)]
    (folder / "rows" / "rows.jsonl").write_text("\n".join(texts) + "\n")
    return folder


@pytest.mark.parametrize("scale", ["smoke", "cpu", "gpu", "paper"])
def test_one_evaluation_and_a_report(
    scale: str, files: Path, cache_dir: Path, tmp_path: Path
) -> None:
    config = compose(
        [
            f"experiment=mtp/word_problems/{scale}",
            "start=random",
            *("model=decoder_smallest_5_layers", "tokenizer=byte", "model.max_length=512"),
            *([] if scale == "smoke" else [f"dataset.path={files / 'rows'}"]),
            *("dataset.validation_share=0.1", "dataset.test_share=0.1"),
            "dataset.sequence_length=64",
            *(f"evaluator.data.path={files}", "evaluator.data.validation_size=2"),
            *("evaluator.max_new_tokens=4", "evaluator.max_examples=2", "evaluator.batch_size=700"),
            *("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.num_threads=1"),
            *("trainer.devices=1", "trainer.strategy=auto", "trainer.accumulate=1"),
            *("trainer.batch_size=2", "trainer.progress=false"),
            f"results_dir={tmp_path}",
            f"cache_dir={cache_dir}",
        ]
    )
    report = read_report(run(config))
    assert report["steps"] == 0
    columns = {f"test/{column.metric}" for column in TABLE.at(scale).metrics}
    assert columns <= set(report["metrics"]) and len(columns) >= 6


@pytest.mark.parametrize("scale", ["smoke", "cpu", "gpu", "paper"])
def test_the_models_are_those_of_figure_5(scale: str) -> None:
    choices = load_table(CONF_DIR / "table" / "mtp-fig5.yaml")
    theirs = {job.row: job for job in jobs(choices, scale) if job.seed == 0}
    of_scale = [job for job in jobs(TABLE, scale) if job.seed == 0]
    assert len(of_scale) == (6 if scale == "paper" else 3)
    for job in of_scale:
        config = with_source(compose(job.overrides))
        source, trained = config.start.source, compose(theirs[job.row.partition(",")[0]].overrides)
        if "500B" in job.row:
            trained.trainer.max_steps = 60000
        assert source == trained
        assert (config.model, config.head, config.dataset) == (
            *(trained.model, trained.head, trained.dataset),
        )
