"""Whole numbers by hand, against the authors' package, and what makes a number."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from beyond_ce.errors import UsageError
from beyond_ce.losses import NumberLevelLoss

POINT, MINUS, WORD = 0, 1, 10  # tokens that are no digits


def make_loss(lab, dtype=torch.float64, with_points=True) -> NumberLevelLoss:
    points = torch.arange(20) == POINT
    return NumberLevelLoss(lab.number_values(dtype), decimal_points=points if with_points else None)


def tokens(lab, text: str) -> list[int]:
    """Digits, ".", "-", "w" for a word, "_" for an ignored label."""
    others = {".": POINT, "-": MINUS, "w": WORD, "_": -100}
    return [others[c] if c in others else lab.digits[int(c)] for c in text]


def certain(lab, texts: list[str]) -> torch.Tensor:
    """Logits [B, T, V'] with all mass on the tokens of texts; all digits alike elsewhere."""
    ids = torch.tensor([tokens(lab, text) for text in texts])
    logits = torch.zeros(*ids.shape, lab.padded, dtype=torch.float64)
    return logits.scatter(-1, ids.clamp(min=0)[..., None], 1000.0)


def ntl(lab, predicted: list[str], labels: list[str], **settings) -> float:
    ids = torch.tensor([tokens(lab, text) for text in labels])
    return make_loss(lab, **settings)(certain(lab, predicted), ids).terms["ntl"].item()


@pytest.mark.parametrize(
    ("predicted", "label", "expected"),
    [
        ("123", "123", 0.0),
        ("100", "300", 200 / 400),
        ("1234", "1235", 1 / 2469),  # a wrong last digit is nearly right,
        ("2234", "1234", 1000 / 3468),  # a wrong first digit far off
        ("-100", "-300", 0.5),  # the sign is the label's on both sides
        ("1.00", "3.00", 0.5),
        ("12.5", "12.7", 0.2 / 25.2),
        ("0.5", "0.3", 0.2 / 0.8),
        ("0", "0", 0.0),
        ("3", "0", 1.0),
        # Two numbers: the mean of their errors, 0 and 1/2.
        ("12w10", "12w30", 0.25),
        ("12-10", "12-30", 0.25),
        ("12_10", "12_30", 0.25),
        ("12..10", "12..30", 0.25),
        ("12.w10", "12.w30", 0.25),
        (".10", ".30", 0.5),
        ("10.", "30.", 0.5),
        ("1.2.3", "1.2.8", 5 / 251),  # one number, 1.23 for 1.28
        ("wwww", "w-w.", 0.0),
    ],
)
def test_by_hand(lab, predicted, label, expected):
    assert ntl(lab, [predicted], [label]) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_expected_digits_by_hand(lab):
    """Digits 2 and 6 with equal mass at both places of 12: yhat = 44, so 32 / 56."""
    logits = torch.full((1, 2, lab.padded), -1000.0, dtype=torch.float64)
    logits[..., [lab.digits[2], lab.digits[6]]] = 5.0
    labels = torch.tensor([tokens(lab, "12")])
    term = make_loss(lab)(logits, labels).terms["ntl"]
    assert term.item() == pytest.approx(32 / 56, rel=1e-12)


def test_numbers_end_with_their_row(lab):
    assert ntl(lab, ["w1", "1w"], ["w3", "3w"]) == pytest.approx(0.5)
    assert ntl(lab, ["w1", "1w"], ["w1", "3w"]) == pytest.approx(0.25)


def test_the_mean_runs_over_numbers(lab):
    output = make_loss(lab).counts(torch.tensor([tokens(lab, "123w4_5.6w")]))
    assert {name: int(count) for name, count in output.items()} == {"tokens": 9, "numbers": 3}


def test_without_points_12_34_is_two_numbers(lab):
    assert ntl(lab, ["12.10"], ["12.30"], with_points=False) == pytest.approx(0.25)
    assert ntl(lab, ["12.10"], ["12.30"]) == pytest.approx(0.2 / 24.4)


@pytest.mark.parametrize("digits", [12, 20, 60])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_long_numbers(lab, digits, dtype):
    label = torch.tensor([tokens(lab, "9" * digits)])
    logits = torch.randn(1, digits, lab.padded).to(dtype).requires_grad_()
    loss = make_loss(lab, torch.float32)
    output = loss(logits, label)
    (gradient,) = torch.autograd.grad(output.total, logits)
    assert output.total.isfinite() and gradient.isfinite().all()
    expected = lab.brute_force_numbers(logits, label, POINT)
    assert output.terms["ntl"].item() == pytest.approx(expected[0], rel=1e-5)


# -- the authors' package -------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ["logits", "hidden"])
@pytest.mark.parametrize("points", [True, False])
def test_agrees_with_the_authors_package(lab, authors_tokenizer, points, entry):
    ntloss = pytest.importorskip("ntloss")
    reference = ntloss.NumberLevelLoss(authors_tokenizer, float_level=points, reweigh=False)
    loss = make_loss(lab, torch.float32, with_points=points)
    texts = ["w123.45w6.7w-8", "12345678901234", "0w00w.5w5.w0.05", "1..2w3_4w5.6.7"]
    rows = [tokens(lab, text) for text in texts]
    labels = torch.tensor([row + [-100] * (16 - len(row)) for row in rows])
    # ntloss allows no padded columns
    hidden, unembedding = (torch.randn(*n, requires_grad=True) for n in ((4, 16, 6), (20, 6)))
    x = hidden @ unembedding.T
    inputs = (hidden, unembedding)
    output = loss.from_hidden(*inputs, labels) if entry == "hidden" else loss(x, labels)
    ntl = reference(x, labels)
    torch.testing.assert_close(output.terms["ntl"], ntl, rtol=1e-5, atol=0)
    total = F.cross_entropy(x.flatten(0, 1), labels.flatten()) + 0.3 * ntl
    torch.testing.assert_close(output.total, total, rtol=1e-5, atol=0)
    expected = torch.autograd.grad(total, inputs, retain_graph=True)
    torch.testing.assert_close(
        torch.autograd.grad(output.total, inputs), expected, rtol=1e-5, atol=1e-6
    )


# -- properties -----------------------------------------------------------------------------------

rows = st.lists(st.text("0123456789.-w_", min_size=9, max_size=9), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(0, 1000))
def test_equals_brute_force(lab, texts, seed):
    logits, _ = lab.batch(seed, (len(texts), 9))
    labels = torch.tensor([tokens(lab, text) for text in texts])
    loss = make_loss(lab)
    expected = lab.brute_force_numbers(logits, labels, POINT)
    assert int(loss.counts(labels)["numbers"]) == len(expected)
    mean = sum(expected) / max(len(expected), 1)
    assert loss(logits, labels).terms["ntl"].item() == pytest.approx(mean, rel=1e-9, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(rows, st.integers(0, 1000))
def test_rows_may_come_in_any_order_and_with_any_padding(lab, texts, seed):
    logits, _ = lab.batch(seed, (len(texts), 12))
    labels = torch.full((len(texts), 12), -100)
    labels[:, :9] = torch.tensor([tokens(lab, text) for text in texts])
    loss = make_loss(lab)
    whole = loss(logits[:, :9], labels[:, :9])
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))
    shifted = [tensor[order].roll(2, 1) for tensor in (logits, labels)]
    torch.testing.assert_close(loss(*shifted).total, whole.total, rtol=1e-10, atol=1e-14)


