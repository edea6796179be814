from __future__ import annotations

import datasets
import pytest
import torch

from beyond_ce.configuration import build, compose
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import Evaluators, SelfSpeculation, Subject, self_speculation
from beyond_ce.evaluation.self_speculation import differences, near_tie, repeated
from beyond_ce.generation import Generation, generate
from beyond_ce.models import Decoder
from beyond_ce.runs.assembly import build_model
from beyond_ce.tokenizers import ByteTokenizer

TEXTS = ["".join(f"x{j} = {i} * {j}\n" for j in range(20)) for i in range(5)]
DOCUMENTS = datasets.Dataset.from_dict({"text": TEXTS, "task": [f"{i}.py" for i in range(5)]})


def decoder(*overrides: str) -> Decoder:
    torch.manual_seed(0)
    sizes = ["model.dim=32", "model.max_length=64"]
    config = compose(["model=decoder_tiny", "head=multi_token", *sizes, *overrides])
    return build_model(config, ByteTokenizer()).eval()


def small(**settings) -> SelfSpeculation:
    defaults = {"batch_sizes": [1], "prompt_tokens": 16, "max_new_tokens": 12, "max_prompts": 4}
    return SelfSpeculation(**(defaults | {"repeats": 1} | settings))


def test_all_heads_and_batch_sizes_are_compared() -> None:
    found = small(batch_sizes=[1, 4])(
        Subject(decoder().double(), ByteTokenizer(), "cpu"), DOCUMENTS
    )
    metrics = found.metrics
    for batch in ("", "b4"):
        assert metrics[f"speedup@k1{batch}"] == 1
        assert metrics[f"tokens_per_forward@k1{batch}"] == 1
        for k in (2, 3, 4):
            assert 1 <= metrics[f"tokens_per_forward@k{k}{batch}"] <= k
            assert metrics[f"speedup@k{k}{batch}"] > 0
            assert metrics[f"tokens_per_second@k{k}{batch}"] > 0
            assert metrics[f"different@k{k}{batch}"] == metrics[f"unexplained@k{k}{batch}"] == 0
    assert 0 <= metrics["repeated@greedy"] < 1
    assert 0 <= metrics["repeated@true_text"] < 1
    assert len(found.predictions) == 4


def test_prompts_are_pieces_of_the_documents_and_continuations_come_in_pieces() -> None:
    model, tokenizer = decoder().double(), ByteTokenizer()
    found = small(max_prompts=3)(Subject(model, tokenizer, "cpu"), DOCUMENTS).predictions
    assert list(found["task"]) == ["0.py", "2.py", "4.py"]
    for task, prompt, continuation, pieces, sizes in found.itertuples(index=False):
        text = TEXTS[int(task[0])]
        assert len(prompt) == 16 and text.index(prompt) % 28 == 0
        new = generate(model, tokenizer.encode([prompt]), 12).tokens[0]
        assert continuation == tokenizer.decode(new)
        assert sum(sizes) == 12 and max(sizes) <= 4
        assert len(pieces) == len(sizes)


def test_only_the_heads_that_exist_are_used_and_the_first_always() -> None:
    some = small(heads=[2, 8])(
        Subject(decoder("head.n=2"), ByteTokenizer(), "cpu"), DOCUMENTS
    ).metrics
    assert {name.split("@")[1] for name in some if name.startswith("speedup")} == {"k1", "k2"}
    plain = small()(Subject(decoder("head=lm"), ByteTokenizer(), "cpu"), DOCUMENTS).metrics
    assert plain["tokens_per_forward@k1"] == plain["speedup@k1"] == 1
    assert plain["different@k1"] == plain["unexplained@k1"] == 0
    assert not any("@k2" in name for name in plain)


def test_time_is_the_median_of_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_turns(steps, *_):
        for step in steps.values():
            step()
        return {"1": [2.0, 4.0, 9.0], "2": [1.0, 1.0, 3.0]}

    monkeypatch.setattr(self_speculation, "in_turns", in_turns)
    metrics = small(repeats=3, heads=[1, 2])(
        Subject(decoder(), ByteTokenizer(), "cpu"), DOCUMENTS
    ).metrics
    assert metrics["speedup@k2"] == 3
    assert metrics["tokens_per_second@k1"] == 4 * 12 / 4
    assert metrics["tokens_per_second@k2"] == 4 * 12


def test_a_wrong_decoding_is_counted_and_unexplained(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model, prompts, max_new_tokens, heads=1, **settings) -> Generation:
        found = generate(model, prompts, max_new_tokens)
        if heads > 1:
            found.tokens[0][5] = (found.tokens[0][5] + 1) % 256
        return found

    monkeypatch.setattr(self_speculation, "generate", broken)
    metrics = small(heads=[1, 2])(Subject(decoder(), ByteTokenizer(), "cpu"), DOCUMENTS).metrics
    assert metrics["different@k2"] == metrics["unexplained@k2"] == 1 / 4


def test_what_rounding_can_do_is_a_near_tie() -> None:
    model = decoder()
    exact = decoder().double()
    prompt = list(b"print(")
    logits = model.logits(torch.tensor([prompt]))[0, -1, 0]
    first, second = logits.topk(2).indices.tolist()
    assert not near_tie(model, exact, prompt, (first, second))
    assert differences(model, [prompt], [[first, 1]], [[second, 2]]) == (1, 1)
    with torch.no_grad():
        for each in (model, exact):
            each.head.unembedding()[second] = each.head.unembedding()[first]
    assert near_tie(model, exact, prompt, (first, second))
    assert differences(model, [prompt], [[first, 1]], [[second, 2]]) == (1, 0)
    assert differences(model, [prompt], [[first, 1]], [[first, 1]]) == (0, 0)


def test_repeated_counts_8_grams_said_before() -> None:
    assert repeated(list(range(20))) == 0
    assert repeated([7] * 17) == pytest.approx(9 / 10)
    assert repeated([*range(8), *range(8)]) == pytest.approx(1 / 9)


def test_what_cannot_be_decoded_is_refused() -> None:
    for settings in ({"batch_sizes": []}, {"heads": [0]}, {"max_prompts": 0}, {"repeats": 0}):
        with pytest.raises(UsageError, match=f"evaluator.{next(iter(settings))}"):
            small(**settings)
    with pytest.raises(UsageError, match=r"max_new_tokens - 1=75 exceeds .* context of 64"):
        small(max_new_tokens=60)(Subject(decoder(), ByteTokenizer(), "cpu"), DOCUMENTS)
    short = DOCUMENTS.map(lambda row: {"text": row["text"][:20]})
    with pytest.raises(UsageError, match="no held-out document has 28 tokens"):
        small()(Subject(decoder(), ByteTokenizer(), "cpu"), short)


def test_together_with_held_out() -> None:
    overrides = ["prompt_tokens=8", "max_new_tokens=8", "max_prompts=2", "context=16", "repeats=1"]
    config = compose(
        [
            "evaluator=held_out_and_speculation",
            *(f"evaluator.{each}" for each in overrides),
            "evaluator.batch_sizes=[1,2]",
            "evaluator.heads=[1,2]",
        ]
    )
    both: Evaluators = build(config.evaluator, "evaluator")
    assert Evaluators.reads(config.evaluator) == ("text",)
    found = both(Subject(decoder("head.n=2"), ByteTokenizer(), "cpu"), DOCUMENTS)
    assert {"bits_per_byte", "speedup@k2b2", "true_text_tokens_per_forward@k2"} <= set(
        found.metrics
    )
    assert list(found.predictions.columns) == ["task", "prompt", "continuation", "pieces", "sizes"]
