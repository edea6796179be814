from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5LayerNorm

from beyond_ce.models.rms_norm import RMSNorm


def outputs(norm: nn.Module, shape: tuple[int, ...], residual: bool) -> list[Tensor]:
    """Output and gradients of a norm, with or without a residual connection around it."""
    torch.manual_seed(1)
    x = (3 * torch.randn(shape)).requires_grad_()
    hidden = x + 1
    y = hidden + norm(hidden) if residual else norm(hidden)
    return [y, *torch.autograd.grad(y, (x, norm.weight), torch.randn(shape))]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", [(16, 7, 64), (3, 5, 100), (6, 33)])
@pytest.mark.parametrize("theirs_class", [nn.RMSNorm, T5LayerNorm])
def test_equals_others_to_the_last_bit(
    theirs_class: type[nn.Module], shape: tuple[int, ...], residual: bool
) -> None:
    theirs, ours = theirs_class(shape[-1], eps=1e-6), RMSNorm(shape[-1], eps=1e-6)
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(shape[-1]))
    theirs.weight = ours.weight = weight
    for a, b in zip(*(outputs(norm, shape, residual) for norm in (theirs, ours)), strict=True):
        assert torch.equal(a, b)


def test_half_precision_and_inference_equal_torch() -> None:
    theirs, ours = nn.RMSNorm(32, 1e-6), RMSNorm(32, 1e-6)
    x = torch.randn(4, 3, 32)
    with torch.inference_mode():
        assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.bfloat16()(x.bfloat16()), theirs.bfloat16()(x.bfloat16()))


def test_compiles() -> None:
    norm = RMSNorm(16, 1e-6)
    compiled = torch.compile(norm, backend="eager", fullgraph=True)
    x = torch.randn(2, 3, 16)
    assert torch.equal(compiled(x), norm(x))
