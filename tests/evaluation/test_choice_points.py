from __future__ import annotations

import json
import math

import datasets
import numpy as np
import pytest
import torch
from small_decoders import byte_decoder
from torch.nn import functional as F

from beyond_ce.analysis.choice_points import terms
from beyond_ce.data import ChoiceLanguage
from beyond_ce.data.languages import Structure
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import LikelyChoicePoints, MarkedChoicePoints, Subject
from beyond_ce.evaluation.choice_points import KINDS, kinds_of_terms
from beyond_ce.tokenizers import ByteTokenizer

TEXT = "Aqwe01Brty10Aqwe11Aqwe00"
STRUCTURE = {"choices": [0, 6, 12, 18], "free": [4, 5, 10, 11, 16, 17, 22, 23]}


def documents(text: str = TEXT) -> datasets.Dataset:
    columns = {"text": [text], "task": ["x"], "structure": [json.dumps(STRUCTURE)]}
    return datasets.Dataset.from_dict(columns)


def kind_by_hand(position: int, target: int) -> str:
    if target in STRUCTURE["free"]:
        return "free"
    spanned = any(position < choice <= target for choice in STRUCTURE["choices"])
    return "choice" if spanned else "settled"


@pytest.mark.parametrize("n", [1, 3])
def test_every_term_has_its_kind(n: int) -> None:
    kinds = kinds_of_terms(Structure(**STRUCTURE).part(0, 20 + n), 20, n)
    for t in range(20):
        for i in range(n):
            assert KINDS[kinds[t, i]] == kind_by_hand(t, t + 1 + i)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_losses_and_gradients_are_divided_without_a_rest(n: int) -> None:
    """Against the same sums, one term at a time, on one window."""
    model, context = byte_decoder(n), 20
    evaluator = MarkedChoicePoints(batch_size=2, context=context, windows=5)
    result = evaluator(Subject(model, ByteTokenizer(), "cpu"), documents())
    ids = list(TEXT.encode())
    logits = model.logits(torch.tensor([ids[:context]]))[0].double()
    sums = {kind: torch.zeros((), dtype=torch.float64) for kind in KINDS}
    counts = dict.fromkeys(KINDS, 0)
    for t in range(context):
        for i in range(n):
            kind = kind_by_hand(t, t + 1 + i)
            sums[kind] = sums[kind] + F.cross_entropy(logits[t, i], torch.tensor(ids[t + 1 + i]))
            counts[kind] += 1
    heads = {id(weight) for weight in model.head.parameters()}
    trunk = [weight for weight in model.parameters() if id(weight) not in heads]
    norms = {}
    for kind, loss in sums.items():
        gradient = torch.autograd.grad(loss, trunk, retain_graph=True, materialize_grads=True)
        norms[kind] = math.sqrt(sum(float(g.double().pow(2).sum()) for g in gradient))
    total = float(sum(loss.detach() for loss in sums.values()))
    metrics = result.metrics
    for kind in KINDS:
        share = float(sums[kind].detach()) / total
        assert metrics[f"loss_share@{kind}"] == pytest.approx(share, rel=1e-5)
        share = norms[kind] / sum(norms.values())
        assert metrics[f"gradient_share@{kind}"] == pytest.approx(share, rel=1e-4)
        assert result.predictions[f"terms_{kind}"].sum() == counts[kind]
    # Of the places 1 to 20, three are choices and six are free.
    assert metrics["terms_per_choice"] == counts["choice"] / 3
    assert metrics["loss_per_free"] == pytest.approx(float(sums["free"].detach()) / 6, rel=1e-5)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_terms_are_those_of_the_papers_argument(n: int, tmp_path: object) -> None:
    data = ChoiceLanguage(
        **{"choices": 3, "consequences": 7, "distance": 16, "seed": 0, "length": 16 * 20},
        **{"train_documents": 1, "validation_documents": 1, "test_documents": 2},
        **{"sequence_length": 32, "cache_dir": str(tmp_path)},
    )
    evaluator = MarkedChoicePoints(batch_size=4, context=32, windows=100)
    subject = Subject(byte_decoder(n), ByteTokenizer(), "cpu")
    metrics = evaluator(subject, data.load()["test"]).metrics
    # The first window of a document lacks the terms that its first letters would have had.
    assert metrics["terms_per_choice"] == pytest.approx(terms(n, 8), rel=0.06)
    assert metrics["terms_per_free"] == pytest.approx(terms(n, 1), rel=0.06)
    shares = [metrics[f"{part}_share@{kind}"] for part in ("loss", "gradient") for kind in KINDS]
    assert sum(shares) == pytest.approx(2)


def test_likely_choice_points_have_the_highest_entropy() -> None:
    model = byte_decoder(2)
    evaluator = LikelyChoicePoints(batch_size=2, context=12, windows=9, share=0.25)
    text = "".join(map(chr, np.random.default_rng(0).integers(97, 123, 60)))
    subject = Subject(model, ByteTokenizer(), "cpu")
    result = evaluator(subject, documents(text))
    windows = evaluator._windows([list(text.encode())], 2)
    structures = evaluator._structures(subject, documents(text), windows)
    entropies, chosen = [], []
    for window, structure in zip(windows, structures, strict=True):
        log_p = model.logits(torch.tensor([window.tokens]))[0, :, 0].detach().log_softmax(-1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        for place in range(1, len(window.tokens)):
            entropies.append(float(entropy[place - 1]))
            chosen.append(place in structure.choices)
    assert np.mean(chosen) == pytest.approx(0.25, abs=1 / len(chosen))
    least = min(e for e, is_chosen in zip(entropies, chosen, strict=True) if is_chosen)
    most = max(e for e, is_chosen in zip(entropies, chosen, strict=True) if not is_chosen)
    assert least >= most - 1e-5
    assert "loss_share@choice" in result.metrics
    assert "loss_share@free" not in result.metrics


def test_documents_that_are_too_short_are_refused() -> None:
    evaluator = MarkedChoicePoints(batch_size=2, context=22, windows=5)
    with pytest.raises(UsageError, match="no document has the 26 tokens"):
        evaluator(Subject(byte_decoder(4), ByteTokenizer(), "cpu"), documents())


def test_the_tokens_after_the_last_position_must_fit_as_well() -> None:
    evaluator = LikelyChoicePoints(batch_size=2, context=62, windows=5, share=0.1)
    subject = Subject(byte_decoder(4), ByteTokenizer(), "cpu")
    with pytest.raises(UsageError, match="heads - 1=65 exceeds the model's context of 64 tokens"):
        evaluator(subject, documents("ab" * 60))
