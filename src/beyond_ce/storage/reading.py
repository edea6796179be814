"""JSON from files that may be damaged: every way to be broken becomes one line with the file."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beyond_ce.errors import RunError, UsageError, check_no_device, one_line

_MOST_BYTES = 2**28  # the largest that a program here writes or reads has a few MB
_MOST_SHOWN = 160  # characters of another library's message
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: Path, remedy: str) -> Any:
    """The value in a JSON file in UTF-8.

    Args:
        remedy: what to do if the file is missing or damaged; the end of the message.

    Raises:
        UsageError: the path is a pipe or a device.
        RunError: the file is missing, cannot be read or is no JSON.
    """
    check_no_device(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it is larger than {_MOST_BYTES:,} bytes")
        return parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing: {remedy}") from error
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise RunError(f"{path} cannot be read ({reason}): {remedy}") from error
    except ValueError as error:
        raise damaged(path, error, remedy) from error


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The mapping in a JSON file. Raises like `read_json`, and for any other value."""
    values = read_json(path, remedy)
    if not isinstance(values, dict):
        raise RunError(f"{path} is not a JSON object: {remedy}")
    return values


def read_numbers(path: Path, remedy: str) -> dict[str, float]:
    """The mapping of names to numbers in a JSON file. Raises like `read_json`, and for others."""
    values = read_object(path, remedy)
    check_numbers(values, path, remedy)
    return values


def check_numbers(values: dict[str, Any], path: Path, remedy: str) -> None:
    """Raises RunError unless every value is a number or null; NaN is a number."""
    for name, value in values.items():
        if value is not None and not is_number(value):
            raise damaged(path, f"{name[:60]}={str(value)[:60]!r} is no number", remedy)


def parse_json(text: str | bytes) -> Any:
    """The value in a JSON text; NaN and infinite numbers are allowed, as Python writes them.

    Raises:
        ValueError: it is no JSON, no UTF-8, nested too deep for Python, or has a character that no
            file can hold (half of a surrogate pair).
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        values = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(values, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return values


def is_number(value: Any) -> bool:
    """Whether a value is a float, perhaps NaN, or a whole number that fits one; no bool."""
    return type(value) is float or (type(value) is int and abs(value) < 2**1023)


def damaged(path: Path, reason: BaseException | str, remedy: str) -> RunError:
    """The error that says why a file cannot be used, and what to do."""
    text = reason if isinstance(reason, str) else one_line(reason)
    text = text or type(reason).__name__
    return RunError(f"{path} is damaged ({text[:_MOST_SHOWN]}): {remedy}")


@contextlib.contextmanager
def refusing_damage(path: Path, remedy: str) -> Iterator[None]:
    """Around code that uses values of a file: what they make it raise is the file's fault.

    Raises:
        RunError: instead of any error that is not one line yet.
    """
    try:
        yield
    except (UsageError, RunError):
        raise
    except Exception as error:  # wrong values can make code raise anything
        raise damaged(path, error, remedy) from error
