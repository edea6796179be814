"""Head by head is the same as all heads at once: values, gradients, means and memory of graphs."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from choices import choices, on_tokens, token_losses, with_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig
from torch import Tensor

from beyond_ce.batches.batch import IGNORED, Batch, future_labels
from beyond_ce.configuration import build, compose
from beyond_ce.models import T5, Decoder
from beyond_ce.models.heads import MultiTokenHead
from beyond_ce.training.objective import Objective

VOCAB, PAD, EOS = 30, 0, 1
PROMPTS = [[5, 6, 7, 8, 9], [10], [11, 12, 13]]
ANSWERS = [[20, EOS], [21, 22, 23, 3, 4, 5, 6, 7, 3, 9, 8, 4, EOS], [24, 25, EOS]]
VALUES = torch.full((VOCAB,), torch.nan)
VALUES[3:8] = torch.arange(5.0)


@cache
def composed(*overrides: str) -> DictConfig:
    return compose(overrides)


def objective(
    head: str = "multi_token", *overrides: str, loss: str = "ce", num_layers: int = 9
) -> Objective:
    torch.manual_seed(0)
    config = composed(f"head={head}", f"loss={loss}", *overrides)
    model = Decoder(
        VOCAB, PAD, EOS, build(config.head, "head"), dim=16, num_layers=num_layers,
        num_heads=2, max_length=32, multiple_of=8,
    )  # fmt: skip
    return Objective(model, build(config.loss, "loss", number_values=VALUES)).double()


def batch_of(step: Objective) -> Batch:
    return step.model.make_batch(PROMPTS, ANSWERS)


def naive(step: Objective, batch: Batch) -> Tensor:
    """All logits at once, one graph, the loss's entry from logits."""
    head, hidden = step.model.head, step.model.trunk(batch)
    losses = [
        step.loss(head.logits(hidden, i), future_labels(batch.labels, batch.segments, i)).total
        for i in range(head.n)
    ]
    return (torch.stack(losses) * torch.tensor(head.loss_weights)).sum()


def gradients(step: Objective, value: Tensor) -> dict[str, Tensor]:
    step.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in step.named_parameters() if p.grad is not None}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], relative: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        error = (ours[name] - gradient).abs().max()
        assert error <= relative * gradient.abs().max(), name


@pytest.mark.parametrize("n", [1, 2, 4, 8])
@pytest.mark.parametrize("unembedding", choices("head/unembedding"))
@pytest.mark.parametrize("block", choices("head/block"))
@pytest.mark.parametrize("head", with_blocks(MultiTokenHead))
def test_gradients_are_those_of_all_heads_at_once(
    head: str, block: str, unembedding: str, n: int
) -> None:
    step = objective(head, f"head.n={n}", f"head/block={block}", f"head/unembedding={unembedding}")
    batch = batch_of(step)
    total, terms = step(batch)
    torch.testing.assert_close(total, naive(step, batch), rtol=1e-12, atol=0)
    assert terms.keys() == {"ce", *(f"head{i}/ce" for i in range(2, n + 1))}
    # Twice the loss, as the gradient that comes from outside has to arrive.
    ours = gradients(step, 2 * total)
    assert_same(ours, gradients(step, 2 * naive(step, batch)), relative=1e-10)


@pytest.mark.parametrize("loss", token_losses())
def test_any_loss_is_on_every_head(loss: str) -> None:
    step = objective("multi_token", "head.n=3", "head.loss_weights=[1,0.5,0.25]", loss=loss)
    batch = batch_of(step)
    total, terms = step(batch)
    torch.testing.assert_close(total, naive(step, batch), rtol=1e-12, atol=0)
    ours = gradients(step, total)
    assert_same(ours, gradients(step, naive(step, batch)), relative=1e-10)
    of_one = step.loss(torch.zeros(1, 1, VOCAB).double(), torch.tensor([[3]])).terms
    assert terms.keys() == {f"{head}{term}" for head in ("", "head2/", "head3/") for term in of_one}
    assert not any(term.requires_grad for term in terms.values())


def test_heads_of_other_models_are_linear() -> None:
    config = compose(["head=multi_token", "head/block=linear", "head.n=2", "model=t5_tiny"])
    torch.manual_seed(0)
    model = build(
        config.model, "model", vocab_size=VOCAB, pad_id=PAD, eos_id=EOS,
        head=build(config.head, "head"),
    )  # fmt: skip
    assert isinstance(model, T5)
    step = Objective(model, build(config.loss, "loss", number_values=VALUES)).double().eval()
    batch = batch_of(step)
    total, _ = step(batch)
    assert_same(gradients(step, total), gradients(step, naive(step, batch)), relative=1e-10)


