"""The loop on a toy objective: what it computes, and that stopping and resuming changes nothing."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from choices import choices
from lightning_fabric import Fabric
from lightning_fabric.strategies import FSDPStrategy, Strategy
from torch import Tensor, nn

from beyond_ce.configuration import build, compose
from beyond_ce.errors import RunError, UsageError
from beyond_ce.training import Plateau, Stopped, Trainer, WarmupCosine, adafactor, adamw
from beyond_ce.training.checkpoint import draw_apart

SETTINGS: dict[str, Any] = {
    "max_steps": 12,
    "batch_size": 8,
    "accumulate": 1,
    "gradient_clip": 1.0,
    "evaluate_every": 4,
    "checkpoint_every": 5,
    "log_every": 1,
    "precision": "32-true",
    "accelerator": "cpu",
    "devices": 1,
    "num_nodes": 1,
    "strategy": "auto",
    "num_threads": 0,
    "compile": False,
    "progress": False,
}


@dataclass
class ToyBatch:
    inputs: Tensor
    labels: Tensor

    def to(self, device: object) -> ToyBatch:
        return self


class ToyLoss(nn.Module):
    """Squared error, a mean over the positions whose label is not ignored."""

    def counts(self, labels: Tensor) -> dict[str, Tensor]:
        return {"positions": (labels != -100).sum()}

    def forward(self, outputs: Tensor, labels: Tensor, counts: dict | None) -> Tensor:
        kept = labels != -100
        total = ((outputs - labels) ** 2)[kept].sum()
        return total / (counts or self.counts(labels))["positions"].clamp(min=1)


class ToyObjective(nn.Module):
    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 16), nn.Dropout(dropout), nn.Linear(16, 1))
        self.loss = ToyLoss()

    def counts(self, batch: ToyBatch) -> dict[str, Tensor]:
        return self.loss.counts(batch.labels)

    def forward(self, batch: ToyBatch, counts: dict | None = None) -> tuple[Tensor, dict]:
        loss = self.loss(self.model(batch.inputs).squeeze(-1), batch.labels, counts)
        return loss, {"squared": loss}


class ToyBatches:
    """Batches that are a function of the step alone; `on_step` runs as one is asked for."""

    def __init__(self, size: int = 8, on_step: Callable[[int], None] = lambda step: None) -> None:
        self.size = size
        self.on_step = on_step

    def _batch(self, seed: int) -> ToyBatch:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(self.size, 3, generator=generator)
        labels = inputs.sum(-1)
        labels[: seed % self.size] = -100  # uneven: micro-batches have different denominators
        return ToyBatch(inputs, labels)

    def train(self, step: int, rank: int, ranks: int, parts: int) -> list[ToyBatch]:
        self.on_step(step)
        whole = self._batch(step)
        return [
            ToyBatch(i, y)
            for i, y in zip(whole.inputs.chunk(parts), whole.labels.chunk(parts), strict=True)
        ]

    def validation(self, rank: int, ranks: int) -> list[ToyBatch]:
        return [self._batch(1001), self._batch(1006)]

    def describe(self, step: int) -> str:
        return f"seed {step}"


ADAMW = partial(adamw, lr=1e-2, weight_decay=0.1, betas=(0.9, 0.999), eps=1e-8)
WARMUP_COSINE = partial(WarmupCosine, warmup_steps=3, decay_ratio=0.1)


def fit(
    folder: Path,
    batches: ToyBatches | None = None,
    dropout: float = 0.2,
    optimizer: Callable[..., torch.optim.Optimizer] = ADAMW,
    scheduler: Callable[..., Any] = WARMUP_COSINE,
    **settings: Any,
):
    trainer = Trainer(**{**SETTINGS, **settings})
    trainer.fabric.seed_everything(1, verbose=False)
    objective = ToyObjective(dropout)
    records: list[tuple[dict[str, float], int]] = []
    result = trainer.fit(
        objective,
        optimizer,
        scheduler,
        batches or ToyBatches(trainer.batch_size),
        folder,
        lambda values, step: records.append((values, step)),
    )
    return objective, result, records


def weights(objective: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in objective.parameters()])


def test_training_lowers_the_loss_and_reports_what_it_did(tmp_path: Path) -> None:
    _, result, records = fit(tmp_path, max_steps=300, checkpoint_every=300, dropout=0.0)
    first, last = (r["train/loss"] for r, _ in (records[0], records[-2]))
    assert last < 0.1 * first
    assert (result.steps, result.samples) == (300, 2400)
    assert result.best_loss <= result.last_loss and result.peak_memory_mb > 10
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == list(range(1, 301))
    assert (tmp_path / "last.ckpt").exists() and (tmp_path / "best.ckpt").exists()


def test_accumulated_micro_batches_equal_the_whole_batch(tmp_path: Path) -> None:
    runs = [
        fit(tmp_path / str(parts), accumulate=parts, dropout=0.0, gradient_clip=0.0)
        for parts in (1, 2, 8)
        if not (tmp_path / str(parts)).mkdir()
    ]
    for objective, _, records in runs[1:]:
        torch.testing.assert_close(weights(objective), weights(runs[0][0]), rtol=1e-5, atol=1e-6)
        assert records[0][0]["train/loss"] == pytest.approx(runs[0][2][0][0]["train/loss"])


@pytest.mark.parametrize(("sharded", "apart"), [(False, True), (True, False)])
def test_micro_batches_share_their_gradients_at_once_if_they_are_sharded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharded: bool, apart: bool
) -> None:
    """FSDP would otherwise sum a gradient of the whole model on each device."""
    asked: list[bool] = []

    def no_backward_sync(self: Fabric, module: Any, enabled: bool) -> Any:
        asked.append(enabled)
        return nullcontext()

    monkeypatch.setattr(Fabric, "no_backward_sync", no_backward_sync)
    kind = Strategy if sharded else FSDPStrategy  # every strategy is a Strategy
    monkeypatch.setattr("beyond_ce.training.trainer.FSDPStrategy", kind)
    fit(tmp_path, accumulate=2, max_steps=1)
    assert asked == [apart, False]


def test_validation_is_a_mean_over_all_positions(tmp_path: Path) -> None:
    objective, result, _ = fit(tmp_path)
    objective.eval()
    batches = ToyBatches().validation(0, 1)
    joined = ToyBatch(*(torch.cat([getattr(b, f) for b in batches]) for f in ("inputs", "labels")))
    assert result.last_loss == pytest.approx(objective(joined)[0].item(), rel=1e-5)


@pytest.mark.parametrize("scheduler", choices("scheduler"))
@pytest.mark.parametrize("optimizer", choices("optimizer"))
def test_every_optimizer_and_schedule_learns_and_goes_on_bit_for_bit(
    tmp_path: Path, optimizer: str, scheduler: str
) -> None:
    config = compose([f"optimizer={optimizer}", f"scheduler={scheduler}"])
    choice: dict[str, Any] = {
        "optimizer": build(config.optimizer, "optimizer"),
        "scheduler": build(config.scheduler, "scheduler"),
        "max_steps": 60,
        "evaluate_every": 20,
    }
    (tmp_path / "whole").mkdir()
    whole, _, records = fit(tmp_path / "whole", **choice)
    losses = [values["validation/loss"] for values, _ in records if "validation/loss" in values]
    assert losses[-1] < losses[0] and losses == sorted(losses, reverse=True)
    with pytest.raises(Stopped):
        fit(tmp_path, ToyBatches(on_step=_raise_at(31, Stopped("killed"))), **choice)
    resumed, *_ = fit(tmp_path, **choice)
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("stop_at", [1, 5, 6, 11, 12])
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, stop_at: int, number: int) -> None:
    (tmp_path / "whole").mkdir()
    whole, result, records = fit(tmp_path / "whole")

    def stop(step: int) -> None:
        if step == stop_at - 1:
            os.kill(os.getpid(), number)

    with pytest.raises(Stopped, match=f"at step {stop_at}"):
        fit(tmp_path, ToyBatches(on_step=stop))
    resumed, again, rest = fit(tmp_path)
    assert torch.equal(weights(resumed), weights(whole))
    assert (again.best_loss, again.last_loss) == (result.best_loss, result.last_loss)
    seen = [(r["train/loss"], step) for r, step in records if "train/loss" in r]
    assert [(r["train/loss"], s) for r, s in rest if "train/loss" in r] == seen[stop_at:]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [step for _, step in records]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_handler_that_was_there_before_decides_whether_to_go_on(
    tmp_path: Path, number: int
) -> None:
    got: list[int] = []
    previous = signal.signal(number, lambda number, frame: got.append(number))
    try:
        batches = ToyBatches(on_step=lambda s: os.kill(os.getpid(), number) if s == 3 else 0)
        _, result, _ = fit(tmp_path, batches)
    finally:
        signal.signal(number, previous)
    assert got == [number] and result.steps == SETTINGS["max_steps"]


def test_a_checkpoint_is_written_beside_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not through TMPDIR, where there may be no space and a killed run leaves it."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    fit(tmp_path)
    assert (tmp_path / "last.ckpt").stat().st_size > 0
    assert not list(tmp_path.glob("*.tmp"))


def test_lines_of_steps_that_are_run_again_are_dropped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):  # dies at step 8; the last checkpoint is of step 5
        fit(tmp_path, ToyBatches(on_step=_raise_at(8, KeyboardInterrupt())))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "train/lo')
    fit(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == list(range(1, 13))


def _raise_at(step: int, error: BaseException) -> Callable[[int], None]:
    def raise_it(now: int) -> None:
        if now == step:
            raise error

    return raise_it


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    fit(tmp_path)
    last = tmp_path / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.raises(RunError, match="cannot load checkpoint .*last.ckpt.*delete that file"):
        fit(tmp_path)


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    """A limit on file sizes makes the write itself fail half-way, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(step: int) -> None:
        if step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))

    try:
        with pytest.raises(RunError, match="cannot save .*the previous checkpoint is kept"):
            fit(tmp_path, ToyBatches(on_step=limit), log_every=100, evaluate_every=100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list(tmp_path.glob("*.tmp"))
    _, result, _ = fit(tmp_path)
    assert result.steps == SETTINGS["max_steps"]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"train/loss is not finite at step 7 \(seed 6\): lower"):
        fit(tmp_path, Spoilt(7, math.nan))
    assert fit(tmp_path)[1].steps == SETTINGS["max_steps"]  # from a checkpoint that is sound


