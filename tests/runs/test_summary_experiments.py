"""Summaries at every scale's settings, with a model and data of no size, and their tables."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from beyond_ce.configuration import CONF_DIR, compose
from beyond_ce.reporting.paper import PAPER_DIR
from beyond_ce.reporting.tables import jobs, load_table
from beyond_ce.reproduction.recipes import hyperparameters
from beyond_ce.runs.experiment import run
from beyond_ce.runs.start import with_source
from beyond_ce.runs.store import read_report

TABLES = ["mtp-fig6", "mtp-s8", "mtp-s9", "mtp-s10"]
OTHERS = sorted(path.parent.name for path in CONF_DIR.glob("experiment/mtp/summaries_*/paper.yaml"))
EXPERIMENTS = [f"mtp/summaries/{scale}" for scale in ("smoke", "cpu", "gpu", "paper")]
EXPERIMENTS += [f"mtp/{name}/paper" for name in OTHERS]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for split, count in (("train", 300), ("dev", 3), ("test", 2)):
        rows = [
            {"document": f"This is text {i} of {split}. " * 20, "summary": f"It is text {i}."}
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_one_step_and_a_report(
    experiment: str, texts: Path, cache_dir: Path, tmp_path: Path
) -> None:
    config = compose(
        [
            f"experiment={experiment}",
            "start=random",
            *("model=decoder_smallest_5_layers", "tokenizer=byte", "model.max_length=256"),
            *(f"dataset.data.path={texts}", "dataset.sequence_length=64"),
            *("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.num_threads=1"),
            *("trainer.devices=1", "trainer.strategy=auto", "trainer.accumulate=1"),
            *("trainer.max_steps=1", "trainer.evaluate_every=1", "trainer.progress=false"),
            "evaluator.max_new_tokens=4",
            f"results_dir={tmp_path}",
            f"cache_dir={cache_dir}",
        ]
    )
    metrics = read_report(run(config))["metrics"]
    for name in TABLES:
        table = load_table(CONF_DIR / "table" / f"{name}.yaml")
        assert {f"test/{column.metric}" for column in table.metrics} <= set(metrics)
    assert metrics["test/selected_step"] == 1
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("scale", ["smoke", "cpu", "gpu", "paper"])
def test_a_row_starts_from_a_language_model_with_as_many_heads(scale: str) -> None:
    table = load_table(CONF_DIR / "table" / "mtp-fig6.yaml")
    rows = 48 if scale == "paper" else 3
    of_scale = [job for job in jobs(table, scale) if job.seed == 0]
    assert len(of_scale) == rows
    for job in of_scale[: rows if scale == "smoke" else 6]:  # composing takes its time
        config = with_source(compose(job.overrides))
        source = config.start.source
        heads = 1 if "n = 1" in job.row else 2 if "n = 2" in job.row else 4
        assert config.head.get("n", 1) == source.head.get("n", 1) == heads
        assert source.scale == scale and source.model == config.model
        steps = 60000 if "500B" in job.row else 25000
        assert source.trainer.max_steps == steps or scale != "paper"


def test_the_tables_share_their_runs() -> None:
    for scale in ("cpu", "gpu", "paper"):
        tables = [load_table(CONF_DIR / "table" / f"{name}.yaml") for name in TABLES]
        assert len({tuple(jobs(table, scale)) for table in tables}) == 1


def test_an_epoch_of_the_paper_is_a_third_of_its_steps() -> None:
    for experiment in EXPERIMENTS[1:]:
        trainer = compose([f"experiment={experiment}"]).trainer
        assert trainer.max_steps == 3 * trainer.evaluate_every


def test_the_settings_are_those_of_table_s13() -> None:
    rows = pd.read_csv(PAPER_DIR / "mtp" / "table_s13.csv", dtype=str)
    rows = rows[rows["section"] == "Summarization (3.7)"].set_index("model")
    names = {re.sub("[^a-z]", "", name.lower()): name for name in rows.index}
    for experiment in EXPERIMENTS[3:]:
        config = compose([f"experiment={experiment}"])
        row = rows.loc[names.pop(config.dataset.data.source.replace("_", ""))]
        found = hyperparameters(config)
        wanted = {"batch": "batch_mtokens_2e20", "lr": "peak_lr", "context": "context_length"}
        wanted |= {"steps": "steps", "warmup": "warmup_steps", "decay": "decay_ratio"}
        for ours, theirs in wanted.items():
            assert found[f"recipe/{ours}"] == float(row[theirs]), (experiment, ours)
    assert list(names.values()) == ["BigPatent"]  # of which the paper has no result


# --- the paper's numbers ---------------------------------------------------------------------

KINDS = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-3": "rouge3", "ROUGE-L": "rougeL"}
KINDS |= {"ROUGE-Lsum": "rougeLsum", "evaluation epoch": "epoch"}
ASPECTS = {"F1": "", "precision": "_precision", "recall": "_recall"}


def printed(name: str) -> list[dict[str, str]]:
    frame = pd.read_csv(PAPER_DIR / "mtp" / f"{name}.csv", dtype=str, keep_default_na=False)
    return frame.to_dict("records")


def of(row: dict[str, str], n: int, tokens: str) -> Decimal:
    first = Decimal(row[f"baseline_{tokens}"])
    if n == 1 or row.get("metric") == "evaluation epoch":
        return first if n == 1 else Decimal(row[f"delta_n{n}_{tokens}"])
    return first + Decimal(row[f"delta_n{n}_{tokens}"])


def test_the_sums_are_those_of_what_the_paper_prints() -> None:
    """It has n = 1 and the differences to it; epochs are no differences."""
    lines = {(row["dataset"], int(row["n"]), row["tokens"]): row for row in printed("summaries")}
    assert len(lines) == 9 * 3 * 2
    seen = 0
    for n in (1, 2, 4):
        for tokens in ("200B", "500B"):
            for row in printed("table_s8"):
                cell = lines[row["dataset"], n, tokens][KINDS[row["metric"]]]
                assert Decimal(cell) == of(row, n, tokens)
                seen += 1
            for row in printed("table_s9"):
                assert Decimal(lines[row["dataset"], n, tokens]["rougeL"]) == of(row, n, tokens)
            for row in printed("table_s10"):
                column = KINDS[row["metric"]] + ASPECTS[row["aspect"]]
                assert Decimal(lines["Average", n, tokens][column]) == of(row, n, tokens)
                seen += 1
    filled = [v for row in lines.values() for k, v in row.items() if k[:2] in ("ro", "ep") and v]
    assert len(filled) == seen  # nothing else is there
