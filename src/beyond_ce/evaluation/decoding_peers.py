"""Other programs that continue a prompt greedily with a model's weights, to time beside ours."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from beyond_ce.checkpoints import Checkpoint, write_checkpoint
from beyond_ce.errors import UsageError
from beyond_ce.models.decoder import Decoder

Continue = Callable[[list[int], int], list[int]]
"""The new tokens of a prompt, so many of them; an end token does not stop it."""

_LOOK_UP = 10  # tokens that prompt-lookup decoding drafts, the default of its authors


def transformers_generate(
    model: Decoder, folder: Path, dtype: torch.dtype, look_up: bool = False
) -> Continue:
    """transformers' `generate` with its key-value cache.

    Args:
        folder: to write the weights to.
        look_up: with drafts from earlier in the text (prompt-lookup decoding, Saxena, 2023).
    """
    from transformers import AutoModelForCausalLM  # slow to import

    place = folder / "transformers"
    if not place.exists():
        write_checkpoint(Checkpoint({}, model), place, "hf")
    peer: Any = AutoModelForCausalLM.from_pretrained(
        place, dtype=dtype, trust_remote_code=False
    ).eval()
    peer.generation_config.eos_token_id = None
    drafts = {"prompt_lookup_num_tokens": _LOOK_UP} if look_up else {}

    def go_on(prompt: list[int], count: int) -> list[int]:
        ids = torch.tensor([prompt])
        tokens = peer.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            do_sample=False,
            **drafts,
        )
        new: list[int] = tokens[0, len(prompt) :].tolist()
        return new

    return go_on


def llama_cpp(model: Decoder, folder: Path, dtype: torch.dtype) -> Continue:
    """llama.cpp, through the packages `llama-cpp-python` and `gguf`, with as many threads as torch.

    Args:
        folder: to write the weights to.
        dtype: float32 or float16, of the matrices.
    """
    from llama_cpp import Llama

    place = folder / f"{dtype}.gguf".removeprefix("torch.")
    write_gguf(model, place, dtype)
    threads = torch.get_num_threads()
    peer = Llama(
        str(place),
        n_ctx=min(model.max_length, 4096),
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
    )

    def go_on(prompt: list[int], count: int) -> list[int]:
        peer.reset()
        peer.eval(prompt)
        new: list[int] = [peer.sample(temp=0.0)]
        while len(new) < count:
            peer.eval(new[-1:])
            new.append(peer.sample(temp=0.0))
        return new

    return go_on


def write_gguf(model: Decoder, path: Path, dtype: torch.dtype) -> None:
    """Write the ordinary model in llama.cpp's format, without a tokenizer.

    It rotates neighbouring channels as we do, so that no weight is reordered.

    Raises:
        UsageError: the model has what Llama 2 has not.
    """
    import gguf

    plain = model.next_token_model()
    settings = plain.settings
    if settings["rope_scaling"] is not None or settings["qkv_bias"]:
        raise UsageError(
            "llama.cpp gets models without rotary scaling and biases only: leave it out of "
            "evaluator.peers"
        )
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(settings["max_length"])
    writer.add_embedding_length(settings["dim"])
    writer.add_block_count(len(plain.layers))
    layer: Any = plain.layers[0]
    writer.add_feed_forward_length(layer.feed_forward.w1.out_features)
    writer.add_head_count(settings["num_heads"])
    writer.add_head_count_kv(settings["num_kv_heads"])
    writer.add_layer_norm_rms_eps(settings["norm_eps"])
    writer.add_rope_freq_base(settings["rope_theta"])
    writer.add_rope_dimension_count(settings["dim"] // settings["num_heads"])
    writer.add_vocab_size(plain.embedding.num_embeddings)
    writer.add_tokenizer_model("no_vocab")

    def add(name: str, value: torch.Tensor) -> None:
        # Vectors are float32 in every such file.
        writer.add_tensor(
            name, value.detach().to(dtype if value.ndim > 1 else torch.float32).numpy()
        )

    add("token_embd.weight", plain.embedding.weight)
    matrix = plain.head.unembedding()
    if matrix is not None and matrix is not plain.embedding.weight:
        add("output.weight", matrix)
    norm: Any = plain.norm
    add("output_norm.weight", norm.weight)
    names = {
        "attention.wq": "attn_q",
        "attention.wk": "attn_k",
        "attention.wv": "attn_v",
        "attention.wo": "attn_output",
        "feed_forward.w1": "ffn_gate",
        "feed_forward.w2": "ffn_down",
        "feed_forward.w3": "ffn_up",
        "attention_norm": "attn_norm",
        "ffn_norm": "ffn_norm",
    }
    for i, layer in enumerate(plain.layers):
        for ours, theirs in names.items():
            add(f"blk.{i}.{theirs}.weight", layer.get_submodule(ours).weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


PEERS: dict[str, Callable[[Decoder, Path], Continue]] = {
    "transformers_float32": lambda m, f: transformers_generate(m, f, torch.float32),
    "transformers_bfloat16": lambda m, f: transformers_generate(m, f, torch.bfloat16),
    "prompt_lookup_float32": lambda m, f: transformers_generate(m, f, torch.float32, True),
    "prompt_lookup_bfloat16": lambda m, f: transformers_generate(m, f, torch.bfloat16, True),
    "llama_cpp_float32": lambda m, f: llama_cpp(m, f, torch.float32),
    "llama_cpp_float16": lambda m, f: llama_cpp(m, f, torch.float16),
}
"""By name; the last word is the precision of the weights."""


def is_there(name: str) -> bool:
    """Whether the packages that a peer needs are installed."""
    if not name.startswith("llama_cpp"):
        return True
    return all(importlib.util.find_spec(package) for package in ("llama_cpp", "gguf"))