class Spoilt(ToyBatches):
    """Inputs of one step, counted from 1, that make its loss what it should not be."""

    def __init__(self, step: int, value: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.step = step
        self.value = value

    def train(self, step: int, rank: int, ranks: int, parts: int) -> list[ToyBatch]:
        batches = super().train(step, rank, ranks, parts)
        if step == self.step - 1:
            batches[-1].inputs[:] = self.value
        return batches


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    "seen_by", [{"log_every": 10}, {"evaluate_every": 10}, {"checkpoint_every": 10}]
)
def test_the_first_broken_step_is_named_however_late_it_is_seen(
    tmp_path: Path, value: float, accumulate: int, seen_by: dict[str, int]
) -> None:
    late = {"log_every": 12, "evaluate_every": 12, "checkpoint_every": 12, **seen_by}
    with pytest.raises(RunError, match=r"not finite at step 3 \(seed 2\)"):
        fit(tmp_path, Spoilt(3, value), accumulate=accumulate, **late)
    assert not list(tmp_path.glob("*.ckpt"))
    assert not (tmp_path / "metrics.jsonl").read_text()


def test_a_broken_step_is_named_even_if_the_model_outlives_it(tmp_path: Path) -> None:
    """The step's update is skipped, as by a scaler, and later losses are finite again."""

    class Skipping(torch.optim.SGD):
        def step(self, *args: Any) -> None:  # type: ignore[override]
            if all(p.grad.isfinite().all() for g in self.param_groups for p in g["params"]):
                super().step(*args)

    trainer = Trainer(**{**SETTINGS, "log_every": 12, "gradient_clip": 0.0})
    with pytest.raises(RunError, match=r"not finite at step 2 \(seed 1\)"):
        trainer.fit(
            ToyObjective(),
            lambda module: Skipping(module.parameters(), lr=0.01),
            WARMUP_COSINE,
            Spoilt(2, math.nan),
            tmp_path,
            lambda values, step: None,
        )


