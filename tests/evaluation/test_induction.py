"""Names of two tokens in stories, their second tokens, and the heads that look for them."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from beyond_ce.batches.batch import Batch
from beyond_ce.configuration import compose
from beyond_ce.data import GeneratedStories
from beyond_ce.data.sampling import random_below
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import BestStep, Evaluation, Induction, Subject
from beyond_ce.evaluation.attention import (
    attention_weights,
    mean_attention,
    next_token_layers,
    repeated_tokens,
)
from beyond_ce.evaluation.names import (
    TwoTokenName,
    read_names,
    rename,
    story_names,
    tokens_of,
    two_token_names,
)
from beyond_ce.models import Decoder
from beyond_ce.runs.assembly import build_model
from beyond_ce.tokenizers import ByteTokenizer, Tokenizer
from beyond_ce.tokenizers.bpe import BPETokenizer
from beyond_ce.tokenizers.subword import SubwordTokenizer

CONTEXT = 400


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> GeneratedStories:
    return GeneratedStories(
        stories=400,
        names=60,
        seed=0,
        sequence_length=64,
        validation_share=0.1,
        test_share=0.1,
        cache_dir=tmp_path_factory.mktemp("stories"),
    )


@pytest.fixture(scope="module", params=["byte", "bpe", "subword"])
def tokenizer(
    request: pytest.FixtureRequest, data: GeneratedStories, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    kinds = {"byte": ByteTokenizer(), "bpe": BPETokenizer(512), "subword": SubwordTokenizer(800)}
    cache = tmp_path_factory.mktemp("tokenizers")
    return kinds[request.param].fit(iter(data.load()["train"]["text"]), cache, request.param)


def test_names_are_capitalised_within_sentences_and_never_small() -> None:
    text = (
        "Once Ana met Bo. Ana said, and Bo said, that The end is the end. The end. The end. "
        "His dog Rose ate a rose. Rose and Rose. Ana laughed. So did Bo. José, José, José."
    )
    assert story_names(text) == ["Ana", "Bo"]
    assert story_names("Ana and Bo") == []


@pytest.mark.parametrize("known", [True, False])
def test_new_names_are_two_tokens_that_no_word_of_training_has(
    known: bool, tokenizer: Tokenizer, data: GeneratedStories
) -> None:
    splits = data.load()
    texts = list(splits["train"]["text"])
    training = read_names(texts, tokenizer)
    assert training.names == {name for text in texts for name in story_names(text)}
    names = two_token_names(tokenizer, training, known, seed=0)
    assert names == two_token_names(tokenizer, training, known, seed=0)
    assert len(names) > 30 and len({name.tokens for name in names}) == len(names)
    in_training = {
        pair
        for text in {f"and {word}" for t in texts for word in re.findall(r"[A-Z]\w+", t)}
        for pair in pairwise(tokenizer.encode([text])[0])
    }
    for name in names[:200]:
        assert re.fullmatch("[A-Z][a-z]+", name.text)
        inside = list(pairwise(tokenizer.encode([f"So {name.text}, the"])[0]))
        assert name.tokens in inside and name.tokens not in in_training
        assert tokenizer.decode(name.tokens).strip() == name.text
        assert not known or (name.tokens[0] in training.first and name.tokens[1] in training.second)
    if known:
        others = {ids for word in sorted(training.names) for ids in tokens_of(tokenizer, [word])[0]}
        assert {token for name in names for token in name.tokens} <= others


def test_a_story_has_its_new_names_throughout(tokenizer: Tokenizer, data: GeneratedStories) -> None:
    splits = data.load()
    training = read_names(splits["train"]["text"], tokenizer)
    choice = two_token_names(tokenizer, training, True, seed=0)
    for i, text in enumerate(splits["test"]["text"]):
        old = story_names(text)
        renamed, new = rename(text, choice, random_below(0, i))
        assert len({name.tokens[0] for name in new}) == len(old) == len(new)
        back = renamed
        for before, after in zip(old, new, strict=True):
            assert renamed.count(after.text) == len(re.findall(rf"\b{before}\b", text))
            back = back.replace(after.text, before)
        assert back == text


def test_too_few_names_are_one_line(data: GeneratedStories) -> None:
    text = "so Ana and Bo and Ana and Bo and Ana and Bo"
    with pytest.raises(UsageError, match="of 1 names of two tokens none can replace Bo"):
        rename(text, [TwoTokenName("Xy", (88, 121))], random_below(0))
    tokenizer = ByteTokenizer()
    training = read_names([], tokenizer)
    with pytest.raises(UsageError, match="none is new: .*evaluator.known_tokens=false"):
        two_token_names(tokenizer, training, True, seed=0)


class Copying(nn.Module):
    """Predicts what followed the token's first occurrence, or, with `never`, something else."""

    vocab_size, pad_id, eos_id = 258, 256, 257
    max_length = None

    def __init__(self, never: bool = False) -> None:
        super().__init__()
        self.never = never
        self.head = SimpleNamespace(
            target="tokens",
            n=1,
            features=lambda hidden, offset: hidden,
            unembedding=lambda offset: None,
            logits=lambda hidden, offset: hidden,
        )

    def trunk(self, batch: Batch) -> Tensor:
        rows = []
        for row in batch.input_ids.tolist():
            follows: dict[int, int] = {}
            out = torch.zeros(len(row), self.vocab_size)
            for t, token in enumerate(row):
                out[t, (follows.get(token, 0) + self.never) % 256] = 9.0
                follows.setdefault(token, row[t + 1] if t + 1 < len(row) else 0)
            rows.append(out)
        return torch.stack(rows)


