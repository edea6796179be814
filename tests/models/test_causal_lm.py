from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from beyond_ce.batches.batch import IGNORED, Numbers
from beyond_ce.errors import UsageError
from beyond_ce.generation import answer, generate
from beyond_ce.losses import CrossEntropy, WassersteinLoss
from beyond_ce.models import CausalLM
from beyond_ce.models.heads import LMHead, RegressionHead
from beyond_ce.tokenizers import PretrainedTokenizer
from beyond_ce.training.objective import Objective

PAD, EOS, VOCAB = 0, 1, 40
PROMPTS = [[5, 6, 7, 8, 9], [10], [11, 12, 13], [14, 15, 16, 17, 18, 19, 20]]
ANSWERS = [[20, EOS], [21, 22, 23, EOS], [24, 25, EOS], [3, EOS]]

GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
GEMMA_3N = {
    "model_type": "gemma3n_text", **LLAMA, "head_dim": 8, "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 40, "laurel_rank": 4, "num_kv_shared_layers": 0,
}  # fmt: skip
SCALED = {"logits_scaling": 6.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "gpt2_untied": {**GPT2, "tie_word_embeddings": False},
    "granite": {"model_type": "granite", **LLAMA, **SCALED, "tie_word_embeddings": True},
    "granitemoe": {"model_type": "granitemoe", **LLAMA, **SCALED, **EXPERTS},
    "llama": {"model_type": "llama", **LLAMA},
    "llama_tied": {"model_type": "llama", **LLAMA, "tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2", **LLAMA},
    "qwen2_tied": {"model_type": "qwen2", **LLAMA, "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", **LLAMA, "sliding_window": 4},
    "bloom": {"model_type": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 2},
    "opt": {
        "model_type": "opt", "hidden_size": 32, "word_embed_proj_dim": 16, "ffn_dim": 48,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64,
    },
}  # fmt: skip


def make(
    config: dict[str, Any] = GPT2,
    vocab_size: int = VOCAB,
    pretrained: Path | None = None,
    head: Any = LMHead,
) -> CausalLM:
    name = pretrained and str(pretrained)
    return CausalLM(vocab_size, PAD, EOS, partial(head), config=config, pretrained=name)


def theirs(config: dict[str, Any], vocab_size: int = VOCAB, scale: float = 4.0) -> PreTrainedModel:
    """A random model of transformers; `scale` larger weights make its choices clear-cut."""
    torch.manual_seed(0)
    special = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": EOS}
    full = AutoConfig.for_model(**config, **special, vocab_size=vocab_size)
    model = AutoModelForCausalLM.from_config(full).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale)
    return model


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request, tmp_path_factory) -> tuple[CausalLM, PreTrainedModel]:
    """A checkpoint with 8 padded rows as we and as transformers load it."""
    folder = tmp_path_factory.mktemp(request.param)
    theirs(CONFIGS[request.param], VOCAB + 8).save_pretrained(folder)
    model = make(pretrained=folder).eval()
    return model, AutoModelForCausalLM.from_pretrained(folder).eval()


