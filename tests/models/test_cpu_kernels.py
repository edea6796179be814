"""Kernels of our own for a few tokens at a time: what they compute, and what is without them."""

from __future__ import annotations

import logging
import os
import shutil
from functools import partial
from itertools import product
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from beyond_ce.generation import generate
from beyond_ce.models import Decoder, cpu_kernels, decoding
from beyond_ce.models.decoder_state import DecoderState
from beyond_ce.models.decoding import TokenSelection
from beyond_ce.models.heads import LMHead, MultiTokenHead, SharedUnembedding, TransformerBlocks
from beyond_ce.models.key_value_cache import CacheSlots, KeyValueCache

TYPES = [
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.float32),
    (torch.bfloat16, torch.bfloat16),
]
ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 2**-8}

KERNELS = cpu_kernels.kernels(torch.float32, torch.float32)
MOST = 1 if KERNELS is None else KERNELS.most_tokens[torch.float32]

needs_kernels = pytest.mark.skipif(KERNELS is None, reason="no C++ compiler")


def kernels() -> cpu_kernels.Kernels:
    assert KERNELS is not None
    return KERNELS


@needs_kernels
@pytest.mark.parametrize("types", TYPES)
@given(st.integers(1, 70), st.integers(1, 200), st.integers(1, 3 * MOST), st.integers(0, 99))
def test_linear(types, rows, size, tokens, seed) -> None:
    """Every element's error is within rounding of the sum of its terms' magnitudes."""
    draw = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, size, generator=draw).to(types[0])
    hidden = torch.randn(1, tokens, size, generator=draw).to(types[1])
    found = kernels().linear(hidden, matrix)
    assert found.dtype == types[1]
    expected = hidden.double() @ matrix.double().T
    magnitude = hidden.double().abs() @ matrix.double().abs().T
    assert ((found.double() - expected).abs() <= ROUNDING[types[1]] * magnitude).all()


@needs_kernels
@given(st.integers(1, 40), st.integers(1, 100), st.integers(1, 3 * MOST))
def test_tokens_do_not_depend_on_each_other(rows, size, tokens) -> None:
    matrix, hidden = torch.randn(rows, size), torch.randn(1, tokens, size)
    together = kernels().linear(hidden, matrix)
    alone = [kernels().linear(hidden[:, i, None], matrix) for i in range(tokens)]
    assert torch.equal(together, torch.cat(alone, dim=1))


@needs_kernels
@pytest.mark.parametrize("types", TYPES)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 100), st.integers(1, 2 * MOST))
def test_matrices_that_each_multiply_their_own_tokens(types, number, rows, size, tokens) -> None:
    matrices = torch.randn(number, rows, size).to(types[0]).unbind()
    hidden = torch.randn(tokens, number, size).to(types[1])
    together = kernels().linear(hidden, *matrices)
    alone = [kernels().linear(hidden[:, i], matrix) for i, matrix in enumerate(matrices)]
    assert torch.equal(together, torch.stack(alone, dim=1))


@needs_kernels
def test_numbers_that_are_not_finite_and_matrices_in_parts() -> None:
    matrix = torch.randn(6, 64)[:, ::2]
    hidden = torch.randn(1, 2, 32)
    hidden[0, 1, 3] = torch.nan
    for dtype in (torch.float32, torch.bfloat16):
        found = kernels().linear(hidden.to(dtype), matrix.contiguous().to(dtype))
        assert found[0, 0].isfinite().all() and found[0, 1].isnan().all()
    transposed = torch.randn(1, 32, 2).transpose(1, 2)
    expected = kernels().linear(transposed.clone(), matrix.contiguous())
    assert torch.equal(kernels().linear(transposed, matrix.contiguous()), expected)


