"""The estimate of GPU-hours, and the README's table map."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from beyond_ce.configuration import CONF_DIR, compose
from beyond_ce.profiling import training_flops
from beyond_ce.reporting.tables import load_table
from beyond_ce.reproduction.cost import (
    estimate_line,
    gpu_hours,
    rough,
    table_gpu_hours,
)
from beyond_ce.reproduction.measurements.random_models import decoder_flops, random_decoder
from beyond_ce.reproduction.plan import plan

README = (CONF_DIR.parent / "README.md").read_text(encoding="utf-8")
TABLES = sorted(path.stem for path in (CONF_DIR / "table").glob("*.yaml"))
# Of runs that a table beside them in the README has too, and of several dozen.
LONG = {"mtp-s8", "mtp-s9", "mtp-s10", "mtp-s12", "mtp-fig6", "mtp-s7"}


def test_7b_on_200_b_tokens() -> None:
    """6 x 6.6e9 parameters x 210e9 tokens, a third more for what is computed again, attention on
    top, at 40% of 989e12 operations per second."""
    hours = gpu_hours([compose(["experiment=mtp/architectures/paper", "head=lm"])])
    least = 8 * 6.6e9 * 209.7e9 / (0.4 * 989e12) / 3600
    assert least < hours < 1.4 * least


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=mtp/scaling/paper", "model=decoder_1_3b"],
        ["experiment=mtp/code_tasks/gpu", "head=lm"],
        ["experiment=mtp/finetuning/gpu", "head.extra_layers=3"],
        ["experiment=mtp/bytes/cpu"],
    ],
)
def test_operations_are_those_of_all_layers(overrides: list[str]) -> None:
    config = compose(overrides)
    shape = (1, config.dataset.sequence_length)
    with torch.device("meta"):
        counted = training_flops(random_decoder(config, 32_000), shape)
    assert decoder_flops(config, None, 32_000, shape) == counted


def test_small_steps_take_the_time_of_their_launches() -> None:
    config = compose(["experiment=ntl/arithmetic/paper"])
    assert gpu_hours([config]) >= 2_500_000 * 12 * 1.5e-3 / 3600
    two = compose(["experiment=ntl/arithmetic/paper", "seed=1"])
    assert gpu_hours([config, two]) == pytest.approx(2 * gpu_hours([config]))


def test_runs_on_a_cpu_and_baselines_cost_no_gpu() -> None:
    assert gpu_hours([compose(["experiment=ntl/arithmetic/cpu"])]) == 0
    assert gpu_hours([compose(["experiment=ntl/rjokes/paper", "baseline=mean"])]) == 0
    assert estimate_line(plan("ntl-7", "cpu")) is None
    assert estimate_line(plan("mtp-s5", "paper")) is None


def test_the_line_says_what_is_missing(tmp_path: Path) -> None:
    line = estimate_line(plan("ntl-7", "paper", overrides=[f"results_dir={tmp_path}"]))
    assert line is not None and line.startswith("ntl-7 at scale paper: 6 runs, about ")
    assert "GPU-hours" in line


def test_numbers_are_rough() -> None:
    assert [rough(hours) for hours in (0.3, 1.26, 1314, 83_412)] == [
        *("less than 1", "1", "1,300", "83,000")
    ]


@pytest.mark.parametrize(
    "table_id",
    [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in TABLES],
)
def test_the_readme_has_the_estimate(table_id: str) -> None:
    (line,) = re.findall(rf"^\| [^|]*`{table_id}`[^|]* \|.*$", README, re.MULTILINE)
    expected = "–"
    if "paper" in load_table(CONF_DIR / "table" / f"{table_id}.yaml").seeds:
        planned = plan(table_id, "paper")
        expected = "–" if planned.table.measure else rough(table_gpu_hours(planned))
    cells = [cell.strip() for cell in line.split("|")]
    ids, hours = cells[1].split(", "), cells[-2].split(", ")  # one number for all, or one for each
    assert hours[ids.index(f"`{table_id}`") if len(hours) > 1 else 0] == expected
