from __future__ import annotations

import itertools
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from beyond_ce.errors import RunError, UsageError
from beyond_ce.generation import generate, longest_continuation
from beyond_ce.models import T5, Decoder, LanguageModel
from beyond_ce.models.heads import LMHead

PAD, EOS = 0, 1


def decoder(vocab_size: int = 30) -> Decoder:
    torch.manual_seed(0)
    return Decoder(
        vocab_size, PAD, EOS, partial(LMHead), dim=16, num_layers=2, num_heads=2, max_length=24,
        multiple_of=8,
    )  # fmt: skip


def random_prompts(count: int, seed: int = 0, vocab_size: int = 30) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, size: int) -> list[int]:
        return torch.randint(low, high, (size,), generator=generator).tolist()

    return [draw(2, vocab_size, length) for length in draw(1, 9, count)]


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random T5 that answers different prompts differently."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("t5")
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=30, d_model=16, d_ff=32, d_kv=8, num_heads=2, num_layers=2,
            decoder_start_token_id=PAD,
        )
    )  # fmt: skip
    # With T5's own initialisation an untrained model repeats its input for ever.
    for block in model.decoder.block:
        for weight in block.parameters():
            if weight.ndim == 2:
                weight.data *= 3
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("keys", [{}, {"num_beams": 2}, {"temperature": 1.0}])
def test_any_of_several_tokens_ends_a_text(keys: dict) -> None:
    model, prompts = decoder(), random_prompts(6)
    free = generate(model, prompts, 12, **keys).tokens
    if "num_beams" not in keys:
        ends = {free[0][4], free[1][6]}
        first = [min([i for i, t in enumerate(row) if t in ends], default=11) for row in free]
        assert generate(model, prompts, 12, ends, **keys).tokens == [
            row[: end + 1] for row, end in zip(free, first, strict=True)
        ]
    every = generate(model, prompts, 12, range(30), **keys).tokens
    assert [len(row) for row in every] == [1] * 6
    assert generate(model, prompts, 12, [], **keys).tokens == free
    assert generate(model, prompts, 12, [3], **keys) == generate(model, prompts, 12, 3, **keys)


def t5(folder: Path) -> T5:
    return T5(
        30, PAD, EOS, partial(LMHead), d_model=16, d_ff=32, d_kv=8, num_heads=2, num_layers=2,
        dropout=0.1, pretrained=str(folder),
    )  # fmt: skip


@pytest.mark.parametrize("num_beams", [1, 2, 4])
def test_t5_equals_transformers(t5_folder: Path, num_beams: int) -> None:
    prompts = random_prompts(40)
    model = t5(t5_folder)
    free = itertools.chain.from_iterable(generate(model, prompts, 12).tokens)
    eos_id = Counter(free).most_common(3)[-1][0]
    ours = generate(model, prompts, 12, eos_id=eos_id, num_beams=num_beams, batch_size=25)
    theirs = T5ForConditionalGeneration.from_pretrained(t5_folder).eval()
    expected = []
    for prompt in prompts:
        output = theirs.generate(
            torch.tensor([[*prompt, EOS]]),
            max_new_tokens=12,
            eos_token_id=eos_id,
            num_beams=num_beams,
            do_sample=False,
        )
        expected.append(output[0, 1:].tolist())
    assert ours.tokens == expected
    lengths = {len(row) for row in expected}
    assert len(lengths) >= 3 and 12 in lengths, "the comparison should meet several lengths"


def all_continuations(
    model: LanguageModel, prompt: list[int], length: int
) -> list[tuple[float, list[int]]]:
    """Mean log-probability of every continuation that ends in EOS or has the full length."""
    found = []
    for tokens in itertools.chain.from_iterable(
        itertools.product(range(model.vocab_size), repeat=n + 1) for n in range(length)
    ):
        row = list(tokens)
        if EOS in row[:-1] or (len(row) < length and row[-1] != EOS):
            continue
        logits = model.head.logits(model.trunk(model.make_batch([prompt], [row])))[0, -len(row) :]
        log_probs = logits.log_softmax(-1)[range(len(row)), row]
        found.append((float(log_probs.mean()), row))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_wide_beams_find_the_best_of_all(seed: int) -> None:
    torch.manual_seed(seed)
    model = Decoder(
        4, PAD, EOS, partial(LMHead), dim=8, num_layers=1, num_heads=1, max_length=8, multiple_of=8
    )
    torch.nn.init.normal_(model.head.unembedding(), std=1.0)
    prompt = [2, 3]
    with torch.no_grad():
        _, best = max(all_continuations(model, prompt, length=3))
    assert generate(model, [prompt], 3, eos_id=EOS, num_beams=64).tokens == [best]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_batches_and_order_change_nothing(num_beams: int) -> None:
    model, prompts = decoder(), random_prompts(12)
    eos_id = generate(model, prompts, 6).tokens[0][3]
    together = generate(model, prompts, 6, eos_id=eos_id, num_beams=num_beams)
    alone = [
        generate(model, [prompt], 6, eos_id=eos_id, num_beams=num_beams).tokens[0]
        for prompt in prompts
    ]
    assert together.tokens == alone
    split = generate(model, prompts, 6, eos_id=eos_id, num_beams=num_beams, batch_size=5)
    assert split.tokens == alone


def test_greedy_takes_the_most_probable_token() -> None:
    model, prompts = decoder(), random_prompts(6)
    generation = generate(model, prompts, 5)
    for prompt, tokens in zip(prompts, generation.tokens, strict=True):
        logits = model.head.logits(model.trunk(model.make_batch([prompt], [tokens])))
        assert tokens == logits[0, -5:].argmax(-1).tolist()
    assert generation.tokens_per_forward == 1


