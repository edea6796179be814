"""The filters, run here step by step as the kernel does, for each architecture."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from beyond_ce.evaluation.code_execution.inside import system_calls

ORDER = ALLOWED, REFUSED, MISSING, KILLED = "allowed", "refused", "missing", "killed"
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
OWN = 4321


def decide(
    machine: str,
    number: int,
    argument: int = 0,
    second: int = 0,
    architecture: int | None = None,
) -> str:
    """What both filters of `machine` say about a program's call: the kernel takes the stricter."""
    data = struct.pack(
        "=iIQ6Q", number, architecture or ARCHITECTURES[machine], 0, argument, second, *[0] * 4
    )
    filters = system_calls.lasting(machine), system_calls.for_program(machine, OWN)
    return max((_run(steps, data) for steps in filters), key=ORDER.index)


def _run(program: bytes, data: bytes) -> str:
    steps = list(struct.iter_unpack("=HBBI", program))
    held = place = 0
    while True:
        code, yes, no, value = steps[place]
        place += 1
        if code == 0x20:  # load a word
            (held,) = struct.unpack_from("=I", data, value)
        elif code == 0x06:  # return
            return {
                0x7FFF0000: ALLOWED,
                0x80000000: KILLED,
                0x50000 | errno.EPERM: REFUSED,
                0x50000 | errno.ENOSYS: MISSING,
            }[value]
        else:
            met = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
            place += yes if met else no


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_refuses_what_it_lists_and_allows_the_rest(machine: str) -> None:
    column = list(ARCHITECTURES).index(machine)
    tables = {**system_calls._REFUSED, **system_calls._GROUPS}
    refused = {numbers[column] for numbers in tables.values()} - {None}
    special = {"x86_64": {56, 62, 234, 302, 435}, "aarch64": {220, 129, 131, 261, 435}}[machine]
    assert not refused & special
    for number in set(range(470)) - special:
        assert decide(machine, number) == (REFUSED if number in refused else ALLOWED)


@pytest.mark.parametrize(("machine", "clone"), [("x86_64", 56), ("aarch64", 220)])
def test_a_thread_may_start_and_a_process_not(machine: str, clone: int) -> None:
    threads = 0x3D0F00  # what the C library asks for
    assert decide(machine, clone, threads) == ALLOWED
    assert decide(machine, clone, 0x1200011) == REFUSED  # its fork
    assert decide(machine, clone, threads & ~0x10000) == REFUSED
    assert decide(machine, 435) == MISSING  # clone3: the C library then takes clone


@pytest.mark.parametrize(
    ("machine", "numbers"), [("x86_64", (62, 234, 302)), ("aarch64", (129, 131, 261))]
)
def test_only_its_own_process_can_be_signalled_and_limited(
    machine: str, numbers: tuple[int, ...]
) -> None:
    for number in numbers:
        assert decide(machine, number, OWN) == decide(machine, number, 0) == ALLOWED
        for other in (1, OWN + 1, 2**32 - 1, 2**32 - OWN):  # a group is a negative number
            assert decide(machine, number, other) == REFUSED


@pytest.mark.parametrize(("machine", "fcntl", "ioctl"), [("x86_64", 72, 16), ("aarch64", 25, 29)])
def test_a_file_cannot_signal_another_process_and_gets_no_flags(
    machine: str, fcntl: int, ioctl: int
) -> None:
    owner, kind, owner_ex = 8, 10, 15
    for command in range(2000):
        refused = command in (owner, kind, owner_ex)
        assert decide(machine, fcntl, 3, command) == (REFUSED if refused else ALLOWED)
    for command in (*range(0x5400, 0x5500), *range(0x8900, 0x8910), 0x40086602, 0x401C5820):
        refused = command in (0x8901, 0x8902) or command > 0x10000
        assert decide(machine, ioctl, 3, command) == (REFUSED if refused else ALLOWED)


def test_other_interfaces_to_the_kernel_are_closed() -> None:
    assert decide("x86_64", 0x40000000 + 41) == REFUSED  # x32's socket
    assert decide("x86_64", 0, architecture=0x40000003) == KILLED  # i386's
    assert decide("aarch64", 0, architecture=0x40000028) == KILLED  # arm's


@pytest.mark.parametrize(
    ("column", "header"),
    [(0, "x86_64-linux-gnu/asm/unistd_64.h"), (1, "asm-generic/unistd.h")],
)
def test_numbers_are_those_of_the_headers(column: int, header: str) -> None:
    path = Path("/usr/include") / header
    if not path.exists():
        pytest.skip("the kernel's headers are not installed")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)$", path.read_text(), re.MULTILINE)
    numbers = {name: int(number) for name, number in found}
    tables = {**system_calls._REFUSED, **system_calls._OF_OWN_PROCESS}
    tables |= {"clone": system_calls._CLONE, "clone3": (435, 435), **system_calls._GROUPS}
    tables |= {name: both for name, (both, _) in system_calls._COMMANDS.items()}
    newest = max(numbers.values())  # of these headers; the kernel that runs may be newer
    for name, both in tables.items():
        if (both[column] or 0) > newest:
            continue
        assert numbers.get(name) == both[column], name
