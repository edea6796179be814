"""Decoder-only models of transformers, against transformers itself."""

from __future__ import annotations

import copy
from functools import partial
from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, T5Config, T5ForConditionalGeneration

from beyond_ce.data.batch import Numbers
from beyond_ce.errors import UsageError
from beyond_ce.generation import generate
from beyond_ce.losses import CrossEntropy, MeanSquaredError, WassersteinLoss
from beyond_ce.losses.objective import Objective
from beyond_ce.models import CausalLM
from beyond_ce.models.heads import LMHead, RegressionHead

PAD, EOS, VOCAB, DIM = 0, 1, 40, 16
PROMPTS = [[5, 6, 7, 8, 9], [10], [11, 12, 13]]
ANSWERS = [[20, EOS], [21, 22, 23, EOS], [24, 25, EOS]]
SMALL = {
    "hidden_size": DIM, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 32,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": DIM, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "granite": {
        **SMALL, "embedding_multiplier": 12.0, "residual_multiplier": 0.22,
        "attention_multiplier": 0.125, "logits_scaling": 8.0,
    },
    "granitemoe": {
        **SMALL, "num_local_experts": 4, "num_experts_per_tok": 2, "embedding_multiplier": 6.0,
        "logits_scaling": 3.0,
    },
    "llama": SMALL,
    "qwen2": {**SMALL, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    # Also: embeddings that scale themselves.
    "gemma": {**SMALL, "head_dim": 8},
}  # fmt: skip


def make(
    kind: str = "gpt2",
    pretrained: Path | None = None,
    vocab_size: int = VOCAB,
    head: type = LMHead,
    **changes: Any,
) -> CausalLM:
    """Random weights, large enough for attention and confidence that differ between tokens."""
    torch.manual_seed(0)
    config = {"model_type": kind, **KINDS.get(kind, {}), **changes}
    folder = pretrained and str(pretrained)
    model = CausalLM(vocab_size, PAD, EOS, partial(head), config, folder)
    if pretrained is None:
        enlarge(model)
    return model


def enlarge(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)


def checkpoint(folder: Path, kind: str = "gpt2", rows: int = VOCAB, **changes: Any) -> Path:
    torch.manual_seed(1)
    keys = {**KINDS.get(kind, {}), "pad_token_id": None, "eos_token_id": EOS, **changes}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=rows, **keys))
    enlarge(model)
    model.save_pretrained(folder)
    return folder