def test_equals_transformers(pair: tuple[CausalLM, PreTrainedModel]) -> None:
    model, reference = pair
    batch = model.make_batch(PROMPTS, ANSWERS)
    model.zero_grad()
    reference.zero_grad()
    hidden = model.trunk(batch)
    logits = hidden @ model.head.unembedding().T
    torch.testing.assert_close(model.head.logits(hidden), logits)
    expected = reference(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    assert logits.shape == expected.shape == (4, 8, VOCAB + 8)
    real = batch.attention_mask
    torch.testing.assert_close(logits[real], expected[real], rtol=1e-5, atol=1e-5)
    for values in logits, expected:
        F.cross_entropy(values.flatten(0, 1), batch.labels.flatten()).backward()
    grads = [p.grad for p in model.parameters()], [p.grad for p in reference.parameters()]
    ours, expected_grads = (sorted(float(g.norm()) for g in some) for some in grads)
    torch.testing.assert_close(
        torch.tensor(ours), torch.tensor(expected_grads), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("beams", [1, 3])
def test_generates_what_transformers_does_for_each_prompt(
    pair: tuple[CausalLM, PreTrainedModel], beams: int
) -> None:
    model, reference = pair
    reference.generation_config.suppress_tokens = list(range(VOCAB, VOCAB + 8))
    expected = [
        reference.generate(
            torch.tensor([prompt]), max_new_tokens=8, num_beams=beams, do_sample=False,
            pad_token_id=PAD, renormalize_logits=True,
        )[0, len(prompt) :].tolist()
        for prompt in PROMPTS
    ]  # fmt: skip
    for batch_size in None, 1, 3:
        found = generate(model, PROMPTS, 8, eos_id=EOS, num_beams=beams, batch_size=batch_size)
        assert found.tokens == expected


def test_tied_weights_stay_tied_and_untied_ones_apart(
    pair: tuple[CausalLM, PreTrainedModel],
) -> None:
    model, reference = pair
    tied = reference.get_output_embeddings().weight is reference.get_input_embeddings().weight
    assert (model.head.unembedding() is model.embedding.weight) == tied
    assert torch.equal(model.head.unembedding(), reference.get_output_embeddings().weight)
    count = sum(p.numel() for p in reference.parameters())
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("name", CONFIGS)
def test_random_weights_are_those_of_transformers(name: str) -> None:
    torch.manual_seed(0)
    model = make(CONFIGS[name])
    reference = theirs(CONFIGS[name], scale=1.0)
    batch = model.make_batch(PROMPTS, ANSWERS)
    expected = reference(input_ids=batch.input_ids).logits
    logits = model.eval().head.logits(model.trunk(batch))
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_decoding_equals_teacher_forcing(name: str) -> None:
    torch.manual_seed(0)
    model = make(CONFIGS[name]).eval()
    answers = torch.arange(20, 32).view(4, 3)
    rows = [[*p, *a] for p, a in zip(PROMPTS, answers.tolist(), strict=True)]
    logits = model.head.logits(model.trunk(model.make_batch(rows, [[EOS]] * 4)))
    expected = [logits[torch.arange(4), torch.tensor([len(p) + t - 1 for p in PROMPTS])]
                for t in range(3)]  # fmt: skip
    state, found = model.prefill(PROMPTS, max_new_tokens=3)
    torch.testing.assert_close(found, expected[0])
    torch.testing.assert_close(model.step(state, answers[:, 0]), expected[1])
    kept = torch.tensor([2, 0, 2])
    state.select(kept)
    torch.testing.assert_close(model.step(state, answers[kept, 1]), expected[2][kept])


def test_attention_is_the_fused_one() -> None:
    assert make().decoder.config._attn_implementation == "sdpa"


def test_padding_and_the_padding_token_change_nothing() -> None:
    """An end token that pads as well, which GPT-2 has."""
    torch.manual_seed(0)
    model = make().eval()
    together = model.trunk(model.make_batch(PROMPTS, ANSWERS))
    model.pad_id = EOS
    batch = model.make_batch(PROMPTS, ANSWERS)
    assert (batch.labels == EOS).sum() == 4 and batch.labels[0, -1] == IGNORED
    hidden = model.trunk(batch)
    for row, (prompt, target) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        length = len(prompt) + len(target) - 1
        alone = model.trunk(model.make_batch([prompt], [target]))
        torch.testing.assert_close(hidden[row, :length], alone[0])
        torch.testing.assert_close(together[row, :length], alone[0])


def test_the_embedding_is_replaceable() -> None:
    """Number encodings reach the trunk, the embedding's multiplier included."""
    torch.manual_seed(0)
    model = make(CONFIGS["granite"]).eval()
    names = set(model.state_dict())
    batch = model.make_batch(PROMPTS, ANSWERS)
    before = model.trunk(batch)
    model.add_encodings(torch.randn(VOCAB, 32))
    assert not torch.allclose(model.trunk(batch), before)
    model.embedding.encodings.zero_()
    assert torch.equal(model.trunk(batch), before)
    assert set(model.state_dict()) == names
    assert model.head.unembedding() is model.embedding.weight


def test_a_scaled_embedding_takes_no_encodings() -> None:
    model = make({"model_type": "gemma", **LLAMA, "head_dim": 8})
    with pytest.raises(UsageError, match="GemmaModel.*number encodings"):
        model.add_encodings(torch.zeros(VOCAB, 32))


def test_a_value_is_read_off_the_last_token_of_each_prompt() -> None:
    torch.manual_seed(0)
    model = make(head=RegressionHead).eval()
    batch = model.make_batch(PROMPTS, ANSWERS, Numbers([1.0, 2.0, 3.0, 4.0]))
    hidden = model.trunk(batch)
    assert hidden.shape == (4, 1, 32) and batch.labels.tolist() == [[1.0], [2.0], [3.0], [4.0]]
    for row, prompt in enumerate(PROMPTS):
        alone = model.trunk(model.make_batch([prompt], [[]], Numbers([0.0])))
        torch.testing.assert_close(hidden[row], alone[0])


@pytest.mark.parametrize("name", ["gpt2", "granite", "granitemoe"])
def test_training_lowers_the_loss(name: str) -> None:
    """With number tokens, and logits wider than the vocabulary that the loss knows."""
    torch.manual_seed(0)
    numbers = torch.full((VOCAB - 2,), torch.nan)
    numbers[20:30] = torch.arange(10.0)
    objective = Objective(make(CONFIGS[name]), WassersteinLoss(numbers, weight=0.3))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-2)
    batch = objective.model.make_batch(PROMPTS, ANSWERS)
    losses = []
    for _ in range(60):
        total, terms = objective(batch)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert set(terms) == {"ce", "ntl"}
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("tied", [True, False])
def test_larger_tokenizer_adds_rows(tmp_path: Path, tied: bool) -> None:
    reference = theirs({**GPT2, "tie_word_embeddings": tied})
    reference.save_pretrained(tmp_path)
    model = make(vocab_size=VOCAB + 5, pretrained=tmp_path)
    assert (model.head.unembedding() is model.embedding.weight) == tied
    assert model.embedding.weight.shape == model.head.unembedding().shape == (VOCAB + 5, 32)
    assert torch.equal(model.embedding.weight[:VOCAB], reference.get_input_embeddings().weight)


def test_a_checkpoint_keeps_its_dropout(tmp_path: Path) -> None:
    theirs(GPT2).save_pretrained(tmp_path)
    model = make(pretrained=tmp_path).train()
    batch = model.make_batch(PROMPTS, ANSWERS)
    assert not torch.equal(model.trunk(batch), model.trunk(batch))
    assert torch.equal(model.eval().trunk(batch), model.trunk(batch))


def test_measuring_the_logits_leaves_the_random_state_alone() -> None:
    torch.manual_seed(0)
    theirs(GPT2, scale=1.0)
    LMHead(32, VOCAB)
    expected = torch.rand(3)
    torch.manual_seed(0)
    make()
    assert torch.equal(torch.rand(3), expected)


def test_bfloat16_stays_close() -> None:
    torch.manual_seed(0)
    model = make(CONFIGS["granite"]).eval()
    batch = model.make_batch(PROMPTS, ANSWERS)
    expected = model.trunk(batch)
    tolerance = 0.05 * float(expected.detach().abs().max())
    tokens = torch.tensor([5, 6, 7, 8])
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.trunk(batch).float(), expected, atol=tolerance, rtol=0)
        model.step(model.prefill(PROMPTS, 2)[0], tokens)
    model.bfloat16()
    torch.testing.assert_close(model.trunk(batch).float(), expected, atol=tolerance, rtol=0)
    model.step(model.prefill(PROMPTS, 2)[0], tokens)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "granite"])
