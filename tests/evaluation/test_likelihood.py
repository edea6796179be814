"""Log-likelihoods of continuations against transformers, and against whole reads of our own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from real_models import real_model
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig

from beyond_ce.errors import UsageError
from beyond_ce.evaluation.likelihood import Likelihood, likelihoods
from beyond_ce.models import T5, CausalLM, Decoder, LanguageModel, load_decoder
from beyond_ce.models.heads import LMHead, MultiTokenHead
from beyond_ce.models.heads.multi_token import (
    AnticausalMultiTokenHead,
    CausalMultiTokenHead,
    LinearBlocks,
    SharedUnembedding,
    TransformerBlocks,
)

VOCABULARY = 40
Pairs = list[tuple[list[int], list[int]]]


def random_pairs(vocabulary: int, questions: int, seed: int = 0) -> Pairs:
    """Questions of some choices, half of them after the same long beginning."""
    draw = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(3, vocabulary) for _ in range(count)]

    shots = tokens(50)
    pairs = []
    for number in range(questions):
        context = [*(shots if number % 2 else []), *tokens(draw.randrange(5, 15))]
        pairs += [(context, tokens(draw.randrange(1, 7))) for _ in range(draw.randrange(1, 5))]
    return pairs


def in_full(model: Decoder, pairs: Pairs, head: int = 1) -> list[Likelihood]:
    """Every pair read from its beginning, on its own."""
    found = []
    for context, answer in pairs:
        with torch.inference_mode():
            logits = model.logits(torch.tensor([[*context, *answer[:-1]]]))[0, :, head - 1]
        scores = logits.log_softmax(-1)
        places = [len(context) + i - head for i in range(len(answer))]
        nats = sum(float(scores[t, token]) for t, token in zip(places, answer, strict=True))
        greedy = [int(scores[t].argmax()) for t in places] == answer
        found.append(Likelihood(nats, greedy))
    return found


def check_close(found: list[Likelihood], expected: list[Likelihood]) -> None:
    assert [each.greedy for each in found] == [each.greedy for each in expected]
    assert [each.nats for each in found] == pytest.approx(
        [each.nats for each in expected], abs=1e-4
    )


@cache
def decoder(
    head: type[MultiTokenHead] = MultiTokenHead, block: type = TransformerBlocks
) -> Decoder:
    torch.manual_seed(0)
    build = partial(head, n=3, block=block, unembedding=SharedUnembedding)
    model = Decoder(VOCABULARY, 0, 1, build, dim=16, num_layers=4, num_heads=2, max_length=80)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Decoder:
    return decoder()


def test_a_case_by_hand(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unembeddings of zeros make all tokens equally probable."""
    weight = model.head.unembedding(0)
    monkeypatch.setattr(weight, "data", torch.zeros_like(weight))
    nats = torch.tensor(1 / VOCABULARY).log().item()
    found = likelihoods(model, "cpu", [([5], [7]), ([5, 6], [0, 0, 0]), ([5], [7])], 2)
    assert [each.nats for each in found] == pytest.approx([nats, 3 * nats, nats])
    assert [each.greedy for each in found] == [False, True, False]  # of equals, the first is taken


