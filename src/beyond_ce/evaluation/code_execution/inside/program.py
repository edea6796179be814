"""The process of the program: it runs the source to its end, then does what the tests ask for.

Nothing in this process is a secret or decides a verdict. Whatever the program does to its
interpreter - patch modules and builtins, walk the stack, write to any file descriptor - it does to
itself alone: the tests and what they expect are in another process, and so is the comparison.
"""

from __future__ import annotations

import ast
import atexit
import json
import linecache
import os
import sys
import traceback
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, NoReturn

from beyond_ce.evaluation.code_execution.inside import wire

SOURCE, REPORT, CHANNEL = 3, 4, 5  # file descriptors, after the three standard streams
FILE = "<program>"
_REASON = 2000  # characters of a message


def run(has_tests: bool) -> NoReturn:
    """Run the program and end this process.

    Args:
        has_tests: the tests are at the other end of `CHANNEL`. A program without is `__main__`,
            one with tests is imported, as it were.
    """
    source = read_all(SOURCE).decode("utf-8", "surrogatepass")
    linecache.cache[FILE] = (len(source), None, source.splitlines(keepends=True), FILE)
    module = ModuleType("program" if has_tests else "__main__")
    sys.modules[module.__name__] = module
    report = _run_to_the_end(source, module)
    if has_tests and report["end"] == "returned":
        _Answers(vars(module)).serve()
    code = report["code"]
    try:
        if not has_tests:
            _finish()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:
        report, code = _raised(error, 1), 1
    os.write(REPORT, json.dumps(report).encode())
    os._exit(code)


def read_all(descriptor: int) -> bytes:
    """All of a file, whatever was read of it before."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _run_to_the_end(source: str, module: ModuleType) -> dict[str, Any]:
    """What became of the program, for the report."""
    try:
        exec(compile(source, FILE, "exec", dont_inherit=True), vars(module))
    except SystemExit as error:
        return _left(error, source)
    except BaseException as error:
        return _raised(error, 1)
    return {"end": "returned", "code": 0}


def _left(error: SystemExit, source: str) -> dict[str, Any]:
    if error.code is None or error.code == 0:
        ahead = _asserts_ahead(error.__traceback__, source)
        return {"end": "exit", "code": 0, "asserts_ahead": ahead}
    if isinstance(error.code, int):
        return {"end": "exit", "code": error.code & 0xFF or 1}
    print(error.code, file=sys.stderr)
    return {"end": "exit", "code": 1, "message": str(error.code)[:_REASON]}


def _asserts_ahead(where: TracebackType | None, source: str) -> bool:
    """Whether the program was left in a piece of code that has asserts from there on."""
    lines = [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    while where is not None:
        code = where.tb_frame.f_code
        if code.co_filename == FILE:
            last = max(line for *_, line in code.co_lines() if line is not None)
            if any(where.tb_lineno <= line <= last for line in lines):
                return True
        where = where.tb_next
    return False


def _raised(error: BaseException, code: int) -> dict[str, Any]:
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != FILE:
        frames = frames.tb_next
    try:
        traceback.print_exception(type(error), error, frames)
        sys.stderr.flush()
    except BaseException:  # memory or the file's size, say, or the error's own __str__
        pass
    return {"end": "raised", "code": code, **described(error)}


def described(error: BaseException) -> dict[str, Any]:
    """An exception as plain data."""
    try:
        message = str(error)[:_REASON]
    except BaseException:  # the program's own method
        message = ""
    return {"types": [kind.__name__ for kind in type(error).__mro__], "message": message}


def _finish() -> None:
    """What an interpreter does at its end: wait for threads, then call what was registered."""
    if (threading := sys.modules.get("threading")) is not None:
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.current_thread():
                thread.join()
    atexit._run_exitfuncs()


class _Answers:
    """Does with the program's names and objects what the tests ask for."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self.objects: list[Any] = []  # handles are places in this list
        self.places: dict[int, int] = {}  # by id; the list keeps the objects alive

    def serve(self) -> None:
        """Answer until the tests have ended."""
        try:
            while True:
                self._answer(wire.receive(CHANNEL))
        except wire.Gone:
            pass

    def _answer(self, request: dict[str, Any]) -> None:
        try:
            answer = {"ok": getattr(self, "_" + request["do"])(request)}
        except wire.Gone:
            raise
        except BaseException as error:
            answer = {"raised": described(error)}
        try:
            wire.send(CHANNEL, answer)
        except MemoryError as error:
            wire.send(CHANNEL, {"raised": described(error)})

    def _names(self, request: dict[str, Any]) -> dict[str, Any]:
        return {n: self._encode(self.names[n]) for n in request["names"] if n in self.names}

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        arguments = self._decode(request["arguments"])
        result = self._on(request)(*arguments[0], **arguments[1])
        sent = {"result": self._encode(result)}
        # The tests see it when the program has changed their list or dictionary.
        after = self._encode(arguments)
        return sent if after == request["arguments"] else {**sent, "arguments": after}

    def _get(self, request: dict[str, Any]) -> Any:
        return self._encode(getattr(self._on(request), request["name"]))

    def _set(self, request: dict[str, Any]) -> None:
        setattr(self._on(request), request["name"], self._decode(request["value"]))

    def _special(self, request: dict[str, Any]) -> Any:
        """A special method, by the function that calls it."""
        function = SPECIAL[request["name"]]
        return self._encode(function(self._on(request), *self._decode(request["arguments"])))

    def _on(self, request: dict[str, Any]) -> Any:
        return self.objects[request["on"]]

    def _encode(self, value: Any) -> Any:
        return wire.encode(value, self._handle)

    def _decode(self, data: Any) -> Any:
        return wire.decode(data, self._resolve)

    def _handle(self, value: Any) -> dict[str, Any]:
        if id(value) not in self.places:
            self.places[id(value)] = len(self.objects)
            self.objects.append(value)
        return {"object": self.places[id(value)]}

    def _resolve(self, kind: str, number: Any) -> Any:
        return self.objects[number] if kind == "object" else _Callback(self, number)


class _Callback:
    """A function of the tests that was passed to the program."""

    def __init__(self, answers: _Answers, number: int) -> None:
        self._answers, self._number = answers, number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        answers = self._answers
        given = answers._encode([list(args), kwargs])
        wire.send(CHANNEL, {"callback": self._number, "arguments": given})
        while "do" in (message := wire.receive(CHANNEL)):
            answers._answer(message)  # the function calls the program in turn
        if "ok" in message:
            return answers._decode(message["ok"])
        raise RuntimeError(message["raised"])


SPECIAL: dict[str, Callable[..., Any]] = {
    "__bool__": bool,
    "__str__": str,
    "__repr__": repr,
    "__len__": len,
    "__iter__": iter,
    "__next__": next,
    "__getitem__": lambda value, key: value[key],
    "__setitem__": lambda value, key, item: value.__setitem__(key, item),
    "__instancecheck__": lambda kind, value: isinstance(value, kind),
}
"""What tests may do with an object of the program, besides attributes and calls."""
