"""Parts and data that do not fit, met in a whole run: one line that names what and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from beyond_ce.batches.order import LengthGrouped
from beyond_ce.batches.prompt_answer import PromptAnswerBatches
from beyond_ce.command_line import one_line_errors
from beyond_ce.errors import RunError, UsageError
from beyond_ce.models.t5 import T5
from beyond_ce.runs.assembly import build_loss
from beyond_ce.runs.experiment import run
from beyond_ce.runs.identity import run_folder
from beyond_ce.tokenizers import DigitTokenizer

Config = Callable[..., DictConfig]


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    errors = capsys.readouterr().err
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in errors
    return line


def test_a_tokenizer_without_numbers_is_named(
    smoke_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_numbers(self: DigitTokenizer) -> torch.Tensor:
        return torch.full((self.vocab_size,), torch.nan)

    monkeypatch.setattr(DigitTokenizer, "number_values", no_numbers)
    with pytest.raises(UsageError, match="tokenizer DigitTokenizer: WassersteinLoss needs number"):
        run(smoke_config("loss=ntl_was"))


def test_whole_numbers_need_digits(smoke_config: Config) -> None:
    needs = "tokenizer SubwordTokenizer: NumberLevelLoss .*choose tokenizer=digit"
    with pytest.raises(UsageError, match=needs):
        run(smoke_config("loss=ntl_number_level", "tokenizer=subword"))


@pytest.mark.parametrize("loss", ["ntl_number_level", "ntl_was_reweigh"])
def test_the_new_losses_train(smoke_config: Config, loss: str) -> None:
    assert (run(smoke_config(f"loss={loss}", "trainer.max_steps=2")) / "DONE").exists()


def test_a_loss_is_told_of_decimal_points(smoke_config: Config) -> None:
    tokenizer = DigitTokenizer(vocab_size=400)
    tokenizer.train(["What is 1.5 - 3 + 0.25?", "-1.25"] * 50)
    loss = build_loss(smoke_config("loss=ntl_number_level"), tokenizer)
    labels = torch.tensor(tokenizer.encode(["-12.5 and 3"]))
    assert int(loss.counts(labels)["numbers"]) == 2


def test_labels_outside_the_vocabulary_are_one_line(
    smoke_config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = PromptAnswerBatches.train

    def spoilt(self: PromptAnswerBatches, step: int, *args: int) -> list[Any]:
        batches = train(self, step, *args)
        if step == 2:
            batches[0].labels[0, 0] = 70_000
        return batches

    monkeypatch.setattr(PromptAnswerBatches, "train", spoilt)
    with pytest.raises(SystemExit) as end, one_line_errors():
        run(smoke_config("loss=ntl_was"))
    assert end.value.code == 1
    line = only_line(capsys)
    assert "label 70000 is outside" in line and "batch of step 3 (rows " in line


def test_a_model_that_breaks_is_told_by_step_and_rows(
    smoke_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = smoke_config("trainer.log_every=100", "trainer.max_steps=5")
    steps: list[int] = []
    trunk = T5.trunk

    def broken(self: T5, batch: Any) -> torch.Tensor:
        steps.append(1)
        return trunk(self, batch) * (torch.nan if len(steps) == 3 else 1.0)

    orders: list[LengthGrouped] = []
    create = LengthGrouped.__init__

    def remember(self: LengthGrouped, *args: Any) -> None:
        orders.append(self)
        create(self, *args)

    monkeypatch.setattr(T5, "trunk", broken)
    monkeypatch.setattr(LengthGrouped, "__init__", remember)
    with pytest.raises(RunError, match=r"not finite at step 3 \(rows ") as error:
        run(config)
    rows = ", ".join(map(str, sorted(orders[0][2].tolist())[:32]))
    assert f"(rows {rows}" in str(error.value)
    assert not (run_folder(config) / "last.ckpt").exists()
