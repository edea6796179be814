"""Our decoding and other programs on one model: the same text, and a time for each."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import datasets
import numpy as np
import pytest
import torch
from small_decoders import byte_decoder

from beyond_ce.errors import UsageError
from beyond_ce.evaluation import SpeculationAndPeers, Subject
from beyond_ce.evaluation.decoding_peers import PEERS, is_there, write_gguf
from beyond_ce.evaluation.evaluator import shared_start
from beyond_ce.generation import generate
from beyond_ce.models import Decoder
from beyond_ce.tokenizers import ByteTokenizer

PROMPT = list(b"for i in range(")
SIZES = {"batch_sizes": [1], "prompt_tokens": 8, "max_new_tokens": 6, "max_prompts": 2,
         "repeats": 1}  # fmt: skip


@cache
def model() -> Decoder:
    return byte_decoder(3).eval()


@pytest.mark.parametrize("name", [name for name in PEERS if name.endswith("float32")])
def test_peers_give_our_text(name: str, tmp_path: Path) -> None:
    if not is_there(name):
        pytest.skip("needs llama-cpp-python and gguf")
    expected = generate(model(), [PROMPT], 12).tokens[0]
    assert PEERS[name](model(), tmp_path)(PROMPT, 12) == expected


def test_every_way_has_its_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a peer of this test, whose text differs from the third token on."""

    def peer(model: Decoder, folder: Path):
        def go_on(prompt: list[int], count: int) -> list[int]:
            return [*generate(model, [prompt], 2).tokens[0], *[-1] * (count - 2)]

        return go_on

    monkeypatch.setitem(PEERS, "transformers_float32", peer)
    evaluator = SpeculationAndPeers(
        peers=["transformers_float32"], dtypes=["float32", "bfloat16"], **SIZES
    )
    texts = ["x = 1\n" * 9, "y = 2\n" * 9]
    examples = datasets.Dataset.from_dict({"text": texts, "task": ["a", "b"]})
    found = evaluator(Subject(model(), ByteTokenizer(), "cpu"), examples)
    ours = [f"k{k}_{dtype}" for dtype in ("float32", "bfloat16") for k in (1, 2, 3)]
    for way in [*ours, "transformers_float32"]:
        assert found.metrics[f"tokens_per_second@{way}"] > 0
        assert found.metrics[f"of_plain@{way}"] > 0
    for way in ours:
        assert found.metrics[f"unexplained@{way}"] == 0
        assert 1 <= found.metrics[f"tokens_per_forward@{way}"] <= int(way[1])
    assert found.metrics["speedup@k1_float32"] == found.metrics["of_plain@k1_float32"] == 1
    assert found.metrics["speedup@k1_bfloat16"] == 1
    assert found.metrics["same@transformers_float32"] == pytest.approx(2 / 6)
    assert len(found.predictions) == 2


def test_tokens_before_the_first_difference() -> None:
    assert shared_start([5, 6, 7], [5, 6, 8]) == 2
    assert shared_start([5], [5, 6]) == 1
    assert shared_start([4], [5]) == 0


def test_peers_without_their_packages_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not is_there("llama_cpp_float16")
    assert is_there("transformers_bfloat16")


def test_what_cannot_be_compared_is_refused() -> None:
    for wrong in ({"batch_sizes": [1, 2]}, {"dtypes": ["bfloat16"]}):
        with pytest.raises(UsageError, match=r"set batch_sizes=\[1\]"):
            SpeculationAndPeers(**{"peers": None, "dtypes": ["float32"], **SIZES, **wrong})
    with pytest.raises(UsageError, match="evaluator.peers"):
        SpeculationAndPeers(peers=["vllm"], dtypes=["float32"], **SIZES)


def test_a_gguf_has_every_weight(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Against a stand-in of the package's writer: names as llama.cpp's, matrices in the type asked
    for, nothing reordered."""
    written: dict[str, np.ndarray] = {}
    numbers: dict[str, object] = {}

    class Writer:
        def __init__(self, path: Path, architecture: str) -> None:
            assert architecture == "llama"

        def add_tensor(self, name: str, value: np.ndarray) -> None:
            written[name] = value

        def __getattr__(self, name: str):
            return lambda *values: numbers.update({name: values})

    package = ModuleType("gguf")
    package.GGUFWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gguf", package)
    write_gguf(model(), tmp_path / "model.gguf", torch.float16)
    plain = model().next_token_model()
    assert len(written) == len(list(plain.parameters()))
    assert {str(value.dtype) for value in written.values() if value.ndim == 2} == {"float16"}
    assert {str(value.dtype) for value in written.values() if value.ndim == 1} == {"float32"}
    query = plain.layers[0].attention.wq.weight.detach()
    np.testing.assert_array_equal(written["blk.0.attn_q.weight"], query.half().numpy())
    assert numbers["add_head_count"] == (plain.settings["num_heads"],)
    assert numbers["add_block_count"] == (len(plain.layers),)
