"""Every recipe at scale paper against results/paper/recipes.csv: the reference values, each with
its source, and what differs on purpose, with the reason."""

from __future__ import annotations

import csv
from functools import cache

import pytest
from omegaconf import DictConfig, OmegaConf

from beyond_ce.configuration import CONF_DIR, compose, experiments
from beyond_ce.reporting.paper import PAPER_DIR
from beyond_ce.settings import shown

with (PAPER_DIR / "recipes.csv").open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))
AT_PAPER = sorted(name for name, scales in experiments().items() if "paper" in scales)
DIFFERENCES = [row for row in ROWS if row["reason"]]


@cache
def config(experiment: str, overrides: str) -> DictConfig:
    return compose([f"experiment={experiment}/paper", *overrides.split()])


def name(row: dict[str, str]) -> str:
    return " ".join(filter(None, (row["experiment"], row["overrides"].split("=")[0], row["key"])))


@pytest.mark.parametrize("row", [row for row in ROWS if not row["key"].startswith("(")], ids=name)
def test_a_recipe_has_the_value_that_is_listed(row: dict[str, str]) -> None:
    missing = object()
    composed = config(row["experiment"], row["overrides"])
    value = OmegaConf.select(composed, row["key"], default=missing)
    if value is missing and row["key"].rpartition(".")[0]:
        node = OmegaConf.select(composed, row["key"].rpartition(".")[0])
        value = node[row["key"].rpartition(".")[2]]
    if OmegaConf.is_list(value):
        value = list(value)
    listed = row["ours"] or row["reference"]
    try:
        assert float(listed) == value
    except ValueError:
        assert listed == (shown(value) if value != "" else "")


def test_every_recipe_is_listed() -> None:
    assert sorted({row["experiment"] for row in ROWS}) == AT_PAPER


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_a_value_has_a_source_and_a_difference_a_reason(row: dict[str, str]) -> None:
    assert bool(row["ours"]) == bool(row["reason"])
    assert row["source"] or (row["reason"] and not row["reference"])
    if row["ours"]:
        assert row["ours"] != row["reference"]


@pytest.mark.parametrize("experiment", sorted({row["experiment"] for row in DIFFERENCES}))
def test_the_header_says_what_differs(experiment: str) -> None:
    lines = (CONF_DIR / "experiment" / experiment / "paper.yaml").read_text(encoding="utf-8")
    header = "".join(line for line in lines.splitlines() if line.startswith("#"))
    assert "NOTE:" in header or experiment in ("ntl/runtime", "mtp/decoding")


def test_the_byte_models_heads_are_cheaper_than_a_layer() -> None:
    """What the header of mtp/bytes/paper.yaml infers from table S3: tokens per forward over
    speed-up is the time of a forward with k heads, k = 1 being 1."""
    with (PAPER_DIR / "mtp" / "table_s3.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    costs = []
    for line in lines[1:]:
        for n in (8, 16, 32):
            if speedup := line[f"n{n}_speedup"]:
                time = float(line[f"n{n}_tokens_per_forward"]) / float(speedup)
                k = int(line["heads_used"])
                if k >= 8:
                    costs.append((time - 1) / (k - 1))
    assert len(costs) == 11
    assert min(costs) > 0.011 and max(costs) < 0.018 < 1 / 32
