from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from beyond_ce.models import cpu_kernels, packed_linear
from beyond_ce.models.packed_linear import PackedLinear, each_its_own

SIZES = [(300, 500), (500,), (8, 4)]  # of matrices on one input: large, large, small


def matrices(sizes: tuple[int, ...], dim: int, dtype: torch.dtype) -> list[torch.nn.Parameter]:
    draw = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(size, dim, generator=draw).to(dtype)) for size in sizes]


def maps_of(weights: list[torch.nn.Parameter]) -> list[partial[torch.Tensor]]:
    return [partial(F.linear, weight=weight) for weight in weights]


def product(weights: list[torch.nn.Parameter], hidden: torch.Tensor) -> torch.Tensor:
    return torch.cat([F.linear(hidden.double(), weight.double()) for weight in weights], dim=-1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("rows", [(1, 1), (1, 2), (2, 1), (1, 3), (1, 4), (3, 3), (5, 40)])
@torch.no_grad()
def test_equals_linear(dtype, sizes, rows) -> None:
    weights = matrices(sizes, 384, dtype)
    draw = torch.Generator().manual_seed(1)  # those of the matrices would make large products
    hidden = torch.randn(*rows, 384, generator=draw).to(dtype)
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.3}[dtype]
    found = PackedLinear(*weights)(hidden)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), product(weights, hidden), atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 8, 40])
@torch.no_grad()
def test_each_row_through_its_own_map(dtype, rows) -> None:
    weights = matrices((300, 300, 300), 64, dtype)
    hidden = torch.randn(rows, 3, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    maps = [PackedLinear(weight) for weight in weights]
    expected = torch.stack([map_(hidden[:, i]) for i, map_ in enumerate(maps_of(weights))], dim=1)
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.3}[dtype]
    for some in (maps, [maps[0], *maps_of(weights)[1:]]):
        found = each_its_own(some, hidden)
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


@torch.no_grad()
def test_only_some_of_it_is_packed() -> None:
    for dtype, sizes, packed in [
        (torch.float32, (500,), True),
        (torch.float32, (8, 4), False),
        (torch.float64, (500,), False),
    ]:
        assert (PackedLinear(*matrices(sizes, 384, dtype)).packed is not None) == packed
    with torch.autocast("cpu", torch.bfloat16):
        product = PackedLinear(*matrices((500,), 384, torch.float32))
        assert product.packed is None
        assert product(torch.randn(1, 2, 384)).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@torch.no_grad()
def test_low_precision_products_are_close(dtype) -> None:
    weights = matrices((300, 500), 384, dtype)
    hidden = torch.randn(2, 3, 384).to(dtype)
    expected = product(weights, hidden)
    found = PackedLinear(*weights, low_precision=True)(hidden)
    assert found.dtype == dtype
    error = (found.double() - expected).norm() / expected.norm()
    assert error < (1e-12 if dtype is torch.float64 else 1 / 200)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("low_precision", [False, True])
@torch.no_grad()
def test_without_the_kernels(monkeypatch: pytest.MonkeyPatch, dtype, low_precision) -> None:
    monkeypatch.setattr(packed_linear, "_MULTIPLY", None)
    monkeypatch.setattr(cpu_kernels, "kernels", lambda *types: None)
    weights = matrices((500,), 384, dtype)
    hidden = torch.randn(1, 2, 384).to(dtype)
    linear = PackedLinear(*weights, low_precision=low_precision)
    assert linear.packed is None
    torch.testing.assert_close(linear(hidden), F.linear(hidden, weights[0]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("low_precision", [False, True])
@torch.no_grad()
def test_onednn_and_our_kernels_agree(monkeypatch, dtype, sizes, low_precision) -> None:
    """Ours for up to four rows, and oneDNN's or torch's for more and where ours are missing."""
    weights = matrices(sizes, 384, dtype)
    hidden = torch.randn(1, 9, 384).to(dtype)
    ours = PackedLinear(*weights, low_precision=low_precision)
    several = torch.cat([ours(hidden[:, :3]), ours(hidden[:, 3:4]), ours(hidden[:, 4:])], dim=1)
    together = ours(hidden)
    monkeypatch.setattr(cpu_kernels, "kernels", lambda *types: None)
    without = PackedLinear(*weights, low_precision=low_precision)(hidden)
    expected = product(weights, hidden)
    for found in (several, together, without):
        assert found.dtype == dtype
        error = (found.double() - expected).norm() / expected.norm()
        rounded = dtype is torch.bfloat16 or (low_precision and dtype is torch.float32)
        assert error < (1 / 200 if rounded else 1e-6)
