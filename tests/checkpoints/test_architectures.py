"""Grouped queries, tied embeddings, biases and scaled rotary positions, as in transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from real_models import real_model
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from beyond_ce.batches.batch import future_labels
from beyond_ce.checkpoints import load_decoder, read_checkpoint, start_from, write_checkpoint
from beyond_ce.errors import UsageError
from beyond_ce.generation import generate
from beyond_ce.losses import CrossEntropy
from beyond_ce.models import Decoder
from beyond_ce.models.heads import (
    LinearBlocks,
    LMHead,
    MultiTokenHead,
    ReplicatedUnembedding,
    SharedUnembedding,
    TransformerBlocks,
)
from beyond_ce.training.objective import Objective

SHAPE = {
    "vocab_size": 52, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "rms_norm_eps": 1e-4, "initializer_range": 0.1, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA_3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama-2": lambda: LlamaForCausalLM(LlamaConfig(**{**SHAPE, "num_key_value_heads": 8})),
    "llama-3": lambda: LlamaForCausalLM(
        LlamaConfig(**SHAPE, tie_word_embeddings=True, rope_parameters=LLAMA_3)
    ),
    "llama-linear": lambda: LlamaForCausalLM(
        LlamaConfig(
            **SHAPE,
            rope_parameters={"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0},
        )
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True)),
    "qwen2-yarn": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, rope_parameters=YARN)),
    "yarn-with-more-settings": lambda: LlamaForCausalLM(
        LlamaConfig(
            **SHAPE,
            rope_parameters={
                **YARN, "beta_fast": 16.0, "beta_slow": 2.0, "mscale": 0.7, "mscale_all_dim": 1.0,
                "truncate": False,
            },
        )
    ),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=None)),
    "mistral-wide-window": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=128)),
}  # fmt: skip
MODELS["stories260k"] = lambda: AutoModelForCausalLM.from_pretrained(real_model("stories260k"))
SMALLER = ["llama-3", "qwen2"]


@pytest.fixture(params=MODELS)
def theirs(request: pytest.FixtureRequest) -> PreTrainedModel:
    return make(request.param)


def make(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    if name != "stories260k":
        for parameter_name, value in model.named_parameters():
            if "norm" in parameter_name or "bias" in parameter_name:  # ones and zeros hide much
                torch.nn.init.uniform_(value, 0.5, 1.5)
    return model


def tokens_of(model: PreTrainedModel, length: int = 100) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(3, model.config.vocab_size, (2, length), generator=draw)


def check_logits(model: Decoder, theirs: PreTrainedModel) -> None:
    tokens = tokens_of(theirs)
    with torch.no_grad():
        expected = theirs(tokens).logits
        # Rounding grows with the logits: transformers' own are off by as much in float32.
        atol = 1e-5 * max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(model.logits(tokens)[:, :, 0], expected, rtol=0, atol=atol)


def test_logits_and_greedy_texts_equal_those_of_transformers(
    theirs: PreTrainedModel, tmp_path: Path
) -> None:
    theirs.save_pretrained(tmp_path)
    model = load_decoder(tmp_path).eval()
    check_logits(model, theirs)
    prompts = tokens_of(theirs, 5)
    expected = theirs.generate(prompts, max_new_tokens=30, do_sample=False, pad_token_id=0)
    found = generate(model, prompts.tolist(), 30, eos_id=2).tokens
    assert [row[: len(new)] for row, new in zip(expected[:, 5:].tolist(), found, strict=True)] == (
        found
    )
    assert all(len(new) == 30 or new[-1] == 2 for new in found)


def test_old_spelling_of_rotary_settings(tmp_path: Path) -> None:
    """As up to transformers 4."""
    theirs = make("llama-3")
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    scaling = config.pop("rope_parameters")
    theta, kind = scaling.pop("rope_theta"), scaling.pop("rope_type")
    path.write_text(
        json.dumps({**config, "rope_theta": theta, "rope_scaling": {"type": kind, **scaling}})
    )
    check_logits(load_decoder(tmp_path), theirs)


def test_there_and_back_bit_by_bit(theirs: PreTrainedModel, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path / "a")
    write_checkpoint(read_checkpoint(tmp_path / "a"), tmp_path / "b", "native")
    write_checkpoint(read_checkpoint(tmp_path / "b"), tmp_path / "c", "hf")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in "ac")
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    again, report = AutoModelForCausalLM.from_pretrained(
        tmp_path / "c", output_loading_info=True, dtype="auto"
    )
    assert not any(report.values())
    check_logits(load_decoder(tmp_path / "b"), again)
    for key in ("tie_word_embeddings", "num_key_value_heads", "bos_token_id", "eos_token_id"):
        assert getattr(again.config, key) == getattr(theirs.config, key), key
    ours, expected = again.config.rope_parameters, theirs.config.rope_parameters
    assert {key: ours[key] for key in expected} == expected


@pytest.mark.parametrize("block", [TransformerBlocks, LinearBlocks])
@pytest.mark.parametrize("unembedding", [SharedUnembedding, ReplicatedUnembedding])
@pytest.mark.parametrize("name", SMALLER)
def test_trains_and_speculates_with_several_heads(
    name: str, block: type, unembedding: type, tmp_path: Path
) -> None:
    theirs = make(name)
    theirs.save_pretrained(tmp_path / "hf")
    source = load_decoder(tmp_path / "hf")
    head = partial(MultiTokenHead, n=3, block=block, unembedding=unembedding,
                   extra_layers=2 if block is TransformerBlocks else 0)  # fmt: skip
    torch.manual_seed(0)
    model = Decoder(52, 0, 2, head, num_layers=4, **source.settings)
    start_from(model, tmp_path / "hf")
    assert (
        model.head.unembedding() is model.embedding.weight or not source.settings["tie_embeddings"]
    )
    check_logits(model, theirs)
    rows = tokens_of(theirs, 41)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    objective = Objective(model, CrossEntropy(torch.full((52,), torch.nan)))
    batch = model.packed_batch(rows)
    objective(batch)[0].backward()
    gradients = {name: value.grad for name, value in model.named_parameters()}
    logits = model.logits(batch.input_ids)
    losses = [
        F.cross_entropy(
            logits[:, :, i].flatten(0, 1),
            future_labels(batch.labels, batch.segments, i).flatten(),
        )
        for i in range(3)
    ]
    expected = torch.autograd.grad(sum(losses), list(model.parameters()))
    for (key, gradient), value in zip(gradients.items(), expected, strict=True):
        torch.testing.assert_close(gradient, value, rtol=1e-3, atol=1e-5, msg=key)
    optimizer.step()
    model.double().eval()
    prompts = [[5, 6, 7], [8], [9, 10]]
    one, several = (generate(model, prompts, 40, heads=heads) for heads in (1, 3))
    assert one.tokens == several.tokens and several.tokens_per_forward >= 1
    tokens = torch.tensor([prompts[0] + one.tokens[0]])
    with torch.no_grad():  # the cache computes the same as the whole forward
        assert model.logits(tokens)[0, 2:-1, 0].argmax(-1).tolist() == one.tokens[0]
    config = {**read_checkpoint(tmp_path / "hf").config}
    assert config["model"]["num_kv_heads"] == 2


def test_llama_layout(tmp_path: Path) -> None:
    config = LlamaConfig(
        **SHAPE,
        tie_word_embeddings=True,
        rope_parameters={**LLAMA_3, "factor": 32.0, "original_max_position_embeddings": 8192},
    )
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path / "hf")
    write_checkpoint(read_checkpoint(tmp_path / "hf"), tmp_path / "llama", "llama")
    params = json.loads((tmp_path / "llama" / "params.json").read_text())
    assert params["n_kv_heads"] == 2 and params["use_scaled_rope"] is True
    assert params["rope_scaling_factor"] == 32.0
    model = load_decoder(tmp_path / "llama")
    check_logits(model, theirs)
    # Two matrices of their own, which do not share memory.
    assert model.head.unembedding().data_ptr() != model.embedding.weight.data_ptr()
    for name, message in (("qwen2", "no biases in attention"), ("llama-3", "Llama 3's rotary")):
        make(name).save_pretrained(tmp_path / name)
        with pytest.raises(UsageError, match=message):
            write_checkpoint(read_checkpoint(tmp_path / name), tmp_path / "no", "llama")


def test_an_unembedding_of_its_own_does_not_fit_a_tied_model(tmp_path: Path) -> None:
    make("llama-linear").save_pretrained(tmp_path)
    source = load_decoder(tmp_path)
    for key, value, message in (
        ("tie_embeddings", True, r"has an unembedding of its own: set \+\+model.tie_embeddings"),
        ("num_kv_heads", 8, r"num_kv_heads=8, but .* has 2: set '\+\+model.num_kv_heads=2'"),
        ("rope_scaling", None, r"set '\+\+model.rope_scaling={rope_type: linear, factor: 3.0}'"),
    ):
        model = Decoder(52, 0, 2, LMHead, num_layers=4, **{**source.settings, key: value})
        with pytest.raises(UsageError, match=message):
            start_from(model, tmp_path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_kv_heads": 3}, "model.num_kv_heads=3 does not divide the 4 heads"),
        ({"num_kv_heads": 0}, "model.num_kv_heads=0 does not divide"),
        ({"num_kv_heads": 2.0}, "model.num_kv_heads=2.0 does not divide"),
        ({"rope_scaling": "llama3"}, "rope_scaling='llama3': give rope_type"),
        ({"rope_scaling": {"rope_type": "ntk"}}, "type ntk: models here know default, linear"),
        ({"rope_scaling": {"rope_type": "linear"}}, "has no factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": float("nan")}}, "factor=nan: give"),
        ({"rope_scaling": {"rope_type": "linear", "factor": True}}, "factor=True: give"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2, "x": 1}}, "no setting x"),
        ({"rope_scaling": {**LLAMA_3, "rope_theta": None, "high_freq_factor": 1}}, "smaller than"),
    ],
)
def test_settings_are_checked(keys: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Decoder(52, 0, 2, LMHead, dim=32, num_layers=1, num_heads=4, max_length=16, **keys)


def test_all_tokens_that_end_a_text_are_kept(tmp_path: Path) -> None:
    theirs = make("llama-3")
    theirs.config.eos_token_id = [7, 9]
    theirs.generation_config.eos_token_id = [9, 11]
    theirs.generation_config.temperature = 0.6
    theirs.generation_config.do_sample = True
    theirs.save_pretrained(tmp_path / "hf")
    path = tmp_path / "hf" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [7, 9]}))
    source = tmp_path / "hf"
    for number, to in enumerate(("native", "hf", "native")):
        write_checkpoint(read_checkpoint(source), tmp_path / str(number), to)
        source = tmp_path / str(number)
        checkpoint = read_checkpoint(source)
        assert checkpoint.end_ids == [7, 9, 11] and checkpoint.model.eos_id == 7
        assert checkpoint.generation["temperature"] == 0.6
        assert checkpoint.generation["bos_token_id"] == 1
    config = json.loads((tmp_path / "1" / "config.json").read_text())
    assert config["eos_token_id"] == [7, 9, 11] and config["bos_token_id"] == 1