def reference(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def logits(model: CausalLM, prompts: list[list[int]], answers: list[list[int]]) -> torch.Tensor:
    batch = model.make_batch(prompts, answers)
    return model.head.logits(model.trunk(batch))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("tied", [True, False])
def test_logits_and_answers_are_those_of_transformers(kind: str, tied: bool, tmp_path: Path):
    folder = checkpoint(tmp_path, kind, tie_word_embeddings=tied)
    theirs, model = reference(folder), make(pretrained=folder).eval()
    assert (model.head.unembedding() is model.embedding.weight) is tied
    assert sum(p.numel() for p in model.parameters()) == theirs.num_parameters()
    with torch.no_grad():
        ours = logits(model, PROMPTS, ANSWERS)
        for prompt, answer, row in zip(PROMPTS, ANSWERS, ours, strict=True):
            tokens = prompt + answer[:-1]
            expected = theirs(torch.tensor([tokens])).logits[0]
            torch.testing.assert_close(row[: len(tokens)], expected, atol=1e-5, rtol=1e-5)
    expected_tokens = [
        theirs.generate(
            torch.tensor([prompt]), max_new_tokens=6, do_sample=False, pad_token_id=PAD
        )[0, len(prompt) :].tolist()
        for prompt in PROMPTS
    ]
    for batch_size in 1, 3:
        answers = generate(model, PROMPTS, 6, eos_id=EOS, batch_size=batch_size).tokens
        assert answers == expected_tokens
    assert len({tuple(answer) for answer in expected_tokens}) > 1


def test_decoding_equals_teacher_forcing_in_any_batch(kind: str) -> None:
    """With rows that leave the batch one after the other and rows that come back as beams."""
    model = make(kind).eval()
    answers = generate(model, PROMPTS, max_new_tokens=6).tokens
    assert {len(answer) for answer in answers} == {6}
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        batch = model.make_batch([prompt], [answer])
        best = model.head.logits(model.trunk(batch)).argmax(-1)
        assert best[batch.labels >= 0].tolist() == answer
    stop = answers[0][2]
    for beams in 1, 3:
        alone, together = (
            generate(model, PROMPTS, 6, eos_id=stop, num_beams=beams, batch_size=size).tokens
            for size in (1, 3)
        )
        assert alone == together


def test_prefill_and_steps_give_the_logits_of_one_pass() -> None:
    model = make("granite").eval()
    answers = [[20, 21, 22], [23, 24, 25], [26, 27, 28]]
    expected = []
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        expected.append(logits(model, [prompt], [[*answer, EOS]])[0, len(prompt) - 1 :])
    with torch.inference_mode():
        state, first = model.prefill(PROMPTS, max_new_tokens=4)
        torch.testing.assert_close(first, torch.stack([row[0] for row in expected]))
        second = model.step(state, torch.tensor([row[0] for row in answers]))
        torch.testing.assert_close(second, torch.stack([row[1] for row in expected]))
        rows = torch.tensor([2, 0, 2, 2])
        state.select(rows)
        third = model.step(state, torch.tensor([row[1] for row in answers])[rows])
        torch.testing.assert_close(third, torch.stack([row[2] for row in expected])[rows])


def test_rows_beyond_the_tokenizer_are_trained_and_never_generated(tmp_path: Path) -> None:
    model = make(pretrained=checkpoint(tmp_path, rows=VOCAB + 8))
    values = torch.full((VOCAB,), nan)
    values[20:30] = torch.arange(10.0)
    objective = Objective(model, WassersteinLoss(values, weight=0.3))
    total, terms = objective(model.make_batch(PROMPTS, ANSWERS))
    total.backward()
    assert total.isfinite() and set(terms) == {"ce", "ntl"}
    assert model.embedding.weight.grad[-1].any()
    assert model.prefill(PROMPTS, max_new_tokens=1)[1].shape == (3, VOCAB)


@pytest.mark.parametrize("tied", [True, False])
def test_a_larger_tokenizer_adds_rows(tied: bool, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "llama", tie_word_embeddings=tied)
    model = make(pretrained=folder, vocab_size=VOCAB + 5)
    assert (model.head.unembedding() is model.embedding.weight) is tied
    for weight in model.embedding.weight, model.head.unembedding():
        assert weight.shape == (VOCAB + 5, DIM)
    theirs = reference(folder)
    assert torch.equal(model.embedding.weight[:VOCAB], theirs.get_input_embeddings().weight)
    assert torch.equal(model.head.unembedding()[:VOCAB], theirs.lm_head.weight)
    assert logits(model, [[VOCAB + 4]], [[VOCAB + 3, EOS]]).shape[-1] == VOCAB + 5


def test_every_parameter_is_trained_on_answers_alone(kind: str) -> None:
    model = make(kind).eval()  # without dropout
    objective = Objective(model, CrossEntropy(torch.full((VOCAB,), nan)))
    total, _ = objective(model.make_batch(PROMPTS, ANSWERS))
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    rows = logits(model, PROMPTS, ANSWERS).log_softmax(-1)
    expected = [
        -rows[i, len(prompt) - 1 + t, token]
        for i, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True))
        for t, token in enumerate(answer)
    ]
    torch.testing.assert_close(total, torch.stack(expected).mean())


def test_dropout_is_on_until_it_is_switched_off(tmp_path: Path) -> None:
    for model in make(resid_pdrop=0.5), make(pretrained=checkpoint(tmp_path, resid_pdrop=0.5)):
        assert all(module.training for module in model.modules())
        batch = model.make_batch(PROMPTS, ANSWERS)
        assert not torch.equal(model.trunk(batch), model.trunk(batch))
        assert torch.equal(model.eval().trunk(batch), model.trunk(batch))