def test_a_signal_saves_no_broken_model(tmp_path: Path) -> None:
    def stop(step: int) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    rarely = {"log_every": 12, "evaluate_every": 12, "checkpoint_every": 12}
    with pytest.raises(RunError, match=r"not finite at step 3"):
        fit(tmp_path, Spoilt(3, math.nan, on_step=stop), **rarely)
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize("error", [ValueError("label 40 is outside"), IndexError("out of range")])
def test_a_batch_that_the_model_refuses_is_named(tmp_path: Path, error: Exception) -> None:
    """Labels outside the vocabulary are the loss's to find, ids outside it the embedding's."""

    class Refused(ToyBatches):
        def train(self, step: int, rank: int, ranks: int, parts: int) -> list[ToyBatch]:
            batches = super().train(step, rank, ranks, parts)
            if step == 6:
                batches[0].inputs = Refusing(batches[0].inputs)
            return batches

    class Refusing(Tensor):
        @classmethod
        def __torch_function__(cls, *_: Any, **__: Any) -> None:  # type: ignore[override]
            raise error

    with pytest.raises(RunError, match=rf"batch of step 7 \(seed 6\) does not fit .*: {error}"):
        fit(tmp_path, Refused())


@pytest.mark.parametrize(
    ("setting", "value"),
    [("batch_size", 0), ("accumulate", 0), ("checkpoint_every", -1)],
)
def test_settings_below_one_are_refused(setting: str, value: int) -> None:
    with pytest.raises(UsageError, match=f"trainer.{setting}={value}: give at least 1"):
        Trainer(**{**SETTINGS, setting: value})


