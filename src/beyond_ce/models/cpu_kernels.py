"""Kernels of our own for decoding a few tokens at a time on a CPU: `cpu_kernels.cpp`.

torch has none that read a bfloat16 matrix as fast as memory allows, and its fifteen small
operations of a layer take about as long as the matrices. The source is compiled at first use, for
the processor at hand, and kept in ~/.cache/beyond-ce. Where that fails, `kernels` says so once and
gives None, and decoding uses what torch has.

Shapes: as in `cpu_kernels.cpp`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from beyond_ce.errors import one_line

_CACHED = 2**13  # elements: in float32, most of the first-level cache of many a processor
# Measured on two cores: of up to so many tokens, so many products with weights take a thread as
# much longer here than in oneDNN as calling an operation of torch takes.
_SOME = 64
_PRODUCTS = {torch.float32: 1_500_000, torch.bfloat16: 750_000}

SWITCH = "BEYOND_CE_KERNELS"
"""Environment variable: 0 for torch's kernels only."""

_SOURCE = Path(__file__).with_suffix(".cpp")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
_COMPILERS = ("c++", "g++", "clang++")
_TYPES = (
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.float32),
    (torch.bfloat16, torch.bfloat16),
)

_log = logging.getLogger(__name__)


class Layer(ctypes.Structure):
    """The sizes and weights of a layer, in the kernels' memory layout."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("dim", "heads", "groups", "head_size")),
        ("hidden_size", ctypes.c_int64),
        *((f"{name}_eps", ctypes.c_double) for name in ("attention", "feed_forward")),
        *((f"{name}_scale", ctypes.c_void_p) for name in ("attention", "feed_forward")),
        *((name, ctypes.c_void_p) for name in ("bias", "wq", "wk", "wv", "wo", "w1", "w3", "w2")),
    )


class Kernels:
    """The functions of a compiled library.

    Their tensors are on the CPU; matrices, cache, positions and rotations are contiguous. Results
    have no gradient.

    Attributes:
        most_tokens: by the matrices' dtype, how many tokens at a time are worth it, however large
            the matrices are. The functions take any number.
    """

    def __init__(self, library: Path) -> None:
        functions = ctypes.CDLL(str(library))
        whole, place = ctypes.c_long, ctypes.c_void_p
        self._linear, self._layers, self._attention = {}, {}, {}
        for dtype in (torch.float32, torch.bfloat16):
            name = str(dtype).removeprefix("torch.")
            self._attention[dtype] = attention = getattr(functions, f"attention_{name}")
            attention.argtypes = (*(place,) * 3, *(whole,) * 6, place, ctypes.c_int)
            attention.restype = None
        for types in _TYPES:
            name = "_".join(str(dtype).removeprefix("torch.") for dtype in types)
            self._linear[types] = linear = getattr(functions, f"linear_{name}")
            linear.argtypes = (
                *(ctypes.POINTER(place), whole, whole, whole, place, whole, place, ctypes.c_int),
            )
            self._layers[types] = layers = getattr(functions, f"layers_{name}")
            layers.argtypes = (
                *(ctypes.POINTER(Layer), whole, place, place, ctypes.POINTER(place)),
                *(whole, whole, whole, place, place, place, whole, ctypes.c_int),
            )
            linear.restype = layers.restype = None
        most = functions.most_tokens()
        # A bfloat16 matrix is read in half the time, so that arithmetic takes longer earlier.
        self.most_tokens = {torch.float32: most, torch.bfloat16: min(most, 4)}

    def are_few(
        self, dtype: torch.dtype, tokens: int, elements: int, weights: int, calls: int
    ) -> bool:
        """Whether these kernels are the fastest for so many tokens.

        With more, arithmetic takes longer than reading the matrices, or the tokens do not stay in
        the processor's cache, and oneDNN is faster. Some more are few as well if calling torch's
        operations takes longer than the arithmetic.

        Args:
            dtype: of the matrices.
            elements: of all tokens together.
            weights: elements of all matrices together.
            calls: operations of torch that would do the same.
        """
        few = tokens <= self.most_tokens[dtype] and elements <= _CACHED
        worth = calls * torch.get_num_threads() * _PRODUCTS[dtype]
        some = tokens <= _SOME and tokens * weights <= worth
        return tokens == 1 or few or some

    def linear(self, tokens: Tensor, *matrices: Tensor) -> Tensor:
        """[.., D] times [M, D] to [.., M], or [.., P, D] times P of these to [.., P, M]."""
        tokens = tokens.contiguous()
        number, (rows, size) = len(matrices), matrices[0].shape
        out = tokens.new_empty(*tokens.shape[:-1], rows)
        self._linear[matrices[0].dtype, tokens.dtype](
            (ctypes.c_void_p * number)(*(matrix.data_ptr() for matrix in matrices)),
            number,
            rows,
            size,
            tokens.data_ptr(),
            tokens.numel() // (number * size),
            out.data_ptr(),
            torch.get_num_threads(),
        )
        return out

    def attention(self, queries: Tensor, cache: Tensor, positions: Tensor) -> Tensor:
        """What each token attends to, up to its own position in the cache.

        Args:
            queries: [B, T, H, E].
            cache: [B, 2, G, K, E], of the same type.
            positions: long [B, T], where in the cache the tokens are.
        """
        queries, positions = queries.contiguous(), positions.contiguous()
        batch, length, heads, size = queries.shape
        out = torch.empty_like(queries)
        self._attention[queries.dtype](
            queries.data_ptr(),
            cache.data_ptr(),
            out.data_ptr(),
            cache.shape[3],
            batch * length,
            length,
            heads,
            cache.shape[2],
            size,
            positions.data_ptr(),
            torch.get_num_threads(),
        )
        return out

    def layers(
        self,
        layers: ctypes.Array[Layer],
        dtype: torch.dtype,
        hidden: Tensor,
        caches: list[Tensor],
        positions: Tensor,
        rotations: Tensor,
        chosen: Tensor | None,
    ) -> Tensor:
        """[B, T, D] to [B, T, D], or to [B, 1, D] for one chosen token per sequence.

        Args:
            dtype: of the layers' matrices.
            caches: [B, 2, G, K, E] of each layer, to which the tokens' keys and values are added.
            positions: long [B, T], where in the caches.
            rotations: float32 [B, T, .., E / 2, 2].
            chosen: long [B], indices into the B T tokens; None for all.
        """
        hidden = hidden.contiguous()
        batch, length, dim = hidden.shape
        out = torch.empty_like(hidden) if chosen is None else hidden.new_empty(batch, 1, dim)
        self._layers[dtype, hidden.dtype](
            layers,
            len(layers),
            hidden.data_ptr(),
            out.data_ptr(),
            (ctypes.c_void_p * len(layers))(*(cache.data_ptr() for cache in caches)),
            caches[0].shape[3],
            batch * length,
            length,
            positions.data_ptr(),
            rotations.data_ptr(),
            None if chosen is None else chosen.data_ptr(),
            batch,
            torch.get_num_threads(),
        )
        return out


def kernels(weights: torch.dtype, activations: torch.dtype) -> Kernels | None:
    """The kernels, if they can be compiled and there are some for these types; else None."""
    return _kernels() if (weights, activations) in _TYPES else None


@functools.cache
def _kernels() -> Kernels | None:
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        return Kernels(_compiled())
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        _log.warning(
            "decoding on the CPU uses torch's kernels, at about half the speed, because ours "
            "cannot be compiled: %s",
            one_line(error),
        )
        return None


def _compiled() -> Path:
    """The library, compiled unless it is there.

    Raises:
        OSError, RuntimeError, subprocess.SubprocessError: there is no compiler, it fails, or there
            is no home.
    """
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        raise FileNotFoundError("no C++ compiler found, install g++")
    version = subprocess.run(
        [compiler, "--version"], check=True, capture_output=True, encoding="utf-8", timeout=60
    ).stdout
    made_from = (_SOURCE.read_text(encoding="utf-8"), version, *_FLAGS, _processor())
    key = hashlib.sha256("\n".join(made_from).encode()).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    library = Path(base, "beyond-ce", f"cpu_kernels-{key}.so")
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may compile at once: each in a place of its own, and the last one counts.
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        new = Path(folder, "new.so")
        done = subprocess.run(
            [compiler, *_FLAGS, str(_SOURCE), "-o", str(new)],
            capture_output=True,
            encoding="utf-8",
            timeout=600,
        )
        if done.returncode:
            raise OSError(f"{compiler} fails with: {done.stderr[-500:] or done.returncode}")
        os.replace(new, library)
    return library


def _processor() -> str:
    """What the processor is and can: a folder of libraries may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{sys.platform} {platform.machine()} {platform.processor()}"
    kept = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(kept)}))
