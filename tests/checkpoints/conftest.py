"""Small checkpoints in the released layout, from nothing but torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

DIM, HEADS, LAYERS, VOCAB = 32, 4, 6, 52
HIDDEN = 96  # 8/3 of 32 is 85, and 96 the next multiple of 16
PARAMS = {
    "dim": DIM, "n_layers": LAYERS, "n_heads": HEADS, "vocab_size": -1, "multiple_of": 16,
    "norm_eps": 1e-5,
}  # fmt: skip

Release = Callable[..., Path]


def released_weights(n: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A state dict with `LAYERS` layers in all, n - 1 of them extra heads."""
    draw = torch.Generator().manual_seed(n)

    def normal(*shape: int, scale: float) -> Tensor:
        return (torch.randn(*shape, generator=draw) * scale).to(dtype)

    weights = {"tok_embeddings.weight": normal(VOCAB, DIM, scale=1.0)}
    prefixes = [f"layers.{i}" for i in range(LAYERS - n + 1)]
    prefixes += [f"extra_heads.{i}" for i in range(n - 1)]
    for prefix in prefixes:
        for name in ("wq", "wk", "wv", "wo"):
            weights[f"{prefix}.attention.{name}.weight"] = normal(DIM, DIM, scale=0.3)
        for name, shape in {"w1": (HIDDEN, DIM), "w2": (DIM, HIDDEN), "w3": (HIDDEN, DIM)}.items():
            weights[f"{prefix}.feed_forward.{name}.weight"] = normal(*shape, scale=0.2)
        for name in ("attention_norm", "ffn_norm"):
            weights[f"{prefix}.{name}.weight"] = 1 + normal(DIM, scale=0.2)
    weights["norm.weight"] = 1 + normal(DIM, scale=0.2)
    weights["output.weight"] = normal(VOCAB, DIM, scale=0.2)
    return weights


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """`release(n, weights=None, **params)` writes a checkpoint and returns its folder."""

    def write(n: int = 4, weights: dict[str, Tensor] | None = None, **params: object) -> Path:
        folder = tmp_path / f"released-{n}"
        folder.mkdir()
        (folder / "params.json").write_text(json.dumps({**PARAMS, **params}))
        torch.save(
            released_weights(n) if weights is None else weights, folder / "consolidated.00.pth"
        )
        return folder

    return write


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(VOCAB, (3, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def weights_of() -> Callable[..., dict[str, Tensor]]:
    return released_weights
