from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from beyond_ce.checkpoints import load_decoder, read_checkpoint, write_checkpoint
from beyond_ce.errors import RunError, UsageError

SHAPE = {
    "vocab_size": 52, "hidden_size": 32, "intermediate_size": 112, "num_hidden_layers": 3,
    "num_attention_heads": 4, "max_position_embeddings": 64, "rms_norm_eps": 1e-4,
    "eos_token_id": 7, "pad_token_id": 3, "initializer_range": 0.3,
}  # fmt: skip


@pytest.fixture
def theirs() -> LlamaForCausalLM:
    return make()


def make(**keys: object) -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**SHAPE, **keys})).eval()
    for name, value in model.named_parameters():
        if "norm" in name:  # ones would hide a norm in the wrong place
            torch.nn.init.uniform_(value, 0.5, 1.5)
    return model


def check_logits(folder: Path, theirs: LlamaForCausalLM, tokens: Tensor) -> None:
    # In double precision: in float32 either model's rounding comes near the tolerance.
    with torch.no_grad():
        logits = load_decoder(folder, torch.float64).logits(tokens)
        expected = copy.deepcopy(theirs).double()(tokens).logits
        torch.testing.assert_close(logits[:, :, 0], expected, rtol=1e-5, atol=1e-5)
    assert logits.shape == (*tokens.shape, 1, 52)


def test_a_model_of_transformers_gives_the_same_logits(
    theirs: LlamaForCausalLM, tokens: Tensor, tmp_path: Path
) -> None:
    theirs.save_pretrained(tmp_path)
    check_logits(tmp_path, theirs, tokens)
    model = load_decoder(tmp_path)
    assert (model.pad_id, model.eos_id, model.max_length) == (3, 7, 64)
    assert load_decoder(tmp_path, torch.bfloat16).embedding.weight.dtype == torch.bfloat16


def test_wavelengths_are_read_from_either_version(tokens: Tensor, tmp_path: Path) -> None:
    theirs = make(rope_parameters={"rope_type": "default", "rope_theta": 300.0})
    theirs.save_pretrained(tmp_path)
    check_logits(tmp_path, theirs, tokens)
    edit(tmp_path / "config.json", rope_parameters=None, rope_theta=300.0, rope_scaling=None)
    check_logits(tmp_path, theirs, tokens)


