from __future__ import annotations

import math

import datasets
import numpy as np
import pytest
import torch
from choices import on_tokens
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from beyond_ce.configuration import build, compose
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import HeldOut, Subject
from beyond_ce.evaluation.held_out import count_forwards
from beyond_ce.models import Decoder
from beyond_ce.runs.assembly import build_model
from beyond_ce.tokenizers import ByteTokenizer, PretrainedTokenizer, Tokenizer

TEXTS = ["for i in range(10):\n    print(i)\n", "", "é", "x = 1\n" * 9]


def documents(*texts: str) -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {"text": list(texts), "task": [f"{i}.py" for i in range(len(texts))]}
    )


def decoder(*overrides: str) -> Decoder:
    torch.manual_seed(0)
    config = compose(["model=decoder_tiny", "model.dim=32", "model.max_length=64", *overrides])
    return build_model(config, ByteTokenizer())


def by_hand(model: Decoder, texts: list[str], context: int) -> tuple[list[list[float]], list]:
    """Of each head the bits and verdicts of all tokens, window by window and head by head."""
    n = model.head.n
    bits: list[list[float]] = [[] for _ in range(n)]
    right: list[list[bool]] = [[] for _ in range(n)]
    for text in texts:
        ids = [*text.encode(), ByteTokenizer.eos_id]
        for start in range(0, len(ids) - 1, context):
            window = ids[start : min(start + context, len(ids) - 1)]
            logits = model.logits(torch.tensor([window]))[0].detach()
            for t in range(len(window)):
                for i in range(n):
                    read = t + i < len(window) or not model.head.reads_tokens
                    if read and start + t + 1 + i < len(ids):
                        label = ids[start + t + 1 + i]
                        log_probability = logits[t, i].double().log_softmax(-1)[label]
                        bits[i].append(-float(log_probability) / math.log(2))
                        right[i].append(int(logits[t, i].argmax()) == label)
    return bits, right


@pytest.mark.parametrize("head", on_tokens("head"))
@pytest.mark.parametrize("context", [7, 64])
def test_every_token_of_every_head_counts_once(head: str, context: int) -> None:
    model = decoder(f"head={head}")
    found = HeldOut(batch_size=3, context=context)(
        Subject(model, ByteTokenizer(), "cpu"), documents(*TEXTS)
    )
    bits, right = by_hand(model, TEXTS, context)
    tokens = sum(len(text.encode()) for text in TEXTS)
    size = tokens - 3  # less the first byte of each text that has one
    if context == 64 or not model.head.reads_tokens:  # else what lies beyond a window is left out
        counts = [tokens, tokens - 3, tokens - 6, tokens - 8]
        assert [len(each) for each in bits] == counts[: len(bits)]
    for i, (cost, verdicts) in enumerate(zip(bits, right, strict=True)):
        name = f"bits_per_token@head{i + 1}" if i else "bits_per_token"
        assert found.metrics[name] == pytest.approx(np.mean(cost), rel=1e-5)
        assert found.metrics[f"accuracy@head{i + 1}"] == pytest.approx(np.mean(verdicts))
    # The half of "é" that no window scores counts as U+FFFD: 3 bytes instead of 1.
    assert found.metrics["bits_per_byte"] == pytest.approx(sum(bits[0]) / (size - 2), rel=1e-5)
    assert list(found.predictions["task"]) == ["0.py", "2.py", "3.py"]
    assert found.predictions["bits@head1"].sum() == pytest.approx(sum(bits[0]), rel=1e-5)
    assert found.predictions["tokens"].sum() == tokens


def test_batches_and_parts_of_logits_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = decoder("head=multi_token")
    first, second = (
        HeldOut(batch_size=size, context=9)(
            Subject(model, ByteTokenizer(), "cpu"), documents(*TEXTS)
        )
        for size in (1, 50)
    )
    assert first.metrics == pytest.approx(second.metrics)
    monkeypatch.setattr("beyond_ce.evaluation.evaluator._LOGITS_AT_ONCE", 1000)
    third = HeldOut(batch_size=50, context=9)(
        Subject(model, ByteTokenizer(), "cpu"), documents(*TEXTS)
    )
    assert third.metrics == pytest.approx(second.metrics)


def test_a_uniform_model_needs_log2_of_the_vocabulary() -> None:
    model = decoder("head=multi_token", "head.n=2")
    torch.nn.init.zeros_(model.head.unembedding())
    found = HeldOut(batch_size=2, context=8)(
        Subject(model, ByteTokenizer(), "cpu"), documents("abcdefgh")
    )
    bits = math.log2(258)
    assert found.metrics["bits_per_token"] == pytest.approx(bits)
    assert found.metrics["bits_per_token@head2"] == pytest.approx(bits)
    assert found.metrics["bits_per_byte"] == pytest.approx(8 * bits / 7)  # 7 bytes and the end