def test_compiles(name: str) -> None:
    torch.manual_seed(0)
    objective = Objective(make(CONFIGS[name]).eval(), CrossEntropy(torch.full((VOCAB,), torch.nan)))
    batch = objective.model.make_batch(PROMPTS, ANSWERS)
    total, _ = torch.compile(objective)(batch)
    torch.testing.assert_close(total, objective(batch)[0])


def test_questions_to_answers_with_the_checkpoints_own_tokenizer(tmp_path: Path) -> None:
    words = ["<end>", "<unk>", *"0123456789", *"+="]
    backend = Backend(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    special = {"eos_token": "<end>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(tmp_path)
    theirs(GPT2, vocab_size=len(words) + 2).save_pretrained(tmp_path)
    tokenizer = PretrainedTokenizer(str(tmp_path)).fit([], tmp_path, "")
    torch.manual_seed(0)
    model = CausalLM(
        tokenizer.vocab_size, tokenizer.pad_id, tokenizer.eos_id, partial(LMHead), config={},
        pretrained=str(tmp_path),
    )  # fmt: skip
    prompts, answers = ["1+2=", "10+20="], ["3", "30"]
    objective = Objective(model.eval(), WassersteinLoss(tokenizer.number_values()))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    targets = [[*ids, tokenizer.eos_id] for ids in tokenizer.encode(answers)]
    batch = model.make_batch(tokenizer.encode(prompts), targets)
    for _ in range(60):
        optimizer.zero_grad()
        objective(batch)[0].backward()
        optimizer.step()
    for beams in 1, 2:
        assert answer(model, tokenizer, prompts, "cpu", 5, num_beams=beams) == answers


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "no model_type"),
        ({"model_type": "gpt7"}, "no such model"),
        ({**GPT2, "n_embed": 64}, "n_embed: a gpt2 model has no such setting"),
        ({**GPT2, "n_head": 5}, "does not give a gpt2 model"),
        ({"model_type": "t5"}, "t5 model, not a decoder-only"),
        ({"model_type": "mamba"}, "no key-value cache"),
        ({"model_type": "phi", **LLAMA}, "a bias"),
        ({"model_type": "gemma2", **LLAMA, "head_dim": 8, "attn_logit_softcapping": None},
         "not a multiple"),
        ({"model_type": "gemma2", **LLAMA, "head_dim": 8}, "their attention scores are capped"),
        (GEMMA_3N, r"their layers read token ids again \(hidden_size_per_layer_input=8\)"),
        ({"model_type": "gemma4_text", **LLAMA, "head_dim": 8}, "layers read token ids again"),
        ({"model_type": "gemma3_text", **LLAMA, "use_bidirectional_attention": True},
         "their tokens see later ones"),
        ({"model_type": "llama", **LLAMA, "rope_parameters": {"rope_type": "new"}},
         "transformers has no rope_type new"),
    ],
)  # fmt: skip
def test_what_makes_no_model_is_said_in_one_line(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as error:
        make(config)
    assert "\n" not in str(error.value)


def test_a_configuration_is_refused_before_weights_are_read(tmp_path: Path) -> None:
    AutoConfig.for_model(**GEMMA_3N, vocab_size=VOCAB).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=f"model.pretrained={tmp_path}: .*read token ids again"):
        make(pretrained=tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {**GEMMA_3N, "final_logit_softcapping": 1e9},
        {"model_type": "gemma3_text", **LLAMA, "head_dim": 8, "use_bidirectional_attention": True},
    ],
)
def test_what_no_setting_tells_is_seen_on_the_model(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("beyond_ce.models.causal_lm._VARIANTS", {})
    model = theirs(config)
    with torch.no_grad():
        for parameter in model.parameters():  # some start as zeros, which hides what they do
            parameter.normal_(std=0.2)
    model.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="do not fit model=causal_lm, because their states depend"):
        make(pretrained=tmp_path)