@pytest.mark.parametrize("head", on_tokens("head"))
def test_micro_batches_with_the_counts_of_all_give_the_gradient_of_all(head: str) -> None:
    step = objective(head)
    whole = batch_of(step)
    expected = gradients(step, step(whole)[0])
    parts = [
        step.model.make_batch(PROMPTS[rows], ANSWERS[rows]) for rows in (slice(0, 1), slice(1, 3))
    ]
    counted = [step.counts(part) for part in parts]
    counts = {name: sum(each[name] for each in counted) for name in counted[0]}
    assert counts == step.counts(whole)
    step.zero_grad()
    for part in parts:
        step(part, counts)[0].backward()
    ours = {name: p.grad for name, p in step.named_parameters() if p.grad is not None}
    assert_same(ours, expected, relative=1e-10)


def test_a_later_head_is_a_mean_over_its_own_positions() -> None:
    """By hand: one row of 3 labels has 3, 2, 1 and 0 of them for heads 1 to 4."""
    step = objective("multi_token", "head.n=4")
    batch = step.model.make_batch([[5]], [[6, 7, EOS]])
    counts = step.counts(batch)
    assert [int(count) for count in counts.values()] == [3, 2, 1, 0]
    _, terms = step(batch)
    log_p = step.model.logits(batch.input_ids).log_softmax(-1)[0]
    by_hand = -(log_p[0, 1, 7] + log_p[1, 1, EOS]) / 2
    torch.testing.assert_close(terms["head2/ce"], by_hand.detach())
    torch.testing.assert_close(terms["head3/ce"], -log_p[0, 2, EOS].detach())
    assert terms["head4/ce"] == 0


@given(st.lists(st.lists(st.integers(2, 9), min_size=1, max_size=6), min_size=1, max_size=4))
@settings(deadline=None, max_examples=50)
def test_no_label_crosses_a_document(documents: list[list[int]]) -> None:
    """Heads on documents in one row see what they would see on each document alone."""
    row = [token for document in documents for token in (*document, EOS)]
    inputs, labels = torch.tensor([row[:-1]]), torch.tensor([row[1:]])
    ends = inputs == EOS
    labels = labels.masked_fill(ends, IGNORED)
    segments = ends.long().cumsum(1) - ends.long()
    for offset in range(4):
        alone: list[int] = []
        for document in documents:
            targets = [*document[1:], EOS, IGNORED]  # after the end token nothing follows
            moved = targets[offset:] + [IGNORED] * offset
            alone += moved[: len(targets)]
        expected = torch.tensor([alone[: len(row) - 1]])
        assert torch.equal(future_labels(labels, segments, offset), expected)


def test_nothing_is_predicted_from_beyond_the_row() -> None:
    labels = torch.tensor([[4, 5]])
    assert future_labels(labels, None, 1).tolist() == [[5, IGNORED]]
    assert future_labels(labels, torch.zeros(1, 2), 5).tolist() == [[IGNORED, IGNORED]]


def test_under_autocast_the_gradients_are_near() -> None:
    step = objective("multi_token_causal").float()
    batch = batch_of(step)
    expected = gradients(step, step(batch)[0])
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = step(batch)
    assert_same(gradients(step, total), expected, relative=0.1)


def test_without_gradients_nothing_is_kept() -> None:
    step = objective()
    with torch.no_grad():
        total, _ = step(batch_of(step))
    assert not total.requires_grad
    torch.testing.assert_close(total, naive(step, batch_of(step)).detach())


def test_the_graph_can_be_used_once() -> None:
    step = objective()
    total, _ = step(batch_of(step))
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        total.backward()


def test_at_no_time_are_two_heads_logits_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head's logits are worked on and dropped before the next head's block runs."""
    events: list[str] = []
    step = objective("multi_token", "head.n=3")
    advance, backward = type(step.model.head).advance, torch.autograd.grad

    def noted(self: Any, hidden: Tensor, offset: int) -> Tensor:
        events.append(f"forward {offset}")
        return advance(self, hidden, offset)

    def taken(*args: Any, **kwargs: Any) -> Any:
        events.append("backward")
        return backward(*args, **kwargs)

    monkeypatch.setattr(type(step.model.head), "advance", noted)
    monkeypatch.setattr(torch.autograd, "grad", taken)
    step(batch_of(step))
    assert events == [
        each for i in range(3) for each in (f"forward {i}", "backward", "backward")
    ]  # fmt: skip


def test_torch_compile_leaves_the_gradients_as_they_are() -> None:
    step = objective("multi_token", "head.n=2", num_layers=3)  # each layer takes time to trace
    batch = batch_of(step)
    expected = gradients(step, step(batch)[0])
    total, _ = torch.compile(step, backend="eager")(batch)
    assert_same(gradients(step, total), expected, relative=1e-10)
