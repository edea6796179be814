"""Reads files of tensors and settings; everything that can be wrong becomes a one-line error."""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from beyond_ce.errors import RunError, one_line
from beyond_ce.storage.digests import check_archive
from beyond_ce.storage.reading import is_number, read_object

ADVICE = "download or convert the checkpoint again"
"""What to do about a damaged file."""
_DIGEST = "beyond_ce.sha256"  # key in the header of a .safetensors file
_WRAPPERS = ("model", "state_dict", "model_state_dict")


class JsonFile:
    """The settings of a checkpoint. Unknown keys are ignored.

    Raises:
        UsageError: the path is a pipe or a device.
        RunError: the file is missing, damaged or not a mapping.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = read_object(path, ADVICE)

    def get(self, key: str) -> Any:
        """The value, or None."""
        return self.values.get(key)

    def integer(self, key: str, default: int | None = None) -> int:
        """A positive whole number.

        Raises:
            RunError: it is something else, or it is missing and has no default.
        """
        value = self._value(key, default)
        if type(value) is not int or value < 1:
            raise RunError(f"{self.path}: {key}={value!r} is not a positive whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive, finite number. Raises like `integer`."""
        value = self._value(key, default)
        if not is_number(value) or not 0 < value < math.inf:
            raise RunError(f"{self.path}: {key}={value!r} is not a positive number")
        return float(value)

    def _value(self, key: str, default: float | None) -> Any:
        value = self.values.get(key)
        if value is None:
            value = default
        if value is None:
            raise RunError(f"{self.path} has no {key}: {ADVICE}")
        return value


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a state dict that torch has saved.

    They are memory-mapped, and read from disk once to be compared with the checksums that torch
    writes or with our digest (see `write_tensors`), if the file has any. No code in the file is
    executed. Training code often saves a state dict below "model" or "state_dict", with other
    things beside it, which are left out.

    Raises:
        RunError: the file is missing, damaged, or has something other than tensors.
    """
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
            _check_digest(path, content)
        else:
            check_archive(path)
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing: {ADVICE}") from error
    except pickle.UnpicklingError as error:
        raise RunError(f"{path} is damaged or holds more than tensors: {ADVICE}") from error
    except Exception as error:  # each format has its own errors, and Python's on top
        raise RunError(
            f"{path} is truncated or damaged ({one_line(error)[:100]}): {ADVICE}"
        ) from error
    if not isinstance(content, Mapping):
        raise RunError(f"{path} holds a {type(content).__name__}, not named tensors: {ADVICE}")
    for key in _WRAPPERS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise RunError(
                f"{path}: {name!s} is a {type(value).__name__}, not a tensor: save the model's "
                "state dict, on its own or as 'model'"
            )
    return dict(content)


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a .safetensors file with a digest of its content, which `read_tensors` checks.

    Other programs ignore the digest, and leave it out when they write the file again.
    """
    save_file(tensors, path, metadata={"format": "pt", _DIGEST: tensors_digest(tensors)})


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, as hex digits; about 1 s per GB."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {_dtype(value)} {[*value.shape]}\n".encode())
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(content.numpy().data)
    return digest.hexdigest()


def _check_digest(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with safe_open(path, framework="pt") as file:
        expected = (file.metadata() or {}).get(_DIGEST)
    if expected is not None and tensors_digest(tensors) != expected:
        raise ValueError("its content does not have the digest that it was written with")


def check_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size], source: Path
) -> None:
    """Compare a checkpoint's tensors with those that its settings describe.

    Raises:
        RunError: a tensor is missing, has another shape, is not floating-point or is not expected;
            the message names the first one, its shape and the expected shape.
    """
    for name, shape in expected.items():
        if name not in tensors:
            raise RunError(f"{source}: {name} is missing, expected with shape {[*shape]}: {ADVICE}")
        tensor = tensors[name]
        if tensor.shape != shape:
            raise RunError(
                f"{source}: {name} has shape {[*tensor.shape]}, expected {[*shape]}: {ADVICE}"
            )
        if not tensor.is_floating_point():
            raise RunError(
                f"{source}: {name} of shape {[*shape]} holds {_dtype(tensor)}, expected floating "
                "point: use a checkpoint without quantisation"
            )
    for name, tensor in tensors.items():
        if name not in expected:
            raise RunError(
                f"{source}: {name} of shape {[*tensor.shape]} is not in the model that the "
                f"settings describe: {ADVICE}"
            )


def check_one_dtype(tensors: Mapping[str, Tensor], source: Path) -> None:
    """Checks that all tensors have the same dtype; otherwise the caller must choose the model's.

    Raises:
        RunError: there are several dtypes.
    """
    first, *rest = tensors
    for name in rest:
        if tensors[name].dtype != tensors[first].dtype:
            raise RunError(
                f"{source}: {name} is {_dtype(tensors[name])}, {first} {_dtype(tensors[first])}: "
                "choose one type for all (dtype= or --dtype)"
            )


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