def test_steps_below_zero_are_refused() -> None:
    with pytest.raises(UsageError, match="trainer.max_steps=-1: give at least 0"):
        Trainer(**{**SETTINGS, "max_steps": -1})


def test_no_steps_leave_the_weights_and_end_like_any_run(tmp_path: Path) -> None:
    asked: list[int] = []
    objective, result, records = fit(
        tmp_path, ToyBatches(on_step=asked.append), dropout=0.0, max_steps=0
    )
    assert asked == []
    assert torch.equal(weights(objective), weights(ToyObjective(0.0)))
    assert (result.steps, result.samples) == (0, 0)
    assert [(sorted(values), step) for values, step in records] == [
        (["validation/loss", "validation/squared"], 0)
    ]
    assert result.last_loss == result.best_loss == records[0][0]["validation/loss"]
    assert (tmp_path / "last.ckpt").exists() and (tmp_path / "best.ckpt").exists()


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match="multiple of 3"):
        Trainer(**{**SETTINGS, "accumulate": 3})


@pytest.mark.slow
def test_compiled_training_gives_the_same_result(tmp_path: Path) -> None:
    (tmp_path / "eager").mkdir()
    eager, *_ = fit(tmp_path / "eager", dropout=0.0, max_steps=2)
    with torch._dynamo.config.patch(suppress_errors=False):
        compiled, *_ = fit(tmp_path, dropout=0.0, max_steps=2, compile=True)
    torch.testing.assert_close(weights(compiled), weights(eager))


def test_plateau_lowers_the_rate_when_the_loss_stays() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = Plateau(optimizer, max_steps=10, factor=0.5, patience=1)
    for loss in (2.0, 1.0, 1.0, 1.0):
        schedule.after_step()
        schedule.after_evaluation(loss)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_warmup_cosine_by_hand() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = WarmupCosine(optimizer, max_steps=10, warmup_steps=2, decay_ratio=0.1)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.after_step()
    # (step + 1) / 3 while warming up; at step 6, half-way down the cosine: (1 + 0.1) / 2
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[6] == pytest.approx(0.55) and rates[10] == pytest.approx(0.1)


def test_adafactor_steps_relative_to_the_parameter() -> None:
    """One step from a unit gradient changes a matrix by lr x its root mean square."""
    for scale in (0.1, 10.0):
        module = nn.Linear(4, 4, bias=False)
        nn.init.constant_(module.weight, scale)
        optimizer = adafactor(module, lr=0.01, weight_decay=0.0, beta2_decay=-0.8, clip=1.0)
        module(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        torch.testing.assert_close(module.weight.data, torch.full((4, 4), scale * 0.99))


def test_weight_decay_leaves_vectors_alone() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    optimizer = adamw(module, lr=0.1, weight_decay=0.5, betas=(0.9, 0.999), eps=1e-8)
    decay = {g["weight_decay"]: {p.ndim for p in g["params"]} for g in optimizer.param_groups}
    assert decay == {0.5: {2}, 0.0: {1}}


def test_ranks_draw_apart() -> None:
    """Otherwise all of them would drop the same units."""
    draws = []
    for rank in (0, 1, 2, 2):
        torch.manual_seed(5)
        draw_apart(rank)
        draws.append(torch.rand(4).tolist())
    torch.manual_seed(5)
    assert draws[0] == torch.rand(4).tolist() and draws[2] == draws[3]
    assert len({value for draw in draws[:3] for value in draw}) == 12