def test_a_tied_unembedding_stays_tied(tokens: Tensor, tmp_path: Path) -> None:
    theirs = make(tie_word_embeddings=True)
    theirs.save_pretrained(tmp_path)
    check_logits(tmp_path, theirs, tokens)
    for dtype in (None, torch.float64):
        model = load_decoder(tmp_path, dtype)
        assert model.head.unembedding() is model.embedding.weight
    state = {"lm_head.weight": theirs.lm_head.weight.detach().clone(), **theirs.state_dict()}
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    check_logits(tmp_path, theirs, tokens)
    torch.save({**state, "lm_head.weight": torch.ones(52, 32)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(RunError, match=r"lm_head.weight differs from model.embed_tokens.weight"):
        load_decoder(tmp_path)


def test_several_files_and_torch_files(
    theirs: LlamaForCausalLM, tokens: Tensor, tmp_path: Path
) -> None:
    theirs.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    check_logits(tmp_path, theirs, tokens)
    for path in tmp_path.glob("*.safetensors*"):
        path.unlink()
    state = {**theirs.state_dict(), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    torch.save(state, tmp_path / "pytorch_model.bin")
    check_logits(tmp_path, theirs, tokens)
    (tmp_path / "pytorch_model.bin").unlink()
    files = {name: f"pytorch_model-{i % 2}.bin" for i, name in enumerate(state)}
    for file in set(files.values()):
        part = {name: value for name, value in state.items() if files[name] == file}
        torch.save(part, tmp_path / file)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    check_logits(tmp_path, theirs, tokens)
    (tmp_path / "pytorch_model-1.bin").unlink()
    with pytest.raises(RunError, match=r"pytorch_model-1.bin is missing"):
        load_decoder(tmp_path)
    index.write_text("{}")
    with pytest.raises(RunError, match=r"has no weight_map"):
        load_decoder(tmp_path)


@pytest.mark.parametrize("n", [1, 4])
def test_head_1_becomes_a_plain_llama(
    release: Callable[..., Path], tokens: Tensor, tmp_path: Path, n: int
) -> None:
    checkpoint = read_checkpoint(release(n, rope_theta=500.0, max_seq_len=32))
    write_checkpoint(checkpoint, tmp_path / "hf", "hf")
    theirs, report = LlamaForCausalLM.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(report.values())
    with torch.no_grad():
        expected = checkpoint.model.logits(tokens)[:, :, 0]
        torch.testing.assert_close(theirs(tokens).logits, expected, rtol=1e-5, atol=1e-5)
    assert theirs.config.max_position_embeddings == 32 and theirs.config.eos_token_id == 2
    check_logits(tmp_path / "hf", theirs, tokens)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_and_back_bit_by_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    theirs = make().to(dtype)
    theirs.save_pretrained(tmp_path / "a")
    write_checkpoint(read_checkpoint(tmp_path / "a"), tmp_path / "b", "native")
    write_checkpoint(read_checkpoint(tmp_path / "b"), tmp_path / "c", "hf")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in "ac")
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    config = LlamaForCausalLM.from_pretrained(tmp_path / "c", dtype="auto").config.to_dict()
    for key in (*SHAPE, "rope_parameters", "tie_word_embeddings", "dtype"):
        if key != "initializer_range":
            assert config[key] == theirs.config.to_dict()[key], key


def edit(path: Path, **keys: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"num_key_value_heads": 3}, UsageError, "num_key_value_heads=3 does not divide 4 heads"),
        ({"head_dim": 16}, UsageError, "head_dim=16 is not the hidden size 32 over 4 heads"),
        ({"attention_bias": True}, UsageError, "attention_bias is set"),
        ({"mlp_bias": True}, UsageError, "mlp_bias is set"),
        ({"quantization_config": {"bits": 4}}, UsageError, "quantization_config is set"),
        ({"hidden_act": "gelu"}, UsageError, "hidden_act=gelu is not silu"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_parameters": None}, UsageError,
         "rope_scaling of type dynamic: models here know default, linear"),
        ({"rope_parameters": {"rope_type": "llama3"}}, UsageError, "of type llama3 has no factor"),
        ({"rope_parameters": {"rope_type": "longrope", "long_factor": [1]}}, UsageError,
         "rope_scaling of type longrope"),
        ({"rope_parameters": {"rope_type": "linear", "factor": -1}}, UsageError, "factor=-1: give"),
        ({"rope_parameters": {"rope_type": "default", "mrope_section": [1]}}, UsageError,
         "has no setting mrope_section"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, UsageError,
         "is not one set of numbers for all layers"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, UsageError,
         "has no setting partial_rotary_factor"),
        ({"partial_rotary_factor": 0.5}, UsageError, "partial_rotary_factor is set"),
        ({"sliding_window": 32}, UsageError, "sliding_window=32 limits attention"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, UsageError,
         "layer_types has sliding_attention"),
        ({"attn_logit_softcapping": 50.0}, UsageError, "attn_logit_softcapping is set"),
        ({"final_logit_softcapping": 30.0}, UsageError, "final_logit_softcapping is set"),
        ({"hidden_size_per_layer_input": 8}, UsageError, "hidden_size_per_layer_input is set"),
        ({"attention_multiplier": 1.0}, UsageError, "attention_multiplier is set"),
        ({"logits_scaling": 8.0}, UsageError, "logits_scaling is set"),
        ({"use_qk_norm": True}, UsageError, "use_qk_norm is set"),
        ({"num_local_experts": 8}, UsageError, "num_local_experts is set"),
        ({"is_causal": False}, UsageError, "is_causal=false"),
        ({"model_type": "gemma"}, UsageError, "model_type=gemma is not one of llama, mistral"),
        ({"intermediate_size": 64}, UsageError, "intermediate_size gives .* 64, but .* Llama's 85"),
        ({"hidden_size": None}, RunError, "config.json has no hidden_size"),
        ({"vocab_size": 51}, RunError, r"embed_tokens.weight has shape \[52, 32\], .* \[51, 32\]"),
        ({"num_hidden_layers": 4}, RunError, r"model.layers.3.self_attn.q_proj.weight is missing"),
        ({"num_hidden_layers": 2}, RunError, r"model.layers.2.\S+ of shape .* is not in the model"),
        ({"intermediate_size": 128}, RunError, r"gate_proj.weight has shape \[112, 32\], .*128"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    theirs: LlamaForCausalLM, tmp_path: Path, keys: dict, error: type[Exception], message: str
) -> None:
    theirs.save_pretrained(tmp_path)
    edit(tmp_path / "config.json", **keys)
    with pytest.raises(error, match=message) as found:
        load_decoder(tmp_path)
    assert "\n" not in str(found.value)


def test_damaged_files_are_named(theirs: LlamaForCausalLM, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    query = "model.layers.0.self_attn.q_proj.weight"
    save_file({**tensors, query: torch.zeros(32, 8)}, path)
    with pytest.raises(RunError, match=rf"{query} has shape \[32, 8\], expected \[32, 32\]"):
        load_decoder(tmp_path)
    save_file({name: value for name, value in tensors.items() if name != "lm_head.weight"}, path)
    with pytest.raises(RunError, match=r"lm_head.weight is missing, expected with .*\[52, 32\]"):
        load_decoder(tmp_path)
    save_file(tensors, path)
    whole = path.read_bytes()
    for kept in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(RunError, match=r"model.safetensors is truncated or damaged") as found:
            load_decoder(tmp_path)
        assert "\n" not in str(found.value)
    path.unlink()
    with pytest.raises(RunError, match=r"has no model.safetensors, pytorch_model.bin"):
        load_decoder(tmp_path)