def test_checkpoint_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    truncated, t5, large = (tmp_path / name for name in ("truncated", "t5", "large"))
    theirs(GPT2).save_pretrained(truncated)
    weights = truncated / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    T5ForConditionalGeneration(
        T5Config(vocab_size=9, d_model=8, d_ff=8, d_kv=4, num_heads=2, num_layers=1)
    ).save_pretrained(t5)
    theirs(GPT2, vocab_size=500).save_pretrained(large)
    (tmp_path / "empty").mkdir()
    for path, reason in {
        tmp_path / "missing": "cannot be loaded",
        tmp_path / "empty": "cannot be loaded",
        truncated: "cannot be loaded",
        t5: "is a t5 model, not a decoder-only one",
        large: f"500 tokens, the tokenizer {VOCAB}: .*tokenizer.model={large}",
    }.items():
        with pytest.raises(UsageError, match=f"model.pretrained={path}.*{reason}") as error:
            make(pretrained=path)
        assert "\n" not in str(error.value)


def test_what_does_not_fit_the_context_is_refused() -> None:
    model = make()
    long = [[5] * 60]
    model.prefill(long, max_new_tokens=5)
    for call in (
        lambda: model.prefill(long, max_new_tokens=6),
        lambda: model.make_batch(long, [[5] * 6]),
    ):
        with pytest.raises(UsageError, match="65 tokens.*context of 64"):
            call()
    with pytest.raises(UsageError, match="empty prompt"):
        model.prefill([[5], []], max_new_tokens=1)