def test_fewer_tokens_are_spread_evenly() -> None:
    model = decoder()
    texts = documents("a" * 100, "b" * 40, "c" * 20)
    every = HeldOut(batch_size=4, context=10)(
        Subject(model, ByteTokenizer(), "cpu"), texts
    ).predictions
    assert list(every["tokens"]) == [100, 40, 20]
    some = HeldOut(batch_size=4, context=10, max_tokens=80)(
        Subject(model, ByteTokenizer(), "cpu"), texts
    )
    assert list(some.predictions["tokens"]) == [50, 20, 10]
    one = HeldOut(batch_size=4, context=10, max_tokens=20)(
        Subject(model, ByteTokenizer(), "cpu"), texts
    )
    assert list(one.predictions["task"]) == ["0.py", "2.py"]


def test_a_walk_stops_at_the_first_wrong_draft() -> None:
    right = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1], [0, 1, 1], [0, 0, 0], [1, 1, 1]], dtype=bool)
    # 3 tokens from position 0, 1 from 3, 1 from 4; position 5 needs a last forward.
    assert count_forwards(right) == 4
    assert count_forwards(right[:, :1]) == 4  # 0, 2, 4, 5
    assert count_forwards(right[:, :0]) == 6


def test_drafts_along_the_true_text_are_those_of_the_heads() -> None:
    model = decoder("head=multi_token")
    metrics = HeldOut(batch_size=2, context=64)(
        Subject(model, ByteTokenizer(), "cpu"), documents("z" * 60)
    ).metrics
    with torch.no_grad():
        for weight in model.head.parameters():
            weight.zero_()
    # All logits are zero, and token 0 is the first of the equal ones.
    zeros = HeldOut(batch_size=2, context=64)(
        Subject(model, ByteTokenizer(), "cpu"), documents("\0" * 60)
    ).metrics
    assert zeros["accuracy@head4"] == pytest.approx(56 / 57)  # all but the end
    assert zeros["true_text_tokens_per_forward@k2"] == pytest.approx(
        60 / 31
    )  # the end is drafted wrong
    assert zeros["true_text_tokens_per_forward@k4"] == pytest.approx(60 / 16)
    assert 1 <= metrics["true_text_tokens_per_forward@k4"] < 4


def test_other_tokenizers_and_models(cache_dir) -> None:
    config = compose(["tokenizer=sentencepiece", "tokenizer.vocab_size=300", "model=gpt2_tiny"])
    tokenizer: Tokenizer = build(config.tokenizer, "tokenizer").fit(iter(TEXTS), cache_dir, "held")
    text = "x = 1\n" * 9
    found = HeldOut(batch_size=2, context=8)(
        Subject(build_model(config, tokenizer), tokenizer, "cpu"), documents(text)
    )
    ids = tokenizer.encode([text])[0]
    assert list(found.predictions["tokens"]) == [len(ids)]
    assert list(found.predictions["bytes"]) == [len(text) - len(tokenizer.decode(ids[:1]))]


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(UsageError, match="evaluator.context=0"):
        HeldOut(batch_size=1, context=0)
    with pytest.raises(UsageError, match="evaluator.max_tokens=5 is less than a window"):
        HeldOut(batch_size=1, context=8, max_tokens=5)
    model, tokenizer = decoder(), ByteTokenizer()
    with pytest.raises(UsageError, match="context of 64"):
        HeldOut(batch_size=1, context=65)(Subject(model, tokenizer, "cpu"), documents("a"))
    with pytest.raises(UsageError, match="empty"):
        HeldOut(batch_size=1, context=8)(Subject(model, tokenizer, "cpu"), documents(""))
    with pytest.raises(UsageError, match="predicts value"):
        HeldOut(batch_size=1, context=8)(
            Subject(decoder("head=regression"), tokenizer, "cpu"), documents("a")
        )


class Collapsing(ByteTokenizer):
    """Loses text: runs of spaces are one space."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        return super().encode([" ".join(text.split()) for text in texts])


def test_bytes_are_those_of_the_text() -> None:
    texts = ["a    b" * 9, "one two three four"]
    found = HeldOut(batch_size=2, context=16)(
        Subject(decoder(), Collapsing(), "cpu"), documents(*texts)
    )
    sizes = [len(text) - 1 for text in texts]  # the first token is not scored
    assert found.predictions["bytes"].to_list() == pytest.approx(sizes, abs=2)


def test_bytes_do_not_end_where_a_text_spells_a_control_token(tmp_path) -> None:
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Backend(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end).save_pretrained(tmp_path)
    tokenizer = PretrainedTokenizer(str(tmp_path))
    config = compose(["model=decoder_tiny", "model.dim=32", "model.max_length=64"])
    text = f"print({end})" * 4
    found = HeldOut(batch_size=2, context=64)(
        Subject(build_model(config, tokenizer), tokenizer, "cpu"), documents(text)
    )
    assert found.predictions["bytes"].to_list() == [len(text) - 1]
