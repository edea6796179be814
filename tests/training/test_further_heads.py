"""Heads 2 to n on a model that stays as it is: the same gradients, and nothing else moves."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from choices import choices
from omegaconf import DictConfig
from torch import Tensor

from beyond_ce.batches.batch import Batch, future_labels
from beyond_ce.configuration import build, compose
from beyond_ce.errors import UsageError
from beyond_ce.models import Decoder, LanguageModel
from beyond_ce.models.heads import MultiTokenHead
from beyond_ce.runs.compatibility import check_parts
from beyond_ce.training import FurtherHeads, adamw
from beyond_ce.training.objective import Objective

VOCAB, PAD, EOS = 30, 0, 1
PROMPTS = [[5, 6, 7, 8, 9], [10]]
ANSWERS = [[20, EOS], [21, 22, 23, 3, 4, 5, 6, 7, 3, 9, 8, 4, EOS]]
# Layers that the further ones of four heads need, beside the ordinary model's.
EXTRA = {"multi_token": 3, "multi_token_causal": 3, "multi_token_replicated": 3,
         "multi_token_linear": 0, "multi_token_linear_replicated": 0,
         "multi_token_recurrent": 1}  # fmt: skip
TRAINABLE = [name for name in choices("head", MultiTokenHead) if name != "multi_token_anticausal"]


@cache
def composed(*overrides: str) -> DictConfig:
    return compose(overrides)


def make(head: str, *overrides: str, **settings: Any) -> FurtherHeads:
    torch.manual_seed(0)
    config = composed(f"head={head}", f"head.extra_layers={EXTRA.get(head, 0)}", *overrides)
    model = Decoder(
        VOCAB, PAD, EOS, build(config.head, "head"), dim=16, num_layers=3, num_heads=2,
        max_length=32, multiple_of=8,
    )  # fmt: skip
    loss = build(config.loss, "loss", number_values=torch.full((VOCAB,), torch.nan))
    return FurtherHeads(model, loss, **{"copy_head_1": False, **settings})


def batch_of(model: LanguageModel) -> Batch:
    return model.make_batch(PROMPTS, ANSWERS)


def naive(step: Objective, batch: Batch) -> Tensor:
    """The further heads' weighted losses in one graph."""
    head, hidden = step.model.head, step.model.trunk(batch)
    total = torch.zeros(())
    for i in range(1, head.n):
        labels = future_labels(batch.labels, batch.segments, i)
        total = total + head.loss_weights[i] * step.loss(head.logits(hidden, i), labels).total
    return total


@pytest.mark.parametrize("head", TRAINABLE)
def test_gradients_are_those_of_the_further_heads(head: str) -> None:
    assert head in EXTRA, f"conf/head/{head}.yaml: say above how many layers its heads need"
    step = make(head).double()
    batch = batch_of(step.model)
    total, terms = step(batch)
    assert terms.keys() == {"head2/ce", "head3/ce", "head4/ce"}
    total.backward()
    ours = {name: p.grad for name, p in step.named_parameters() if p.grad is not None}
    step.zero_grad()
    expected = naive(step, batch)
    torch.testing.assert_close(total, expected)
    expected.backward()
    theirs = {name: p.grad for name, p in step.named_parameters() if p.grad is not None}
    assert ours.keys() == theirs.keys() and len(ours) > 0
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).abs().max() <= 1e-9 * gradient.abs().max(), name


@pytest.mark.parametrize("head", TRAINABLE)
@pytest.mark.parametrize("precision", [None, "float32", "bfloat16"])
def test_head_1_stays_bit_for_bit(head: str, precision: str | None) -> None:
    step = make(head, trunk_precision=precision)
    model = step.model
    assert isinstance(model, Decoder) and isinstance(model.head, MultiTokenHead)
    before = {n: p.clone() for n, p in model.next_token_model().named_parameters()}
    further = [p.clone() for p in model.head.further_parameters()]
    optimizer = adamw(step, lr=1e-2, weight_decay=0.1, betas=(0.9, 0.95), eps=1e-8)
    batch, losses = batch_of(model), []
    for _ in range(8):
        total, _ = step(batch)
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total.item())
    assert losses[-1] < losses[0]
    after = dict(model.next_token_model().named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())
    pairs = zip(model.head.further_parameters(), further, strict=True)
    assert not any(torch.equal(*pair) for pair in pairs)


