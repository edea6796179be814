"""Values between the process of a program and the process of its tests, as JSON in frames.

Neither side unpickles anything: a program may write what it likes, and the worst that the reader
makes of it is plain data or a handle. Numbers, texts and containers travel by value; everything
else stays where it is, and a handle for it travels.
"""

from __future__ import annotations

import builtins
import collections
import decimal
import fractions
import json
import os
import struct
from collections.abc import Callable
from typing import Any

_LENGTH = struct.Struct("!I")
_MOST_BYTES = 2**24  # of a frame; what it says may take fifty times as much memory

Replace = Callable[[Any], dict[str, Any]]
"""Gives the handle, a mapping with one key, of an object that does not travel."""
Resolve = Callable[[str, Any], Any]
"""Gives the object for the key and the value of a handle."""


class Gone(Exception):
    """The other process has ended, or has sent what no frame looks like."""


def send(channel: int, message: Any) -> None:
    """Write a message to a file descriptor.

    Raises:
        Gone: nobody reads it.
        MemoryError: it is too long for a frame.
    """
    data = json.dumps(message, ensure_ascii=True, check_circular=False).encode("ascii")
    if len(data) > _MOST_BYTES:
        raise MemoryError(f"more than {_MOST_BYTES // 2**20} MiB in one value")
    view = memoryview(_LENGTH.pack(len(data)) + data)
    try:
        while view:
            view = view[os.write(channel, view) :]
    except OSError as error:
        raise Gone from error


def receive(channel: int) -> Any:
    """Read a message from a file descriptor.

    Raises:
        Gone: there is none.
    """
    (length,) = _LENGTH.unpack(_read(channel, _LENGTH.size))
    if length > _MOST_BYTES:
        raise Gone
    try:
        return json.loads(_read(channel, length))
    except (ValueError, RecursionError) as error:
        raise Gone from error


def _read(channel: int, length: int) -> bytes:
    parts = []
    while length:
        try:
            part = os.read(channel, min(length, 2**20))
        except OSError as error:
            raise Gone from error
        if not part:
            raise Gone
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def encode(value: Any, replace: Replace) -> Any:
    """A value as JSON can hold it, exactly; subclasses of what travels become what they are based
    on."""
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is float:
        return value
    if isinstance(value, bool | float | str):
        return next(base for base in (bool, float, str) if isinstance(value, base))(value)
    if isinstance(value, int):
        # Python refuses to write very long numbers in base ten.
        return int(value) if -(2**63) < value < 2**63 else {"int": hex(value)}
    if isinstance(value, list):
        return [encode(item, replace) for item in value]
    for name, container in _CONTAINERS.items():
        if isinstance(value, container):
            return {name: [encode(item, replace) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(k, replace), encode(v, replace)] for k, v in value.items()]}
    if isinstance(value, type) and _TYPES.get(value.__name__) is value:
        return {"type": value.__name__}
    for name, (scalar, pack, _) in _SCALARS.items():
        if isinstance(value, scalar):
            return {name: pack(value)}
    return replace(value)


def decode(data: Any, resolve: Resolve) -> Any:
    """The value that `encode` made the data of.

    Raises:
        Gone: it made no such data.
    """
    if isinstance(data, list):
        return [decode(item, resolve) for item in data]
    if not isinstance(data, dict):
        return data
    try:
        ((name, held),) = data.items()
        if name in _CONTAINERS:
            return _CONTAINERS[name](decode(item, resolve) for item in held)
        if name == "dict":
            return {decode(k, resolve): decode(v, resolve) for k, v in held}
        if name == "int":
            return int(held, 16)
        if name == "type":
            return _TYPES[held]
        if name in _SCALARS:
            return _SCALARS[name][2](held)
        return resolve(name, held)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise Gone from error


_CONTAINERS: dict[str, Any] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
}
_TYPES = {name: kind for name, kind in vars(builtins).items() if isinstance(kind, type)}
_SCALARS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "complex": (complex, lambda v: [v.real, v.imag], lambda held: complex(*held)),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "bytearray": (bytearray, bytearray.hex, bytearray.fromhex),
    "range": (range, lambda v: [v.start, v.stop, v.step], lambda held: range(*held)),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "fraction": (
        fractions.Fraction,
        lambda v: [hex(v.numerator), hex(v.denominator)],
        lambda held: fractions.Fraction(int(held[0], 16), int(held[1], 16)),
    ),
    "ellipsis": (type(...), lambda v: None, lambda held: ...),
    "not_implemented": (type(NotImplemented), lambda v: None, lambda held: NotImplemented),
}
