"""Rotary positions: complex products, and the same written out for the compiler."""

from __future__ import annotations

import math

import pytest
import torch

from beyond_ce.models.layers import Rotary, rotate

LENGTH, HEADS, WIDTH = 7, 3, 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_compiled_rotates_alike(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(2, LENGTH, HEADS, WIDTH, dtype=dtype, requires_grad=True)
    rotations, grad = Rotary(LENGTH, WIDTH, 100.0)(LENGTH), torch.randn_like(x)
    rotated = rotate(x, rotations)
    (found,) = torch.autograd.grad(rotated, x, grad)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    compiled = rotate(x, rotations)
    (expected,) = torch.autograd.grad(compiled, x, grad)
    assert rotated.dtype == compiled.dtype == dtype
    torch.testing.assert_close(rotated, compiled)
    torch.testing.assert_close(found, expected)


def test_a_pair_turns_by_its_positions_angle() -> None:
    x = torch.tensor([1.0, 0.0, 0.0, 2.0]).expand(1, LENGTH, 1, 4)
    rotated = rotate(x, Rotary(LENGTH, 4, theta=100.0)(LENGTH))[0, :, 0]
    for position in range(LENGTH):
        fast, slow = position * 1.0, position * 100.0**-0.5
        by_hand = [math.cos(fast), math.sin(fast), -2 * math.sin(slow), 2 * math.cos(slow)]
        torch.testing.assert_close(rotated[position], torch.tensor(by_hand))
