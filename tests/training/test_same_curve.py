"""One or two devices, sharded or not, interrupted or not: the same losses at every step.

Float32 sums in another order differ by some 1e-7; a gradient averaged in another way, a parameter
that is not decayed or moments that went to another parameter show within a few steps.
"""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig
from ranks import STOPPED, Fates, run_on
from torch import nn

from beyond_ce.configuration import compose
from beyond_ce.errors import UsageError
from beyond_ce.runs.identity import run_folder
from beyond_ce.training import adafactor
from beyond_ce.training.sharding import check_shardable

COMMON = [
    *("trainer.log_every=1", "trainer.evaluate_every=10"),
    *("trainer.checkpoint_every=8", "trainer.gradient_clip=2", "trainer.progress=false"),
    *("optimizer.lr=0.01", "optimizer.weight_decay=0.1"),
]
DATA = [
    *("experiment=ntl/arithmetic/smoke", "dataset.train_per_difficulty=80"),
    # An odd number of rows to validate on.
    *("dataset.validation_per_difficulty=7", "dataset.test_size=4", "evaluator.max_new_tokens=4"),
]
MODELS = {
    "t5": [*DATA, "loss=ntl_was", "optimizer=adamw"],
    "t5, adafactor": [*DATA, "loss=ntl_was"],
    "decoder": [
        *(*DATA, "optimizer=adamw", "model=decoder_smallest", "model.num_layers=5"),
        *("head=multi_token", "head.n=4", "loss=ntl_was", "trainer.accumulate=2"),
    ],
}
Make = Callable[..., DictConfig]
Phase = tuple[str, Fates, list[int]]
"""A strategy, what happens to its ranks, and their exit codes."""
Curve = dict[tuple[int, str], float]


@pytest.fixture
def make(official_data: Path, cache_dir: Path, tmp_path: Path) -> Make:
    """`make(model, name)` is the config of a run with results of that name."""

    def config(model: str, name: str, steps: int = 50) -> DictConfig:
        places = [f"results_dir={tmp_path / name}", f"cache_dir={cache_dir}"]
        config = compose([*MODELS[model], f"dataset.path={official_data}", *COMMON, *places])
        config.trainer.max_steps = steps
        if model == "decoder":
            config.trainer.gradient_clip = 10
        return config

    return config


def curve(config: DictConfig) -> Curve:
    """What metrics.jsonl says, by (step, name), and report.json at the end."""
    folder = run_folder(config)
    values: Curve = {}
    for text in (folder / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        step = line.pop("step")
        for name, value in line.items():
            assert (step, name) not in values  # one rank writes
            values[step, name] = value
    report = json.loads((folder / "report.json").read_text())["metrics"]
    values |= {(-1, name): value for name, value in report.items()}
    timed = ("samples_per_s", "speedup", "tokens_per_second")
    return {key: v for key, v in values.items() if not any(name in key[1] for name in timed)}


def whole(config: DictConfig) -> Curve:
    """Of one device that nothing has interrupted; some of its gradients are clipped."""
    assert run_on(1, config, "auto") == [0]
    values = curve(config)
    losses, norms = (
        [value for (_, name), value in values.items() if name == f"train/{wanted}"]
        for wanted in ("loss", "gradient_norm")
    )
    assert len(losses) == config.trainer.max_steps and losses[-1] < 0.9 * losses[0]
    assert min(norms) < config.trainer.gradient_clip < max(norms)
    return values


def check_same(ours: Curve, theirs: Curve) -> None:
    for key in theirs:
        if key[1].startswith("train/") or "loss" in key[1]:
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5, abs=0), key
    assert ours == pytest.approx(theirs, rel=1e-5, nan_ok=True)


def check_phases(make: Make, model: str, phases: list[Phase]) -> None:
    """A run that goes on on other devices in each phase has the curve of one that never stopped."""
    expected = whole(make(model, "whole"))
    config = make(model, "phases")
    for strategy, fates, codes in phases:
        assert run_on(len(codes), config, strategy, fates) == codes
    check_same(curve(config), expected)


def stop(step: int) -> Fates:
    """A signal to the first rank, on which all save."""
    return {0: (step, signal.SIGTERM)}


def kill(step: int, *ranks: int) -> Fates:
    return dict.fromkeys(ranks, (step, signal.SIGKILL))


def test_replicas_then_one_device_then_shards(make: Make) -> None:
    """Every head has denominators of its own, and the shards get the moments of their weights."""
    phases: list[Phase] = [
        ("ddp", stop(5), [STOPPED, STOPPED]),
        ("auto", stop(10), [STOPPED]),
        ("fsdp", {}, [0, 0]),
    ]
    check_phases(lambda *names: make(*names, 15), "decoder", phases)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "strategy"),
    [*itertools.product(("t5", "decoder"), ("ddp", "fsdp")), ("t5, adafactor", "ddp")],
)
def test_two_devices(make: Make, model: str, strategy: str) -> None:
    expected = whole(make(model, "whole"))
    config = make(model, strategy)
    assert run_on(2, config, strategy) == [0, 0]
    check_same(curve(config), expected)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("model", ["t5", "decoder"])
def test_two_devices_then_one_then_two(make: Make, model: str, strategy: str) -> None:
    phases: list[Phase] = [
        (strategy, stop(15), [STOPPED, STOPPED]),
        ("auto", stop(35), [STOPPED]),
        (strategy, {}, [0, 0]),
    ]
    check_phases(make, model, phases)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 1])
@pytest.mark.parametrize(("killed", "codes"), [((0, 1), [-9, -9]), ((1,), [1, -9])])
def test_shards_that_are_killed(
    make: Make, killed: tuple[int, ...], codes: list[int], devices: int
) -> None:
    """They go on from the checkpoint of step 16, on as many devices or on one."""
    phases: list[Phase] = [
        ("fsdp", kill(20, *killed), codes),
        ("fsdp", {}, [0] * devices),
    ]
    check_phases(make, "decoder", phases)


def test_shards_are_not_for_adafactor() -> None:
    with pytest.raises(UsageError, match=r"Adafactor.*trainer.strategy=ddp.*optimizer=adamw"):
        check_shardable(adafactor(nn.Linear(2, 2), 0.1, 0.0, -0.8, 1.0))