SMALL = [
    "and Ana saw Bob, then Bob saw Ana, then Ana and Bob and Ana went",
    "then Carl went, and Carl was, so Carl had, and " + "so Carl went, " * 12,
    "nobody is here",
]


def induction(texts: list[str], **settings: object) -> Induction:
    train = datasets.Dataset.from_dict({"text": texts, "task": [""] * len(texts)})
    defaults = {"batch_size": 2, "context": CONTEXT, "stories": 100, "known_tokens": False}
    return Induction(SimpleNamespace(load=lambda: {"train": train}), **{**defaults, **settings})


def examples(*texts: str) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": list(texts), "task": ["t"] * len(texts)})


@pytest.mark.parametrize(("never", "expected"), [(False, 1.0), (True, 0.0)])
def test_a_rule_that_copies_is_always_right_and_another_one_never(
    never: bool, expected: float
) -> None:
    found = induction(SMALL)(Subject(Copying(never), ByteTokenizer(), "cpu"), examples(*SMALL))
    assert found.metrics["induction_accuracy"] == expected
    assert found.metrics["original_accuracy"] == expected
    assert found.metrics["first_mention_accuracy"] == 0.0
    assert found.metrics["stories"] == 2 and found.metrics["training_names"] == 3
    assert found.metrics["occurrences"] == found.metrics["original_occurrences"] == 3 + 2 + 14
    assert {name for name in found.metrics if "loss@" in name} == {
        f"induction_loss@{number}" for number in range(2, 11)
    }
    numbers = found.predictions[found.predictions["story"] == 1]["number"]
    assert list(numbers) == list(range(1, 16))


def decoder(*overrides: str) -> Decoder:
    torch.manual_seed(0)
    config = compose(["model=decoder_tiny", "model.dim=32", "model.num_layers=3", *overrides])
    return build_model(config, ByteTokenizer())


@pytest.mark.parametrize("head", ["lm", "multi_token", "multi_token_linear"])
def test_the_scores_are_those_of_single_texts(head: str, data: GeneratedStories) -> None:
    model = decoder(f"head={head}", *(["head.n=2"] if head != "lm" else []))
    splits = data.load()
    evaluator = Induction(data, batch_size=3, context=CONTEXT, stories=7, known_tokens=True)
    found = evaluator(Subject(model, ByteTokenizer(), "cpu"), splits["test"])
    training = read_names(splits["train"]["text"], ByteTokenizer())
    choice = two_token_names(ByteTokenizer(), training, True, 0)
    rows = np.linspace(0, len(splits["test"]) - 1, 7).round().astype(int)
    lines = []
    for story, row in enumerate(rows):
        text, names = rename(splits["test"][int(row)]["text"], choice, random_below(0, story))
        logits = model.logits(torch.tensor([list(text.encode())[:CONTEXT]]))[0, :, 0].detach()
        for name in names:
            places = [match.start() for match in re.finditer(name.text, text)]
            for number, place in enumerate(places, start=1):
                if place < CONTEXT:
                    label = ord(name.text[1])
                    loss = -float(logits[place].double().log_softmax(-1)[label])
                    right = int(logits[place].argmax()) == label
                    lines.append((story, name.text, number, place, loss, right))
    expected = pd.DataFrame(sorted(lines), columns=list(found.predictions.columns[:6]))
    pd.testing.assert_frame_equal(found.predictions[expected.columns], expected, rtol=1e-4)
    later = expected[expected["number"] > 1]
    assert found.metrics["induction_loss"] == pytest.approx(later["loss"].mean(), rel=1e-4)
    fourth = later[later["number"] == 4]["loss"].mean()
    assert found.metrics["induction_loss@4"] == pytest.approx(fourth, rel=1e-4)
    assert found.metrics["known_tokens"] == 1.0
    assert found.metrics["attention_layer@names"] in (1, 2, 3)
    assert all(map(math.isfinite, found.metrics.values()))


def test_what_cannot_be_scored_is_refused() -> None:
    subject = Subject(Copying(), ByteTokenizer(), "cpu")
    with pytest.raises(UsageError, match="no story has a name twice"):
        induction(SMALL)(subject, examples("nobody is here"))
    with pytest.raises(UsageError, match="evaluator.context=999 exceeds"):
        induction(SMALL, context=999)(Subject(decoder(), ByteTokenizer(), "cpu"), examples(*SMALL))


