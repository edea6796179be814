"""Reads files of tensors and settings; everything that can be wrong becomes a one-line error."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from beyond_ce.errors import RunError, check_no_device, one_line

_ADVICE = "download or convert the checkpoint again"
_WRAPPERS = ("model", "state_dict", "model_state_dict")


class JsonFile:
    """The settings of a checkpoint. Unknown keys are ignored.

    Raises:
        UsageError: the path is a pipe or a device.
        RunError: the file is missing, damaged or not a mapping.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_no_device(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunError(f"{path} is missing: {_ADVICE}") from error
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged ({one_line(error)}): {_ADVICE}") from error
        if not isinstance(values, dict):
            raise RunError(f"{path} is not a JSON object: {_ADVICE}")
        self.values: dict[str, Any] = values

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
        """A positive number. Raises like `integer`."""
        value = self._value(key, default)
        if type(value) not in (int, float) or not value > 0:
            raise RunError(f"{self.path}: {key}={value!r} is not a positive number")
        return float(value)

    def _value(self, key: str, default: float | None) -> Any:
        value = self.values.get(key)
        if value is None:
            value = default
        if value is None:
            raise RunError(f"{self.path} has no {key}: {_ADVICE}")
        return value


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a state dict that torch has saved.

    They are memory-mapped and only read from disk on use. No code in the file is executed. Training
    code often saves a state dict below "model" or "state_dict", with other things beside it, which
    are left out.

    Raises:
        RunError: the file is missing, truncated, or has something other than tensors.
    """
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing: {_ADVICE}") from error
    except pickle.UnpicklingError as error:
        raise RunError(f"{path} is damaged or holds more than tensors: {_ADVICE}") from error
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise RunError(
            f"{path} is truncated or damaged ({one_line(error)[:100]}): {_ADVICE}"
        ) from error
    if not isinstance(content, Mapping):
        raise RunError(f"{path} holds a {type(content).__name__}, not named tensors: {_ADVICE}")
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
            raise RunError(
                f"{source}: {name} is missing, expected with shape {[*shape]}: {_ADVICE}"
            )
        tensor = tensors[name]
        if tensor.shape != shape:
            raise RunError(
                f"{source}: {name} has shape {[*tensor.shape]}, expected {[*shape]}: {_ADVICE}"
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
                f"settings describe: {_ADVICE}"
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
