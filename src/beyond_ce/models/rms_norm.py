"""RMSNorm (Zhang and Sennrich, 2019) with fewer operations in its backward pass on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class RMSNorm(nn.RMSNorm):
    """torch's RMSNorm, with the same output and gradients to the last bit.

    Other devices have fused kernels for it. On a CPU torch composes it of small operations, whose
    gradients take several times as long as the forward pass.
    """

    def forward(self, x: Tensor) -> Tensor:
        single = x.dtype == self.weight.dtype == torch.float32
        if single and x.is_cpu and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _RMSNorm.apply(x, x, self.weight, self.eps)
        return super().forward(x)


class _RMSNorm(Function):
    """Takes x twice: autograd adds its gradients as numerator and as denominator to those from
    elsewhere one after the other, as it does for torch's composition. Their sum would round
    differently."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, same: Tensor, weight: Tensor, eps: float
    ) -> Tensor:
        scale = same.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        normed = x * scale
        ctx.save_for_backward(x, weight, scale, normed)
        return normed * weight

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, scale, normed = ctx.saved_tensors
        grad_weight = (grad * normed).sum_to_size(weight.shape)
        grad = grad * weight
        grad_scale = (grad * x).sum(-1, keepdim=True)
        grad_square = grad_scale.mul_(-0.5).mul_(scale.pow(3)).div_(x.shape[-1])
        return grad.mul_(scale), grad_square.mul_(2) * x, grad_weight, None