@pytest.mark.parametrize("groups", [None, 2])
def test_attention_weights_are_those_of_the_layer(groups: int | None) -> None:
    """Their mean of the values, through the output projection, is the layer's own attention; and
    single weights are those of a loop."""
    model = decoder(*([] if groups is None else [f"+model.num_kv_heads={groups}"])).double()
    layer, hidden = model.layers[1], torch.randn(2, 9, 32, dtype=torch.float64)
    rows = torch.arange(2).repeat_interleave(9)
    queries = torch.arange(9).repeat(2)
    weights = attention_weights(layer, hidden, rows, queries).double()
    states, rotations = layer.attention_norm(hidden), layer.rotary(9)
    values = (
        layer.attention.wv(states)
        .unflatten(-1, (-1, 8))
        .repeat_interleave(1 if groups is None else 2, dim=2)
    )
    mixed = torch.einsum("bqht,bthe->bqhe", weights.unflatten(0, (2, 9)), values)
    expected = layer.attention(states, rotations)
    torch.testing.assert_close(layer.attention.wo(mixed.flatten(-2)), expected, rtol=0, atol=1e-6)

    def turned(projected: Tensor, position: int) -> Tensor:
        cos, sin = layer.rotary.table[position].double().unbind(-1)
        even, odd = projected[::2], projected[1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten()

    head, query = 3, 7
    own = turned(layer.attention.wq(states[1, query])[8 * head : 8 * head + 8], query)
    kv = head if groups is None else head // 2
    keys = [
        turned(layer.attention.wk(states[1, t])[8 * kv : 8 * kv + 8], t) for t in range(query + 1)
    ]
    logits = torch.stack([own @ key / math.sqrt(8) for key in keys])
    by_hand = torch.cat((logits.softmax(0), torch.zeros(8 - query, dtype=torch.float64)))
    torch.testing.assert_close(weights[9 + query, head], by_hand, rtol=0, atol=1e-6)


@pytest.mark.parametrize("head", ["lm", "multi_token", "multi_token_anticausal"])
def test_the_mean_is_over_all_pairs_and_layers_of_the_next_token(head: str) -> None:
    model = decoder(f"head={head}", *(["head.n=2"] if head != "lm" else []))
    layers = next_token_layers(model)
    assert len(layers) == (2 if head == "multi_token" else 3)
    texts, pairs = repeated_tokens(258, {256, 257}, rows=5, length=6, seed=1)
    assert all(text[:6] == text[6:] and max(text) < 256 for text in texts)
    assert all(texts[row][query] == texts[row][key - 1] for row, query, key in pairs)
    assert len(pairs) == 30
    found = mean_attention(model, [*texts, [1, 2]], pairs, batch_size=2)
    expected = torch.zeros(len(layers), 4)
    with torch.no_grad():
        for row, query, key in pairs:
            hidden = model.embedding(torch.tensor([texts[row]]))
            for i, layer in enumerate(layers):
                place = torch.tensor([0]), torch.tensor([query])
                expected[i] += attention_weights(layer, hidden, *place)[0, :, key]
                hidden = layer(hidden)
    torch.testing.assert_close(found.float(), expected / 30, rtol=1e-4, atol=1e-6)


def test_the_best_step_is_chosen_on_either_split() -> None:
    probe = BestStep(every=10, metric="m")
    splits = {name: examples(name, name) for name in ("train", "validation", "test")}
    sample = probe.sample(splits, ["test"])
    assert list(sample["text"]) == ["validation"] * 2 + ["test"] * 2

    def score(subject: object, rows: datasets.Dataset) -> Evaluation:
        assert len(set(rows["text"])) == 1
        return Evaluation({"m": len(rows["text"][0]), "other": 0.0}, pd.DataFrame())

    assert probe.measure(score, None, sample) == {"probe/m@validation": 10, "probe/m@test": 4}
    curve = [(0.1, 0.2), (0.5, 0.3), (0.5, 0.9), (0.4, 0.6)]
    records = [{"step": 5, "train/loss": 1.0}] + [
        {"step": 10 * i, "probe/m@validation": v, "probe/m@test": t}
        for i, (v, t) in enumerate(curve, start=1)
    ]
    assert probe.summary(records, [], 1.0) == {
        **{"test/m@oracle": 0.9, "test/step@oracle": 30.0},
        **{"test/m@held_out": 0.3, "test/step@held_out": 20.0},
    }
    assert probe.summary([], [], 1.0) == {}


def test_training_names_are_read_once(data: GeneratedStories, tmp_path: Path) -> None:
    read = []
    train = examples(*SMALL)
    source = SimpleNamespace(load=lambda: read.append(1) or {"train": train})
    evaluator = Induction(source, batch_size=2, context=CONTEXT, stories=9, known_tokens=False)
    for _ in range(2):
        evaluator(Subject(Copying(), ByteTokenizer(), "cpu"), examples(*SMALL))
    assert len(read) == 1
