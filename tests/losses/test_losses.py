"""What holds for every loss: values, gradients, entries, denominators, dtypes, compilation."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from choices import choices, token_losses

from beyond_ce.losses import Loss

every_loss = pytest.mark.parametrize("name", token_losses())


def gradient(output, *inputs):
    return torch.autograd.grad(output.total, inputs)


@every_loss
def test_equals_float64_brute_force(lab, name):
    logits, labels = lab.batch()
    output, expected = lab.loss(name)(logits, labels), lab.brute_force(name, logits, labels)
    assert output.terms.keys() == expected.terms.keys()
    for term, value in expected.terms.items():
        assert output.terms[term].item() == pytest.approx(value, rel=1e-12)
    assert output.total.item() == pytest.approx(expected.total, rel=1e-12)


@every_loss
def test_gradcheck(lab, name):
    logits, labels = lab.batch(rows=(2, 5))
    loss = lab.loss(name)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels).total, (logits,))


@every_loss
@pytest.mark.parametrize("chunked", [False, True])
def test_from_hidden_equals_logits(lab, name, chunked, monkeypatch):
    if chunked:
        module = "beyond_ce.losses.sparse_cross_entropy"
        monkeypatch.setattr(f"{module}.CPU_MATMUL_CHUNK_BYTES", 8 * lab.padded * 5)
        monkeypatch.setattr(f"{module}.CPU_CHUNK_BYTES", 8 * lab.padded * 2)
    _, labels = lab.batch()
    hidden = torch.randn(3, 8, 6, dtype=torch.float64, requires_grad=True)
    unembedding = torch.randn(lab.padded, 6, dtype=torch.float64, requires_grad=True)
    loss = lab.loss(name)
    logits = hidden @ unembedding.T
    ours, reference = loss.from_hidden(hidden, unembedding, labels), loss(logits, labels)
    torch.testing.assert_close(ours.total, reference.total, rtol=1e-12, atol=0)
    for term in reference.terms:
        torch.testing.assert_close(ours.terms[term], reference.terms[term], rtol=1e-12, atol=0)
    torch.testing.assert_close(
        gradient(ours, hidden, unembedding),
        gradient(reference, hidden, unembedding),
        rtol=1e-10,
        atol=1e-14,
    )


@every_loss
def test_from_hidden_with_a_frozen_side(lab, name):
    _, labels = lab.batch()
    hidden = torch.randn(3, 8, 6, dtype=torch.float64, requires_grad=True)
    unembedding = torch.randn(lab.padded, 6, dtype=torch.float64, requires_grad=True)
    loss = lab.loss(name)
    both = gradient(loss.from_hidden(hidden, unembedding, labels), hidden, unembedding)
    (only_hidden,) = gradient(loss.from_hidden(hidden, unembedding.detach(), labels), hidden)
    (only_w,) = gradient(loss.from_hidden(hidden.detach(), unembedding, labels), unembedding)
    assert torch.equal(only_hidden, both[0])
    assert torch.equal(only_w, both[1])


def test_from_hidden_computes_no_gradients_in_evaluation(lab, monkeypatch):
    def refuse(*_):
        raise AssertionError("a gradient was computed")

    monkeypatch.setattr("beyond_ce.losses.sparse_cross_entropy._add_product", refuse)
    _, labels = lab.batch()
    hidden = torch.randn(3, 8, 6, requires_grad=True)
    unembedding = torch.randn(lab.padded, 6, requires_grad=True)
    with torch.no_grad():
        total = lab.loss("ntl_was").from_hidden(hidden, unembedding, labels).total
    assert total.isfinite()


def test_from_hidden_refuses_a_second_backward(lab):
    _, labels = lab.batch()
    hidden = torch.randn(3, 8, 6, dtype=torch.float64, requires_grad=True)
    total = lab.loss("ce").from_hidden(hidden, torch.randn(lab.padded, 6).double(), labels).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


@every_loss
def test_chunks_change_nothing(lab, name, monkeypatch):
    logits, labels = lab.batch()
    whole = lab.loss(name)(logits, labels)
    expected = gradient(whole, logits)
    monkeypatch.setattr("beyond_ce.losses.sparse_cross_entropy.CPU_CHUNK_BYTES", 1)  # row by row
    chunked = lab.loss(name)(logits, labels)
    assert torch.equal(chunked.total, whole.total)
    assert torch.equal(gradient(chunked, logits)[0], expected[0])


@every_loss
@pytest.mark.parametrize("entry", ["logits", "hidden"])
def test_micro_batches_with_shared_counts_equal_the_batch(lab, name, entry):
    _, labels = lab.batch()
    labels[1] = -100  # micro-batches of different sizes
    hidden = torch.randn(3, 8, 6, dtype=torch.float64, requires_grad=True)
    unembedding = torch.randn(lab.padded, 6, dtype=torch.float64, requires_grad=True)
    loss = lab.loss(name)

    def run(rows, counts=None):
        if entry == "hidden":
            return loss.from_hidden(hidden[rows], unembedding, labels[rows], counts)
        return loss(hidden[rows] @ unembedding.T, labels[rows], counts)

    whole = run(slice(None))
    counts = loss.counts(labels)
    parts = [run(slice(0, 1), counts), run(slice(1, 3), counts)]
    total = parts[0].total + parts[1].total
    torch.testing.assert_close(total, whole.total, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(total, (hidden, unembedding)),
        gradient(whole, hidden, unembedding),
        rtol=1e-12,
        atol=1e-14,
    )


@every_loss
def test_a_devices_share_of_a_count_may_be_below_one(lab, name):
    """Four devices, of which one has a label, average their gradients."""
    logits, labels = lab.batch()
    labels[:, 1:], labels[1:] = -100, -100
    labels[0, 0] = lab.digits[3]
    loss = lab.loss(name)
    shares = {key: count / 4 for key, count in loss.counts(labels).items()}
    output, whole = loss(logits, labels, shares), loss(logits, labels)
    torch.testing.assert_close(output.total / 4, whole.total, rtol=1e-12, atol=0)


@every_loss
def test_without_number_tokens_it_is_cross_entropy(lab, name):
    logits, labels = lab.batch()
    labels = torch.where(torch.isin(labels, torch.tensor(lab.digits)), 0, labels)
    output, ce = lab.loss(name)(logits, labels), lab.loss("ce")(logits, labels)
    assert output.total.item() == ce.total.item()  # bitwise
    torch.testing.assert_close(gradient(output, logits), gradient(ce, logits), rtol=0, atol=1e-16)
    reference = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(ce.total, reference, rtol=1e-12, atol=0)


@every_loss
def test_the_ce_term_is_bitwise_cross_entropy(lab, name):
    logits, labels = lab.batch()
    terms = lab.loss(name)(logits, labels).terms
    if "ce" not in terms:
        pytest.skip("it has another term in the place of cross-entropy")
    assert terms["ce"].item() == lab.loss("ce")(logits, labels).total.item()


@every_loss
def test_without_labels_loss_and_gradient_are_zero(lab, name):
    logits, labels = lab.batch()
    output = lab.loss(name)(logits, torch.full_like(labels, -100))
    assert output.total.item() == 0.0
    assert not gradient(output, logits)[0].any()


@every_loss
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
def test_skipped_chunks_may_hold_anything(lab, name, poison, monkeypatch):
    monkeypatch.setattr("beyond_ce.losses.sparse_cross_entropy.CPU_CHUNK_BYTES", 1)
    logits, labels = lab.batch()
    clean = lab.loss(name)(logits, labels).total
    with torch.no_grad():
        logits[labels == -100] = poison
    output = lab.loss(name)(logits, labels)
    assert torch.equal(output.total, clean)
    assert gradient(output, logits)[0].isfinite().all()


@every_loss
def test_masked_columns_give_finite_gradients(lab, name):
    """-inf forbids tokens: here the padded columns, and digits where the label is a word."""
    logits, labels = lab.batch()
    labels = labels.clamp(max=19)
    with torch.no_grad():
        logits[..., 20:] = -torch.inf
        word = ~torch.isin(labels, torch.tensor(lab.digits))
        digits = torch.zeros(lab.padded, dtype=torch.bool)
        digits[lab.digits] = True
        logits[word[..., None] & digits] = -torch.inf
    output = lab.loss(name)(logits, labels)
    assert output.total.isfinite()
    assert gradient(output, logits)[0].isfinite().all()


@every_loss
def test_a_constant_added_to_the_logits_changes_nothing(lab, name):
    logits, labels = lab.batch()
    loss = lab.loss(name)
    shifted = loss(logits + 100.0, labels).total
    torch.testing.assert_close(shifted, loss(logits, labels).total, rtol=1e-10, atol=0)


@every_loss
def test_permuting_the_vocabulary_changes_nothing(lab, name):
    logits, labels = lab.batch()
    labels = labels.clamp(max=19)
    order = torch.randperm(20)
    place = order.argsort()
    permuted = lab.loss(name, lab.number_values()[order])(
        logits[..., torch.cat([order, torch.tensor([20, 21, 22])])],
        torch.where(labels == -100, -100, place[labels.clamp(min=0)]),
    )
    total = lab.loss(name)(logits, labels).total
    torch.testing.assert_close(permuted.total, total, rtol=1e-12, atol=0)


@every_loss
def test_bfloat16_logits_are_summed_in_float32(lab, name):
    logits, labels = lab.batch(rows=(4, 64))
    logits = logits.detach().bfloat16().requires_grad_()
    exact = logits.detach().double().requires_grad_()
    loss = lab.loss(name, lab.number_values(torch.float32))
    output, reference = loss(logits, labels), loss(exact, labels)
    assert output.total.dtype == torch.float32
    assert output.total.item() == pytest.approx(reference.total.item(), rel=1e-6)
    (ours,), (expected,) = gradient(output, logits), gradient(reference, exact)
    assert ours.dtype == torch.bfloat16
    # Rounded once, at the end: half a unit in the last of 8 bits.
    torch.testing.assert_close(ours.double(), expected, rtol=2**-8, atol=1e-7)


@every_loss
def test_bfloat16_hidden_states(lab, name):
    _, labels = lab.batch(rows=(4, 64))
    inputs = [torch.randn(n, 6).bfloat16().requires_grad_() for n in (256, lab.padded)]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    loss = lab.loss(name, lab.number_values(torch.float32))
    output, reference = (
        loss.from_hidden(hidden.view(4, 64, 6), unembedding, labels)
        for hidden, unembedding in (inputs, exact)
    )
    assert output.total.dtype == torch.float32
    assert output.total.item() == pytest.approx(reference.total.item(), rel=5e-3)
    for ours, expected in zip(gradient(output, *inputs), gradient(reference, *exact), strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours.double() - expected).norm() < 0.1 * expected.norm()


@every_loss
def test_bfloat16_autocast(lab, name):
    _, labels = lab.batch(rows=(4, 64))
    hidden = torch.randn(4, 64, 6, requires_grad=True)
    unembedding = torch.randn(lab.padded, 6, requires_grad=True)
    loss = lab.loss(name, lab.number_values(torch.float32))
    reference = loss(hidden @ unembedding.T, labels)
    expected = gradient(reference, hidden, unembedding)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = [
            loss(hidden @ unembedding.T, labels),
            loss.from_hidden(hidden, unembedding, labels),
        ]
    for output in outputs:
        assert output.total.dtype == torch.float32
        assert output.total.item() == pytest.approx(reference.total.item(), rel=5e-3)
        for ours, exact in zip(gradient(output, hidden, unembedding), expected, strict=True):
            assert ours.dtype == torch.float32
            assert (ours - exact).norm() < 0.1 * exact.norm()


def compiled(loss: Loss, entry: str, backend: str):
    def total(*inputs: torch.Tensor) -> torch.Tensor:
        return (loss.from_hidden if entry == "hidden" else loss)(*inputs).total

    torch._dynamo.reset()
    return torch.compile(total, fullgraph=True, backend=backend)


def check_compiled(lab, name: str, entry: str, backend: str) -> None:
    logits, labels = lab.batch()
    hidden = torch.randn(3, 8, 6, dtype=torch.float64, requires_grad=True)
    unembedding = torch.randn(lab.padded, 6, dtype=torch.float64, requires_grad=True)
    inputs = (hidden, unembedding) if entry == "hidden" else (logits,)
    loss = lab.loss(name)
    reference = (loss.from_hidden if entry == "hidden" else loss)(*inputs, labels)
    total = compiled(loss, entry, backend)(*inputs, labels)
    torch.testing.assert_close(total, reference.total, rtol=1e-10, atol=0)
    expected = gradient(reference, *inputs)
    torch.testing.assert_close(torch.autograd.grad(total, inputs), expected, rtol=1e-9, atol=1e-12)


@every_loss
@pytest.mark.parametrize("entry", ["logits", "hidden"])
def test_compiles_without_graph_breaks(lab, name, entry):
    check_compiled(lab, name, entry, "aot_eager")


@pytest.mark.slow
@every_loss
@pytest.mark.parametrize("entry", ["logits", "hidden"])
def test_compiles_with_inductor(lab, name, entry):
    check_compiled(lab, name, entry, "inductor")


@every_loss
@pytest.mark.parametrize("label", [-1, -101, 23])
def test_labels_out_of_range(lab, name, label):
    logits, labels = lab.batch()
    labels[0, 1] = label
    with pytest.raises(ValueError, match=f"label {label} is outside the 23 columns"):
        lab.loss(name)(logits, labels)


def test_shapes_that_do_not_fit(lab):
    logits, labels = lab.batch()
    with pytest.raises(ValueError, match=r"labels have shape \(3, 7\)"):
        lab.loss("ce")(logits, labels[:, :-1])
    with pytest.raises(ValueError, match="19 columns, fewer than the vocabulary's 20"):
        lab.loss("ntl_was")(logits[..., :19], labels.clamp(max=18))


@every_loss
def test_nothing_goes_into_checkpoints(lab, name):
    assert not lab.loss(name).state_dict()


def a_batch(lab, target: str) -> tuple[torch.Tensor, torch.Tensor, Callable[..., bool]]:
    """Predictions and labels for losses of this target, and whether the first fit the second."""
    logits, ids = lab.batch()
    ids[ids == -100] = 0
    numbers = torch.linspace(-2, 2, ids.numel()).view(*ids.shape, 1)

    def tokens_fit(logits: torch.Tensor, labels: torch.Tensor) -> bool:
        return torch.equal(logits.argmax(-1), labels)

    def values_fit(values: torch.Tensor, labels: torch.Tensor) -> bool:
        return torch.allclose(values, labels, atol=0.01)

    def both_fit(predictions: torch.Tensor, labels: torch.Tensor) -> bool:
        return tokens_fit(predictions[..., :-1], labels[..., 0].long()) and values_fit(
            predictions[..., -1], labels[..., 1]
        )

    batches = {
        "tokens": (logits, ids, tokens_fit),
        "value": (torch.zeros(24, 1), numbers.view(24, 1), values_fit),
        "tokens and values": (
            torch.cat([logits.float(), torch.zeros_like(numbers)], -1),
            torch.cat([ids[..., None].float(), numbers], -1),
            both_fit,
        ),
    }
    if target not in batches:
        pytest.fail(f"no batch of target '{target}': write it in tests/losses/test_losses.py")
    return batches[target]


@pytest.mark.parametrize("name", choices("loss"))
def test_overfitting_a_batch_reaches_its_labels(lab, name):
    """Those on tokens pull the mass onto the labels, those on values pull the values to them."""
    loss = lab.loss(name)
    predictions, labels, fit = a_batch(lab, loss.target)
    x = predictions.detach().clone().requires_grad_()
    assert not fit(x, labels)
    optimizer = torch.optim.Adam([x], lr=0.3)
    for _ in range(150):
        optimizer.zero_grad()
        loss(x, labels).total.backward()
        optimizer.step()
    assert fit(x, labels)
