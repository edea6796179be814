from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
from small_decoders import byte_decoder

from beyond_ce.errors import UsageError
from beyond_ce.evaluation import RelativeInformation, Subject
from beyond_ce.models import Decoder
from beyond_ce.tokenizers import ByteTokenizer

TEXTS = ["def f(x):\n    return x\n", "print(f(3))\n"]


def documents() -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": TEXTS, "task": ["a", "b"]})


def decoder(n: int) -> Decoder:
    model = byte_decoder(n)
    for weight in model.parameters():  # far from uniform predictions
        weight.data *= 3
    return model


@pytest.mark.parametrize("candidates", [1, 5, 1000])
def test_values_are_the_sums_over_all_next_tokens(candidates: int) -> None:
    model = decoder(2)
    evaluator = RelativeInformation(batch_size=3, context=6, contexts=5, candidates=candidates)
    result = evaluator(Subject(model, ByteTokenizer(), "cpu"), documents())
    ends = [(i, end) for i, text in enumerate(TEXTS) for end in range(6, len(text) - 1)]
    kept = [ends[i] for i in np.linspace(0, len(ends) - 1, 5).round().astype(int)]
    assert len(result.predictions) == 5
    for row, (i, end) in zip(result.predictions.itertuples(), kept, strict=True):
        ids = list(TEXTS[i].encode())
        context = ids[end - 6 : end]
        logits = model.logits(torch.tensor([context]))[0, -1].detach().double()
        q_x, q_y = logits[0].softmax(-1), logits[1].softmax(-1)
        gains = []
        for x in range(model.vocab_size):
            following = model.logits(torch.tensor([[*context, x]]))[0, -1, 0].detach()
            y = following.double().softmax(-1)
            gains.append((float(q_x[x]), float((y * (y / q_y).log()).sum())))
            if x == ids[end]:
                of_text = float((y[ids[end + 1]] / q_y[ids[end + 1]]).log())
        gains.sort(reverse=True)
        information = sum(p * gain for p, gain in gains[:candidates])
        assert row.information == pytest.approx(information, abs=1e-5)
        whole = sum(p * gain for p, gain in gains)
        assert row.information - 1e-6 <= whole <= row.information + row.information_bound + 1e-5
        assert row.text_information == pytest.approx(of_text, abs=1e-5)
        assert (row.before, row.x, row.y) == (
            *(TEXTS[i][end - 6 : end], TEXTS[i][end]),
            TEXTS[i][end + 1],
        )
    for name, value in result.metrics.items():
        assert value == pytest.approx(result.predictions[name].mean())


def test_one_head_is_not_enough() -> None:
    evaluator = RelativeInformation(batch_size=3, context=6, contexts=5, candidates=2)
    with pytest.raises(UsageError, match="the model has one head: choose head=multi_token"):
        evaluator(Subject(decoder(1), ByteTokenizer(), "cpu"), documents())


def test_documents_must_be_longer_than_the_context() -> None:
    evaluator = RelativeInformation(batch_size=3, context=22, contexts=5, candidates=2)
    with pytest.raises(UsageError, match="no document has two tokens after so many"):
        evaluator(Subject(decoder(2), ByteTokenizer(), "cpu"), documents())