def test_a_regression_head_reads_the_last_state_of_the_prompt(kind: str) -> None:
    model = make(kind, head=RegressionHead, vocab_size=VOCAB).eval()
    batch = model.make_batch(PROMPTS, ANSWERS, Numbers([4.0, nan, -2.0]))
    hidden = model.trunk(batch)
    assert hidden.shape == (3, 1, DIM) and batch.labels.shape == (3, 1)
    for prompt, state in zip(PROMPTS, hidden, strict=True):
        alone = model.trunk(model.make_batch([prompt], [[]], Numbers([nan])))
        torch.testing.assert_close(alone[0], state)
    objective = Objective(model, MeanSquaredError(torch.full((VOCAB,), nan)))
    objective(batch)[0].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_number_encodings_are_read_in_training_and_decoding(kind: str) -> None:
    plain = make(kind).eval()
    table = torch.randn(VOCAB, DIM, generator=torch.Generator().manual_seed(1))
    encoded = copy.deepcopy(plain)
    if kind == "gemma":
        with pytest.raises(UsageError, match="no number encodings"):
            encoded.add_encodings(table)
        return
    encoded.add_encodings(table)
    assert list(encoded.state_dict()) == list(plain.state_dict())
    assert encoded.head.unembedding() is not plain.head.unembedding()
    shifted = copy.deepcopy(plain)
    with torch.no_grad():
        shifted.embedding.weight += table
    batch = plain.make_batch(PROMPTS, ANSWERS)
    torch.testing.assert_close(encoded.trunk(batch), shifted.trunk(batch))
    assert not torch.allclose(encoded.trunk(batch), plain.trunk(batch))
    answers = generate(encoded, PROMPTS, max_new_tokens=4).tokens
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        alone = encoded.make_batch([prompt], [answer])
        best = encoded.head.logits(encoded.trunk(alone)).argmax(-1)
        assert best[alone.labels >= 0].tolist() == answer


def test_building_leaves_the_random_state_to_the_weights() -> None:
    """Measuring the logits' scale draws nothing: the same seed gives the same weights."""
    make("llama")
    after = torch.get_rng_state()
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(
        AutoConfig.for_model("llama", vocab_size=VOCAB, pad_token_id=None, **KINDS["llama"])
    )
    LMHead(DIM, VOCAB)
    assert torch.equal(torch.get_rng_state(), after)


def test_bfloat16_stays_close() -> None:
    model = make("granite").eval()
    batch = model.make_batch(PROMPTS, ANSWERS)
    expected = model.trunk(batch)
    tolerance = 0.05 * float(expected.detach().abs().max())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.trunk(batch).float(), expected, atol=tolerance, rtol=0)
        model.step(model.prefill(PROMPTS, 2)[0], torch.tensor([5, 6, 7]))


def test_what_is_too_long_or_empty_is_refused() -> None:
    model = make(n_positions=8)
    model.make_batch([[5] * 6], [[6, 7, EOS]])
    with pytest.raises(UsageError, match="9 tokens.*context of 8"):
        model.make_batch([[5] * 6], [[6, 7, 8, EOS]])
    assert len(generate(model, [[5] * 6], max_new_tokens=3).tokens[0]) == 3
    with pytest.raises(UsageError, match="context of 8"):
        generate(model, [[5] * 6], max_new_tokens=4)
    with pytest.raises(UsageError, match="empty prompt"):
        model.make_batch([[]], [[EOS]])
    with pytest.raises(UsageError, match="empty prompt"):
        generate(model, [[5], []], max_new_tokens=1)


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("phi", {**SMALL, "num_key_value_heads": 2}, "phi models.* unembedding has a bias"),
        ("gemma2", {**SMALL, "head_dim": 8}, "gemma2 models.* no multiple of hidden"),
        ("mamba", {"hidden_size": 16, "num_hidden_layers": 1}, "mamba models.* no key-value cache"),
        ("t5", {}, "model.config.model_type=t5 is a t5 model, not a decoder-only one"),
        ("nope", {}, "model.config.model_type=nope: transformers has no such model"),
        (None, {}, "model.config has no model_type: set model.config.model_type=gpt2"),
        ("gpt2", {"layers": 3}, "model.config.layers: a gpt2 model has no such setting"),
        ("gpt2", {"n_head": 3}, "model.config makes no gpt2 model"),
        ("llama", {"num_key_value_heads": 3}, "model.config makes no llama model"),
    ],
)
def test_a_configuration_that_does_not_fit_is_one_line(kind, changes: dict, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as error:
        make(kind, **changes)
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    truncated = checkpoint(tmp_path / "truncated")
    weights = truncated / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    t5 = T5Config(vocab_size=VOCAB, d_model=DIM, d_ff=8, d_kv=8, num_heads=2, num_layers=1)
    T5ForConditionalGeneration(t5).save_pretrained(tmp_path / "t5")
    for name, reason in {
        "missing": "cannot be loaded",
        "empty": "cannot be loaded",
        "truncated": "cannot be loaded",
        "t5": "is a t5 model, not a decoder-only one.*model=t5_base",
    }.items():
        folder = tmp_path / name
        with pytest.raises(UsageError, match=f"model.pretrained={folder} .*{reason}") as error:
            make(pretrained=folder)
        assert "\n" not in str(error.value)


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, rows=3 * VOCAB)
    with pytest.raises(UsageError, match=f"120 tokens.*tokenizer.model={folder}"):
        make(pretrained=folder)
