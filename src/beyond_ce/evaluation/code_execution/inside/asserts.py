"""The process of the tests: it calls the program, which is in another process, and decides.

What the program gives is plain data here, or a handle of an object there. A handle is equal to
itself alone, and knows no arithmetic and no order: an object of the program can neither claim to be
what the tests expect nor learn it. What the program learns is what it is called with.

The tests come compiled, with the names that they take from the program: see `compiled`. They stay
for further programs: nothing that a program sends is run here, or kept.
"""

from __future__ import annotations

import builtins
import importlib
import json
import marshal
import os
import resource
import socket
from collections.abc import Callable
from types import CodeType
from typing import Any, NoReturn

from beyond_ce.evaluation.code_execution.inside import wire
from beyond_ce.evaluation.code_execution.inside.program import SPECIAL, described, read_all

TESTS, SERVER = 3, 4  # file descriptors, after the three standard streams
_CALLBACK = "callback"
_GROWTH = 2**15  # KiB


def serve() -> NoReturn:
    """Judge one program after another, until the server closes its end of `SERVER`.

    For each the server sends the channel to it and the file for the verdict. The answer is two
    bytes: whether it has passed, and whether this process is to be replaced, since it has grown and
    may not give all of the memory back that the next one's verdict may depend on.
    """
    server = socket.socket(fileno=SERVER)
    most = _most_memory() + _GROWTH
    source, code, own, modules = marshal.loads(read_all(TESTS))
    while True:
        message, descriptors, *_ = socket.recv_fds(server, 1, 2)
        if not message:
            os._exit(0)
        channel, file = descriptors
        verdict = _judge(channel, source, code, own, modules)
        os.write(file, json.dumps(verdict).encode())
        os.close(channel)
        os.close(file)
        server.send(bytes([verdict["passed"], _most_memory() > most]))


def _most_memory() -> int:
    """KiB that this process has used at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _judge(
    channel: int, source: str, code: CodeType, own: list[str], modules: list[str]
) -> dict[str, Any]:
    try:
        names = _Program(channel).names(own, modules)
        exec(code, {"__name__": "tests", **names})
        return {"passed": True}
    except wire.Gone:
        return {"passed": False, "gone": True}
    except BaseException as error:
        number = _line(error, code)
        # Lets go of all that the tests held, should there be no memory left to say so.
        error.__traceback__ = error.__context__ = None
        line = source.split("\n")[number - 1].strip() if number else ""
        return {"passed": False, **described(error), "line": line}


def _line(error: BaseException, code: CodeType) -> int:
    """The line of the tests that an exception passed last, from 1; 0 if none."""
    number, frames = 0, error.__traceback__
    while frames is not None:
        if frames.tb_frame.f_code.co_filename == code.co_filename:
            number = frames.tb_lineno
        frames = frames.tb_next
    return number


class _Program:
    """The program at the other end of the channel."""

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.callbacks: list[Callable[..., Any]] = []

    def names(self, own: list[str], modules: list[str]) -> dict[str, Any]:
        """What the program has of its own, and the modules that it has imported."""
        answer = self.ask({"do": "names", "names": own + modules})
        found = {n: self.decode(value) for n, value in answer.items() if n in own}
        return found | {n: importlib.import_module(n) for n in answer if n in modules}

    def ask(self, request: dict[str, Any]) -> Any:
        """What the program answers; raises what it raised.

        Raises:
            Gone: it has ended, or answered something else.
        """
        wire.send(self.channel, request)
        try:
            while _CALLBACK in (answer := wire.receive(self.channel)):
                self._call_back(answer)
            if "ok" in answer:
                return answer["ok"]
            raised = answer["raised"]
            types, message = [str(name) for name in raised["types"]], str(raised["message"])
        except (TypeError, LookupError) as error:
            raise wire.Gone from error
        raise _exception(types, message)

    def call(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = [list(args), kwargs]
        answer = self.ask({"do": "call", "on": number, "arguments": self.encode(given)})
        try:
            if "arguments" in answer:
                after = self.decode(answer["arguments"])
                for old, new in zip(args, after[0], strict=True):
                    _replace(old, new)
                for name, old in kwargs.items():
                    _replace(old, after[1][name])
            return self.decode(answer["result"])
        except (TypeError, ValueError, LookupError) as error:
            raise wire.Gone from error

    def encode(self, value: Any) -> Any:
        return wire.encode(value, self._handle)

    def decode(self, data: Any) -> Any:
        return wire.decode(data, self._resolve)

    def _handle(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Handle):
            return {"object": value._number}
        if not callable(value):
            raise TypeError(f"tests cannot pass a {type(value).__name__} to the program")
        self.callbacks.append(value)
        return {_CALLBACK: len(self.callbacks) - 1}

    def _resolve(self, kind: str, number: Any) -> Any:
        if kind == "object" and isinstance(number, int):
            return Handle(self, number)
        if kind == _CALLBACK:
            return self.callbacks[number]
        raise ValueError

    def _call_back(self, message: dict[str, Any]) -> None:
        args, kwargs = self.decode(message["arguments"])
        function = self.callbacks[message[_CALLBACK]]
        try:
            answer = {"ok": self.encode(function(*args, **kwargs))}
        except wire.Gone:
            raise
        except BaseException as error:
            answer = {"raised": f"{type(error).__name__}: {error}"}
        wire.send(self.channel, answer)


class Handle:
    """An object that stays in the program's process."""

    __slots__ = ("_number", "_program")

    def __init__(self, program: _Program, number: int) -> None:
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_number", number)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and other._number == self._number

    def __hash__(self) -> int:
        return hash(self._number)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._program.call(self._number, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._program.decode(
            self._program.ask({"do": "get", "on": self._number, "name": name})
        )

    def __setattr__(self, name: str, value: Any) -> None:
        data = self._program.encode(value)
        self._program.ask({"do": "set", "on": self._number, "name": name, "value": data})


def _special(name: str) -> Callable[..., Any]:
    def method(self: Handle, *args: Any) -> Any:
        request = {"do": "special", "on": self._number, "name": name}
        data = self._program.encode(list(args))
        return self._program.decode(self._program.ask({**request, "arguments": data}))

    return method


for _name in SPECIAL:
    setattr(Handle, _name, _special(_name))


def _replace(old: Any, new: Any) -> None:
    """Change a container of the tests as the program has changed its copy."""
    if isinstance(old, list):
        old[:] = new
    elif isinstance(old, dict | set):
        old.clear()
        old.update(new)


def _exception(types: list[str], message: str) -> BaseException:
    """The nearest builtin exception, which tests may catch."""
    for name in types:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, BaseException):
            try:
                return kind(message)
            except TypeError:  # it takes more than a message
                continue
    return RuntimeError(message)