@pytest.mark.parametrize("head", [1, 2, 3])
@pytest.mark.parametrize(
    ("kind", "block"),
    [
        (MultiTokenHead, TransformerBlocks),
        (MultiTokenHead, LinearBlocks),
        (CausalMultiTokenHead, TransformerBlocks),
        (AnticausalMultiTokenHead, TransformerBlocks),
    ],
)
def test_every_head_equals_reading_in_full(
    head: int, kind: type, block: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = random_pairs(VOCABULARY, 12)
    whole = decoder(kind, block)
    expected = in_full(whole, pairs, head)
    check_close(likelihoods(whole, "cpu", pairs, 5, head), expected)
    monkeypatch.setattr(Decoder, "shared_prefix", lambda self, offset=0: None)
    check_close(likelihoods(whole, "cpu", pairs, 5, head), expected)


@cache
def of_the_property(head: int) -> tuple[Pairs, list[Likelihood]]:
    pairs = random_pairs(VOCABULARY, 8)[:16]
    return pairs, in_full(decoder(), pairs, head)


@settings(deadline=None, max_examples=25)
@given(order=st.permutations(range(16)), batch_size=st.integers(1, 40), head=st.integers(1, 3))
def test_order_and_batches_change_nothing(order: list[int], batch_size: int, head: int) -> None:
    pairs, expected = of_the_property(head)
    found = likelihoods(decoder(), "cpu", [pairs[i] for i in order], batch_size, head)
    check_close(found, [expected[i] for i in order])


@pytest.fixture(scope="module", params=["llama", "gpt2", "mistral"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of transformers; the last has a sliding window, shorter than the contexts."""
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
    llama = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    llama |= {"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 128}
    config = {
        "llama": lambda: LlamaConfig(**sizes, **llama),
        "gpt2": lambda: GPT2Config(**sizes, n_embd=16, n_layer=2, n_head=2, n_positions=128),
        "mistral": lambda: MistralConfig(**sizes, **llama, sliding_window=20),
    }[request.param]()
    folder = tmp_path_factory.mktemp(request.param)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def of_transformers(folder: Path, pairs: Pairs) -> list[Likelihood]:
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for context, answer in pairs:
        with torch.inference_mode():
            scores = theirs(torch.tensor([[*context, *answer]])).logits[0].log_softmax(-1)
        rows = scores[len(context) - 1 : -1]
        nats = rows.gather(1, torch.tensor(answer)[:, None]).sum().item()
        found.append(Likelihood(nats, rows.argmax(-1).tolist() == answer))
    return found


def models(folder: Path, vocabulary: int) -> Iterator[LanguageModel]:
    yield CausalLM(vocabulary, 0, 2, LMHead, {}, pretrained=str(folder))
    if folder.name.startswith(("llama", "stories")):
        yield load_decoder(folder)


def test_any_model_equals_transformers(saved: Path) -> None:
    pairs = random_pairs(VOCABULARY, 20)
    expected = of_transformers(saved, pairs)
    for each in models(saved, VOCABULARY):
        for batch_size in (1, 7, 64):
            check_close(likelihoods(each, "cpu", pairs, batch_size), expected)


def test_real_weights_equal_transformers_on_200_requests() -> None:
    stories_weights = real_model("stories260k")
    pairs = random_pairs(512, 100)[:200]
    assert len(pairs) == 200
    expected = of_transformers(stories_weights, pairs)
    backwards = list(reversed(pairs))
    for each in models(stories_weights, 512):
        check_close(likelihoods(each, "cpu", pairs, 64), expected)
        check_close(likelihoods(each, "cpu", backwards, 9), expected[::-1])


def test_what_contexts_begin_with_is_read_once(
    model: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    embed = model.embedding.forward

    def count(tokens: torch.Tensor) -> torch.Tensor:
        nonlocal read
        read += tokens.numel()
        return embed(tokens)

    monkeypatch.setattr(model.embedding, "forward", count)
    shots = list(range(3, 40))
    pairs = [([*shots, i, i], [j, 5]) for i in range(3, 13) for j in range(3, 7)]
    likelihoods(model, "cpu", pairs, 100)
    assert read == len(shots) + 10 * 2 + 40  # examples, questions, first tokens of the choices


def test_long_contexts_lose_their_beginning(model: Decoder) -> None:
    draw = random.Random(0)
    tokens = [draw.randrange(3, VOCABULARY) for _ in range(200)]
    whole = likelihoods(model, "cpu", [(tokens, [4, 5])], 1)
    check_close(whole, likelihoods(model, "cpu", [(tokens[-79:], [4, 5])], 1))


def test_a_long_continuation_is_read_in_parts(model: Decoder) -> None:
    draw = random.Random(0)
    tokens = [draw.randrange(3, VOCABULARY) for _ in range(100)]
    (whole,) = likelihoods(model, "cpu", [([3], tokens)], 1)
    ends = [40, 80, 100]  # parts of half of the context of 80
    starts = [0, *ends[:-1]]
    parts = [
        ([3, *tokens][max(0, end + 1 - 81) : begin + 1], tokens[begin:end])
        for begin, end in zip(starts, ends, strict=True)
    ]
    assert whole.nats == pytest.approx(sum(part.nats for part in in_full(model, parts)), abs=1e-4)


def test_an_encoder_decoder_scores_what_its_decoder_says() -> None:
    torch.manual_seed(0)
    whole = t5().eval()
    pairs = random_pairs(VOCABULARY, 6)
    expected = []
    for context, answer in pairs:
        batch = whole.make_batch([context], [answer])
        with torch.inference_mode():
            scores = whole.head.logits(whole.trunk(batch))[0].log_softmax(-1)
        nats = scores.gather(1, torch.tensor(answer)[:, None]).sum().item()
        expected.append(Likelihood(nats, scores.argmax(-1).tolist() == answer))
    check_close(likelihoods(whole, "cpu", pairs, 4), expected)


def t5() -> T5:
    from beyond_ce.configuration import build, compose

    config = compose(["model=t5_smallest"])
    head = build(config.head, "head")
    ids = {"vocab_size": VOCABULARY, "pad_id": 0, "eos_id": 1}
    made: T5 = build(config.model, "model", **ids, head=head)
    return made


@pytest.mark.parametrize(
    ("head", "pairs", "message"),
    [
        (4, [([3], [4])], r"evaluator.head=4: the model has 3 head\(s\)"),
        (2, [([3], [4])], "evaluator.head=2 needs 2 tokens in front"),
    ],
)
def test_a_head_that_cannot_answer_is_one_line(
    model: Decoder, head: int, pairs: Pairs, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as error:
        likelihoods(model, "cpu", pairs, 1, head)
    assert "\n" not in str(error.value)