def test_stops_after_eos_and_only_then() -> None:
    model, prompts = decoder(), random_prompts(8)
    free = generate(model, prompts, 8).tokens
    assert all(len(tokens) == 8 for tokens in free)
    eos_id = free[0][2]
    stopped = generate(model, prompts, 8, eos_id=eos_id)
    for tokens, full in zip(stopped.tokens, free, strict=True):
        end = full.index(eos_id) + 1 if eos_id in full else 8
        assert tokens == full[:end]
    assert stopped.tokens_per_forward == 1


def test_restores_the_training_mode_and_keeps_no_graph() -> None:
    model = decoder().train()
    generate(model, [[5]], 2)
    assert model.training and model.layers[0].training
    model.eval()
    with pytest.raises(UsageError):
        generate(model, [[]], 2)
    assert not model.training


def test_no_prompts() -> None:
    assert generate(decoder(), [], 3).tokens == []


@pytest.mark.parametrize("name", ["max_new_tokens", "heads", "num_beams", "batch_size"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}=0"):
        generate(decoder(), [[5]], **({"max_new_tokens": 2} | {name: 0}))


def test_more_heads_than_the_model_has() -> None:
    with pytest.raises(UsageError, match="heads=2 > 1"):
        generate(decoder(), [[5]], 2, heads=2)


@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf"), -float("inf")])
def test_temperatures_out_of_range(value: float) -> None:
    with pytest.raises(UsageError, match="temperature=.*give a positive number, or 0"):
        generate(decoder(), [[5]], 2, temperature=value)


@pytest.mark.parametrize("value", [0.0, -0.5, 1.01, float("nan"), float("inf")])
def test_shares_out_of_range(value: float) -> None:
    with pytest.raises(UsageError, match="top_p=.*above 0 and at most 1"):
        generate(decoder(), [[5]], 2, temperature=1.0, top_p=value)


def test_negative_seed() -> None:
    with pytest.raises(UsageError, match="seed=-1: give at least 0"):
        generate(decoder(), [[5]], 2, temperature=1.0, seed=-1)


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"num_beams": 2, "temperature": 0.5}, "set num_beams=1 or temperature=0"),
        ({"heads": 2, "temperature": 0.5}, "set heads=1 or temperature=0"),
        ({"heads": 2, "num_beams": 2}, "set heads=1 or num_beams=1"),
    ],
)
def test_methods_that_exclude_each_other(settings: dict[str, Any], fix: str) -> None:
    model = decoder()
    model.head.n = 2
    with pytest.raises(UsageError, match=fix):
        generate(model, [[5]], 2, **settings)


def test_empty_prompts_are_refused_before_anything_is_decoded() -> None:
    told: list[int] = []
    with pytest.raises(UsageError, match="prompt 2 is empty.*leave it out"):
        generate(
            decoder(), [[5], [6], [], [7]], 2, batch_size=1, on_tokens=lambda i, _: told.append(i)
        )
    assert not told


def test_an_encoder_reads_empty_prompts(t5_folder: Path) -> None:
    model = t5(t5_folder)
    together = generate(model, [[5], [], [6, 7]], 5).tokens
    assert together[1] == generate(model, [[]], 5).tokens[0]


def test_prompts_beyond_the_context() -> None:
    with pytest.raises(UsageError, match="prompt 1 of 20 .*context of 24: set max_new_tokens=5"):
        generate(decoder(), [[5], [5] * 20], 6)
    with pytest.raises(UsageError, match="prompt 0 of 25 .*context of 24: shorten the prompt"):
        generate(decoder(), [[5] * 25], 1)
    assert len(generate(decoder(), [[5] * 20], 5).tokens[0]) == 5
    assert longest_continuation(decoder(), [5] * 20) == 5


def test_an_encoder_has_no_limit(t5_folder: Path) -> None:
    assert longest_continuation(t5(t5_folder), [5] * 1000) is None


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.7}, {"temperature": 1.0, "top_p": 0.5}, {"num_beams": 2}]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_logits_name_the_prompt(settings: dict[str, Any], value: float) -> None:
    model = decoder()
    model.embedding.weight.data[7] = value
    prompts = [[5, 6, 4], [4], [5, 7], [6, 2]]
    with pytest.raises(RunError, match="logits for prompt 2 are not finite: use another"):
        generate(model, prompts, 3, **settings)
    assert generate(model, prompts[:1], 1, **settings).tokens


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0}, {"num_beams": 2}])
def test_tokens_are_told_as_they_come(settings: dict[str, Any]) -> None:
    model, prompts = decoder(), random_prompts(7)
    eos_id = generate(model, prompts, 6, **settings).tokens[0][3]
    told: list[list[list[int]]] = [[] for _ in prompts]
    tokens = generate(
        model, prompts, 6, eos_id=eos_id, batch_size=3, **settings,
        on_tokens=lambda i, new: told[i].append(new),
    ).tokens  # fmt: skip
    assert [[token for new in calls for token in new] for calls in told] == tokens
    if "num_beams" not in settings:
        assert all(len(new) == 1 for calls in told for new in calls)


def test_what_is_told_may_end_it_all() -> None:
    def stop(i: int, new: list[int]) -> None:
        raise KeyboardInterrupt

    model = decoder().train()
    with pytest.raises(KeyboardInterrupt):
        generate(model, [[5]], 3, on_tokens=stop)
    assert model.training
