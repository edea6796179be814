from __future__ import annotations

import json
import math

import datasets
import numpy as np
import pytest
import torch
from small_decoders import byte_decoder

from beyond_ce.analysis.information import decompose
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import MarkovInformation, Subject
from beyond_ce.tokenizers import ByteTokenizer

LAW = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]])
TEXTS = ["abcabcacbcabacbbcacab", "ccbabcbcabcbabcacbbca"]


def documents(structure: object = LAW.tolist()) -> datasets.Dataset:
    columns = {"text": TEXTS, "task": ["x", "y"], "structure": [json.dumps(structure)] * 2}
    return datasets.Dataset.from_dict(columns)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_terms_are_those_of_the_models_own_predictions(n: int) -> None:
    """Against one context at a time, with all of its probabilities written out."""
    model = byte_decoder(n)
    subject = Subject(model, ByteTokenizer(), "cpu")
    result = MarkovInformation(batch_size=4, context=5, contexts=7)(subject, documents())
    table = result.predictions
    assert len(table) == 7
    ends = [(i, end) for i in range(2) for end in range(5, 21)]
    kept = [ends[i] for i in np.linspace(0, len(ends) - 1, 7).round().astype(int)]
    letters = [ord(letter) for letter in "abc"]
    for row, (i, end) in zip(table.itertuples(), kept, strict=True):
        context = list(TEXTS[i][end - 5 : end].encode())
        logits = model.logits(torch.tensor([context]))[0, -1].detach().double()
        q = np.zeros((4, 4))
        x = logits[0].softmax(-1)[letters].numpy()
        for place, letter in enumerate(letters):
            following = model.logits(torch.tensor([[*context, letter]]))[0, -1, 0].detach().double()
            y = following.softmax(-1)[letters].numpy()
            q[place, :3] = x[place] * y
            q[place, 3] = x[place] * (1 - y.sum())
        q[3, 3] = 1 - x.sum()
        p = np.zeros((4, 4))
        last = letters.index(context[-1])
        p[:3, :3] = LAW[last][:, None] * LAW
        exact, chained = decompose(p), decompose(p, q)
        assert row.letter == last
        assert row.exact_mutual == pytest.approx(float(exact.mutual), abs=1e-12)
        for name in vars(exact):
            excess = float(getattr(chained, name) - getattr(exact, name))
            assert getattr(row, f"excess_{name}") == pytest.approx(excess, abs=1e-6)
        if n > 1:
            own = logits[1].softmax(-1)[letters].numpy()
            heads = decompose(p, q, q_y=np.append(own, 1 - own.sum()))
            value = table.loc[row.Index, "excess_y@head2"]
            assert value == pytest.approx(float(heads.y - exact.y), abs=1e-6)
    assert ("excess_y@head2" in result.metrics) == (n > 1)
    for name, value in result.metrics.items():
        assert value == pytest.approx(table[name].mean())


def test_a_model_that_knows_the_chain_has_no_excess(monkeypatch: pytest.MonkeyPatch) -> None:
    model = byte_decoder(2)
    table = torch.full((3, model.vocab_size), -math.inf)
    after_two = torch.full((3, model.vocab_size), -math.inf)
    table[:, 97:100] = torch.tensor(LAW).log().float()
    after_two[:, 97:100] = torch.tensor(LAW @ LAW).log().float()
    monkeypatch.setattr(model, "trunk", lambda batch: batch.input_ids - 97)
    monkeypatch.setattr(
        model.head, "logits", lambda hidden, offset=0: (table, after_two)[offset][hidden]
    )
    subject = Subject(model, ByteTokenizer(), "cpu")
    metrics = MarkovInformation(batch_size=8, context=3, contexts=20)(subject, documents()).metrics
    excess = {name: value for name, value in metrics.items() if name.startswith("excess")}
    assert len(excess) == 8
    assert excess == pytest.approx(dict.fromkeys(excess, 0.0), abs=1e-6)


def test_other_documents_are_refused() -> None:
    evaluator = MarkovInformation(batch_size=4, context=5, contexts=7)
    subject = Subject(byte_decoder(1), ByteTokenizer(), "cpu")
    with pytest.raises(UsageError, match="choose dataset=markov_chain"):
        evaluator(subject, documents({"choices": [], "free": []}))
    with pytest.raises(UsageError, match="no document is longer"):
        MarkovInformation(batch_size=4, context=40, contexts=7)(subject, documents())
