"""Tables mtp-s13 and mtp-s14: what the recipes say is what the paper says, to the last digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig

from beyond_ce.configuration import CONF_DIR, build, compose
from beyond_ce.reporting.numbers import cells, tabulate
from beyond_ce.reporting.paper import PAPER_DIR, Paper
from beyond_ce.reporting.tables import Table, jobs, load_table, read_reports
from beyond_ce.reproduction.measurement import measure
from beyond_ce.reproduction.plan import plan
from beyond_ce.reproduction.recipes import RecipeSettings, architecture, hyperparameters
from beyond_ce.reproduction.write import write
from beyond_ce.runs.identity import run_hash


def mismatches(table: Table, numbers: dict) -> list[str]:
    """Rows that run and whose number is not the paper's, to as many decimals as that has."""
    paper, found = Paper(table.paper), []
    for row in (each for each in table.rows if each.overrides is not None):
        for column in table.columns:
            theirs = paper.text(row.paper, table.splits[0], column.paper)
            ours = numbers[row.label, f"{table.splits[0]}/{column.metric}"].ours.mean
            decimals = len(theirs.partition(".")[2])
            exact = float(theirs) == (round(ours, decimals) if decimals else ours)
            if not exact:
                found.append(f"{row.label}, {column.name}: {ours} and not {theirs}")
    return found


# The paper's tokens are not its batch times its steps there.
OF_THE_PAPER = {"mtp-s13": ["CodeContests, 7B, Tokens (B): 3.407872 and not 3.6"], "mtp-s14": []}


@pytest.mark.parametrize(("table_id", "rows"), [("mtp-s13", 23), ("mtp-s14", 13)])
def test_the_recipes_are_the_papers(table_id: str, rows: int, tmp_path: Path) -> None:
    made = plan(table_id, "cpu", overrides=[f"results_dir={tmp_path}"])
    assert len(made.configs) == rows
    measure(made)
    frame = tabulate(made.table, read_reports(list(made.configs), made.folder))
    assert mismatches(made.table, cells(frame)) == OF_THE_PAPER[table_id]
    text = write(made)["md"].read_text()
    assert "no model, 0 samples" in text and "missing" not in text


@pytest.mark.parametrize(("table_id", "rows"), [("mtp-s13", 26), ("mtp-s14", 13)])
def test_every_row_of_the_paper_is_there(table_id: str, rows: int) -> None:
    table = load_table(CONF_DIR / "table" / f"{table_id}.yaml")
    paper = Paper(table.paper)
    assert len(table.rows) == rows
    assert all(paper.text(row.paper, "", table.columns[0].paper) for row in table.rows)


def test_a_drifting_recipe_is_found() -> None:
    table = load_table(CONF_DIR / "table" / "mtp-s14.yaml")
    table.rows = table.rows[:1]
    (job,) = jobs(table, "cpu")
    config = compose([*job.overrides, "model.num_layers=6"])
    reports = {job: {"metrics": architecture(config, 32000)}}
    assert mismatches(table, cells(tabulate(table, reports))) == ["1M, Layers: 6.0 and not 5"]


@pytest.mark.parametrize("table_id", ["mtp-s13", "mtp-s14"])
def test_scales_share_their_readings(table_id: str) -> None:
    table = load_table(CONF_DIR / "table" / f"{table_id}.yaml")
    assert len(set(map(str, table.measure.values()))) == 1
    smoke, paper = (
        run_hash(compose(jobs(table, scale)[0].overrides)) for scale in ("smoke", "paper")
    )
    assert smoke == paper


@pytest.mark.parametrize("experiment", ["code", "prose", "bytes", "scaling"])
def test_what_the_paper_does_in_every_training(experiment: str) -> None:
    config = compose([f"experiment=mtp/{experiment}/paper"])
    assert config.optimizer._target_.endswith("adamw")
    assert tuple(config.optimizer.betas) == (0.9, 0.95)
    assert config.optimizer.weight_decay == 0.1
    assert config.trainer.gradient_clip == 1.0
    assert config.model.max_length == config.dataset.sequence_length
    if experiment != "scaling":
        assert (config.model.dim, config.model.num_layers) == (4096, 32)


def test_polynomials_are_trained_as_in_the_paper() -> None:
    """But for the batch, whose tokens depend on the expressions: within 5% of 2^18."""
    config = compose(["experiment=mtp/polynomials/paper"])
    rows = pd.read_csv(PAPER_DIR / "mtp" / "table_s13.csv", dtype=str).set_index("section")
    row = rows.loc["Arithmetic task (4.2)"].iloc[1]
    assert row["model"] == "100M" and config.model.dim == 768 and config.model.num_layers == 14
    assert config.optimizer.lr == float(row["peak_lr"])
    assert config.scheduler.warmup_steps == int(row["warmup_steps"])
    assert config.scheduler.decay_ratio == float(row["decay_ratio"])
    assert config.trainer.max_steps == int(row["steps"])
    assert (config.dataset.p, config.dataset.k, config.dataset.test_size) == (7, 5, 2000)
    assert (list(config.dataset.operations), list(config.dataset.test_operations)) == (
        *([1, 5], [1, 10]),
    )
    drawn = build(config.dataset, "dataset").block(0, 0)
    tokens = np.mean([len(each.prompt) + len(each.answer) + 1 for each in drawn])
    wanted = float(row["batch_mtokens_2e20"]) * 2**20
    assert config.trainer.batch_size * tokens == pytest.approx(wanted, rel=0.05)
    assert tuple(config.optimizer.betas) == (0.9, 0.95)
    assert config.optimizer.weight_decay == 0.1
    assert config.trainer.gradient_clip == 1.0


def test_batches_are_counted_in_tokens() -> None:
    config = DictConfig(
        {
            "trainer": {"batch_size": 1536, "max_steps": 1000},
            "dataset": {"sequence_length": 2048},
            "scheduler": {"warmup_steps": 5, "decay_ratio": 0.1},
            "optimizer": {"lr": 1e-3},
        }
    )
    ((repeat, reports),) = RecipeSettings(hyperparameters)({"row": config}, [7])
    assert repeat == 7
    metrics = reports["row"]["metrics"]
    assert metrics["recipe/batch"] == 3.0
    assert metrics["recipe/tokens"] == pytest.approx(3.145728)