@settings(max_examples=30, deadline=None)
@given(st.text("0123456789", min_size=1, max_size=15), st.text("0123456789", min_size=15))
def test_between_0_and_1_and_0_only_for_the_number_itself(lab, label, other):
    predicted = other[: len(label)]
    value = ntl(lab, [predicted], [label])
    assert 0 <= value <= 1
    assert (value == 0) == (predicted == label)


@settings(max_examples=30, deadline=None)
@given(st.text("0123456789", min_size=4, max_size=9), st.integers(1, 3), st.integers(0, 1000))
def test_a_point_and_a_sign_change_nothing(lab, number, place, seed):
    """123 and -1.23 with the same predicted digits have the same relative error."""
    logits, _ = lab.batch(seed, (1, 11))
    marked = f"-{number[:place]}.{number[place:]}"
    kept = [t for t, c in enumerate(marked) if c.isdigit()]
    loss = make_loss(lab)
    with_marks = loss(logits[:, : len(marked)], torch.tensor([tokens(lab, marked)]))
    plain = loss(logits[:, kept], torch.tensor([tokens(lab, number)]))
    torch.testing.assert_close(with_marks.terms["ntl"], plain.terms["ntl"], rtol=1e-12, atol=0)


# -- vocabularies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [10.0, 0.5, -1.0])
def test_number_tokens_that_are_no_digit_are_refused(lab, value):
    values = lab.number_values()
    values[12] = value
    with pytest.raises(UsageError, match=r"needs a token for each digit.*tokenizer=digit"):
        lab.loss("ntl_number_level", values)


def test_two_tokens_of_one_digit(lab):
    """As "1" and "▁1": either starts a number, and mass on either is mass on the digit."""
    values = torch.tensor([torch.nan, 0, 1, 2, 1], dtype=torch.float64)
    logits = torch.randn(1, 2, 5, dtype=torch.float64)
    expected = logits[0, :, 1:].softmax(-1) @ values[1:]
    y, yhat = 12.0, float(10 * expected[0] + expected[1])
    term = NumberLevelLoss(values)(logits, torch.tensor([[4, 3]])).terms["ntl"]
    assert term.item() == pytest.approx(abs(yhat - y) / (yhat + y), rel=1e-12)