def test_labels_of_training_are_counted_for_drafts() -> None:
    step = make("multi_token_linear", "+head.draft_vocabulary=4")
    head, batch = step.model.head, batch_of(step.model)
    assert isinstance(head, MultiTokenHead) and head.token_counts is not None
    step.train()
    for _ in range(2):
        step(batch)[0].backward()
    labels = batch.labels[batch.labels >= 0]
    assert torch.equal(head.token_counts, 2 * torch.bincount(labels, minlength=VOCAB))
    step.eval()
    with torch.no_grad():
        step(batch)
    assert head.token_counts.sum() == 2 * len(labels), "validation is not counted"
    assert "model.head.token_counts" in step.state_dict()
    assert not any("token_counts" in name for name in make("multi_token").state_dict())


def test_the_trunk_keeps_no_graph_and_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    step = make("multi_token")
    calls: list[bool] = []
    trunk = type(step.model).trunk

    def noted(self: Decoder, batch: Batch) -> Tensor:
        calls.append(torch.is_inference_mode_enabled())
        return trunk(self, batch)

    monkeypatch.setattr(type(step.model), "trunk", noted)
    hidden = step.hidden(batch_of(step.model))
    assert not hidden.requires_grad and not hidden.is_inference()
    step(batch_of(step.model))[0].backward()
    assert calls == [True, True]


@pytest.mark.parametrize(
    "head",
    [name for name in TRAINABLE if name != "multi_token_causal"],  # one block after another
)
def test_further_heads_start_as_copies_of_head_1(head: str) -> None:
    step = make(head, copy_head_1=True).double()
    tokens = torch.tensor([[5, 6, 7, 8, 9]])
    before = step.model.logits(tokens)
    step.started()
    logits = step.model.logits(tokens)
    assert torch.equal(logits[:, :, 0], before[:, :, 0])
    if "replicated" in head:  # whose matrices are those of the weights that a model starts from
        step.model.head.share(step.model.head.unembedding())
        logits = step.model.logits(tokens)
    for offset in range(1, 4):
        torch.testing.assert_close(logits[:, :, offset], logits[:, :, 0], rtol=1e-3, atol=1e-3)


def test_validation_tells_the_loss_of_head_1_as_well() -> None:
    step = make("multi_token_linear").eval()
    batch = batch_of(step.model)
    with torch.no_grad():
        total, terms = step(batch)
        whole, expected = Objective(step.model, step.loss)(batch)
    assert terms == expected
    torch.testing.assert_close(total, whole - terms["ce"])


def test_the_trunk_has_no_dropout() -> None:
    config = composed("model=gpt2_tiny", "head=multi_token_linear", "tokenizer=byte")
    torch.manual_seed(0)
    model = build(
        config.model, "model", vocab_size=VOCAB, pad_id=PAD, eos_id=EOS,
        head=build(config.head, "head"),
    )  # fmt: skip
    loss = build(config.loss, "loss", number_values=torch.full((VOCAB,), torch.nan))
    step = FurtherHeads(model, loss, copy_head_1=False)
    batch = batch_of(model)
    for _ in ("as the trainer finds it", "after a validation"):
        assert torch.equal(step.hidden(batch), step.hidden(batch))
        step.eval().train()


@pytest.mark.parametrize(
    ("head", "overrides", "message"),
    [
        ("multi_token", ["head.n=1"], "and the model has one: choose head=multi_token"),
        ("multi_token_anticausal", ["head.n=2"], "whose further heads are a part of head 1"),
        ("multi_token", ["head.extra_layers=2"], "=2: .* set head.extra_layers=3"),
        ("multi_token_recurrent", ["head.extra_layers=0"], "=0: .* set head.extra_layers=1"),
    ],
)
def test_what_leaves_nothing_to_train_is_refused(
    head: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make(head, *overrides)


def test_choices_that_do_not_fit_are_refused() -> None:
    further = ["model=decoder_tiny", "objective=further_heads"]
    with pytest.raises(UsageError, match="heads 2 to n, which head LMHead does not have"):
        check_parts(compose([*further, "head=lm"]))
    with pytest.raises(UsageError, match="starts from random weights: name others with"):
        check_parts(compose([*further, "head=multi_token"]))
    check_parts(compose([*further, "head=multi_token", "+model.pretrained=somewhere"]))