def decoder(
    head_size: int,
    heads: int,
    groups: int,
    multiple_of: int,
    bias: bool,
    seed: int,
    layers: int = 2,
) -> Decoder:
    torch.manual_seed(seed)
    model = Decoder(
        23, 0, 1, partial(LMHead), head_size * heads, layers, heads, 40, multiple_of,
        num_kv_heads=groups, qkv_bias=bias,
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(parameter, mean=0.5)
    return model.eval()


@st.composite
def decoders(draw: st.DrawFn) -> Decoder:
    groups = draw(st.integers(1, 3))
    return decoder(
        head_size=2 * draw(st.integers(1, 40)),
        heads=groups * draw(st.integers(1, 3)),
        groups=groups,
        multiple_of=draw(st.sampled_from([1, 7, 32])),
        bias=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
    )


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=30)
@given(
    model=decoders(),
    pieces=st.lists(st.integers(1, 20), min_size=1, max_size=4).filter(lambda x: sum(x) <= 40),
)
@torch.no_grad()
def test_layers(dtype, model, pieces) -> None:
    """A text read in pieces gives the logits of a forward over all of it in float64."""
    model = model.to(dtype)
    text = torch.randint(0, 23, (1, sum(pieces)))
    state = DecoderState(model, rows=1, capacity=40, heads=1)
    found = []
    for piece in text.split(pieces, dim=1):
        found.append(state.logits(state.read(piece)))
        state.lengths = [state.lengths[0] + piece.shape[1]]
    expected = model.double().logits(text)[:, :, 0]
    error = (torch.cat(found, dim=1).double() - expected).abs().max()
    assert error <= {torch.float32: 2e-5, torch.bfloat16: 3e-2}[dtype] * expected.abs().max()


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=40)
@given(
    groups=st.integers(1, 3),
    share=st.integers(1, 3),
    size=st.integers(1, 70),
    length=st.integers(1, 4),
    lasts=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_attention(dtype, groups, share, size, length, lasts, seed) -> None:
    """Of several tokens in rows of different lengths, as the definition has it; what comes after a
    token's position is never looked at."""
    torch.manual_seed(seed)
    positions = torch.tensor(lasts)[:, None] + torch.arange(length)
    cache = torch.randn(len(lasts), 2, groups, 45, size).to(dtype)
    queries = torch.randn(len(lasts), length, groups * share, size).to(dtype)
    for row, last in enumerate(positions[:, -1].tolist()):
        cache[row, :, :, last + 1 :] = torch.nan
    found = kernels().attention(queries, cache, positions)
    assert found.dtype == dtype and found.shape == queries.shape
    for row, token, head in product(range(len(lasts)), range(length), range(groups * share)):
        count = int(positions[row, token]) + 1
        keys, values = cache[row, :, head // share, :count].double()
        scores = keys @ queries[row, token, head].double() / size**0.5
        expected = scores.softmax(0) @ values
        tolerance = {torch.float32: 2e-6, torch.bfloat16: 1e-2}[dtype]
        torch.testing.assert_close(
            found[row, token, head].double(), expected, rtol=tolerance, atol=tolerance
        )


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batches_attend_with_it(dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where oneDNN multiplies, after the prompts, for a few new tokens of each sequence."""
    called = []

    def attention(self: object, queries: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        called.append(queries.shape[:2])
        return original(self, queries, *rest)  # type: ignore[arg-type]

    original = cpu_kernels.Kernels.attention
    monkeypatch.setattr(cpu_kernels.Kernels, "attention", attention)
    model = decoder(8, 4, 2, 32, False, 0, layers=1).to(dtype)
    prompts = [[2 + i % 20, 3, 4, *([5] * (i % 3))] for i in range(70)]
    found = generate(model, prompts, 4).tokens
    assert called == [(70, 1)] * 3
    monkeypatch.setattr(decoding, "_FEW_QUERIES", 0)
    assert dtype is torch.bfloat16 or generate(model, prompts, 4).tokens == found


@needs_kernels
@torch.no_grad()
def test_rows_of_different_lengths_and_chosen_tokens() -> None:
    """Equal, to the bit, to each row alone, whatever the number of threads."""
    model = decoder(6, 4, 2, 7, True, 0)
    weights = DecoderState(model, rows=1, capacity=9, heads=1)._weights.layers
    starts, indices, hidden = [3, 0], [1, 0], torch.randn(2, 2, 24)

    def caches(rows: int) -> list[KeyValueCache]:
        made = [KeyValueCache(9) for _ in model.layers]
        for cache in made:
            cache.storage(hidden[:rows], 2, 6).copy_(past[:rows])
        return made

    past = torch.randn(2, 2, 2, 9, 6)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        slots = CacheSlots(starts, 2, model.rotary)
        results.append(weights(hidden, slots, caches(2), TokenSelection(slots, indices)))
    torch.set_num_threads(1)
    assert all(torch.equal(result, results[0]) for result in results)
    for row in range(2):
        slots = CacheSlots(starts[row : row + 1], 2, model.rotary)
        past[0] = past[row]
        alone = weights(hidden[row, None], slots, caches(1))
        assert torch.equal(alone[0, indices[row]], results[0][row, 0])


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_several_heads_give_the_very_text_of_one(dtype) -> None:
    """Not only up to rounding: a verified token's logits are those of a token alone."""
    torch.manual_seed(0)
    most = kernels().most_tokens[dtype]
    head = partial(MultiTokenHead, n=most, block=TransformerBlocks, unembedding=SharedUnembedding)
    model = Decoder(40, 0, 1, head, 32, most + 2, 4, 64).eval().to(dtype)
    prompts = [[5, 6, 7], [8]]
    greedy = generate(model, prompts, 50, batch_size=1).tokens
    for heads in range(2, most + 1):
        assert generate(model, prompts, 50, heads=heads, batch_size=1).tokens == greedy


@needs_kernels
def test_they_are_what_decoding_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def layers(self: object, *args: object) -> torch.Tensor:
        called.append(args[2].shape[1])  # type: ignore[attr-defined]
        return original(self, *args)  # type: ignore[arg-type]

    original = cpu_kernels.Kernels.layers
    monkeypatch.setattr(cpu_kernels.Kernels, "layers", layers)
    generate(decoder(6, 4, 2, 7, False, 0), [[2, 3, 4, 5, 6] * 7, [3, 4, 5, 6, 2] * 7], 4)
    assert called == [1, 1, 1]  # reading the prompts, 70 tokens, is left to torch
    called.clear()
    generate(decoder(6, 4, 2, 7, False, 0), [[2, 3, 4, 5]], 2)
    assert called == [4, 1]
    called.clear()
    generate(decoder(6, 4, 2, 7, False, 0).double(), [[2, 3]], 4)
    assert not called


@needs_kernels
def test_few_tokens() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        few = partial(kernels().are_few, dtype, weights=10**9, calls=16)
        assert few(1, 10**6)
        assert few(4, 4 * 2048) and not few(9, 9)
        assert not few(4, 4 * 4096) and few(2, 2 * 4096)
        some = partial(kernels().are_few, dtype, elements=10**6)
        most = cpu_kernels._PRODUCTS[dtype] * torch.get_num_threads()
        assert some(32, weights=most // 32, calls=1) and some(32, weights=most, calls=32)
        assert not some(32, weights=most // 32 + 1, calls=1)
        assert not some(33, weights=most, calls=32) and not some(65, weights=1, calls=32)
    assert not kernels().are_few(torch.bfloat16, 5, 5, weights=10**9, calls=16)
    assert kernels().are_few(torch.float32, MOST, 5, weights=10**9, calls=16)


@pytest.fixture
def afresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As in a new process that has compiled nothing yet; returns the folder for compiled files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(cpu_kernels.SWITCH, raising=False)
    cpu_kernels._kernels.cache_clear()
    yield tmp_path
    cpu_kernels._kernels.cache_clear()


def compiler(folder: Path, script: str) -> str:
    """A program in place of a compiler: `script` runs with the target as $target."""
    path = folder / "compiler"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo 1 && exit\nfor target; do :; done\n{script}\n',
        encoding="utf-8",
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("broken", ["none", "fails", "writes nonsense"])
def test_without_a_compiler(broken, afresh, monkeypatch, caplog) -> None:
    """Decoding says so once, and gives the same text with torch's kernels."""
    model = decoder(6, 4, 2, 7, True, 0)
    greedy = generate(model.double(), [[2, 3]], 20).tokens
    scripts = {"fails": "echo no such flag >&2; exit 1", "writes nonsense": 'echo x > "$target"'}
    names = [compiler(afresh, scripts[broken])] if broken in scripts else []
    monkeypatch.setattr(cpu_kernels, "_COMPILERS", names)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert generate(model.float().requires_grad_(), [[2, 3]], 20).tokens == greedy
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "\n" not in message and "torch's kernels" in message
    said = {"none": "install g++", "fails": "no such flag", "writes nonsense": "cpu_kernels-"}
    assert said[broken] in message


def test_can_be_switched_off(afresh, monkeypatch, caplog) -> None:
    monkeypatch.setenv(cpu_kernels.SWITCH, "0")
    monkeypatch.setattr(cpu_kernels, "_compiled", lambda: pytest.fail("compiled"))
    assert cpu_kernels.kernels(torch.float32, torch.float32) is None
    assert not caplog.records


@needs_kernels
def test_are_compiled_once(afresh, monkeypatch) -> None:
    ready = afresh / "ready.so"
    with monkeypatch.context() as patch:
        patch.delenv("XDG_CACHE_HOME")
        shutil.copy(cpu_kernels._compiled(), ready)
    script = f'echo >> "{afresh}/calls"; cp "{ready}" "$target"'
    monkeypatch.setattr(cpu_kernels, "_COMPILERS", [compiler(afresh, script)])
    for _ in range(2):
        cpu_kernels._kernels.cache_clear()
        assert cpu_kernels.kernels(torch.bfloat16, torch.float32) is not None
    assert (afresh / "calls").read_text() == "\n"
    assert len(os.listdir(afresh / "beyond-ce")) == 1
    monkeypatch.setattr(cpu_kernels, "_processor", lambda: "another one")
    cpu_kernels._compiled()
    assert len(os.listdir(afresh / "beyond-ce")) == 2
