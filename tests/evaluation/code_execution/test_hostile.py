"""Programs that want out, or more than they are given: contained, and the next one is unaffected.

Each says `stopped` where a wall has stopped it; what it gets through would show in its output.
"""

from __future__ import annotations

import os
import platform
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from beyond_ce.data.programs.problem import FunctionTests
from beyond_ce.evaluation.code_execution import execute, run_tests
from beyond_ce.evaluation.code_execution.inside.folder import Folder
from beyond_ce.evaluation.code_execution.sandbox import SANDBOXES

# What stands for "import os, sys, ..., and try it".
_ATTEMPT = """
import ctypes, fcntl, mmap, os, signal, socket, subprocess, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def syscall(*args):
    if libc.syscall(*args) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
try:
{}
except (OSError, RuntimeError, ValueError):
    print("stopped")
else:
    print("got through")
"""

# What a wall of its own must stop; numbers of system calls are those of x86_64.
STOPPED = {
    "fork": "os.fork()",
    "a new program": "os.execv(sys.executable, [sys.executable, '-c', ''])",
    "a shell": "subprocess.run('true', shell=True, check=True)",
    "clone without a thread": "syscall(56, 17, 0, 0, 0, 0)",
    "clone3": "syscall(435, 0, 0)",
    "an internet socket": "socket.socket()",
    "loopback": "socket.create_connection(('127.0.0.1', 9))",
    "a listening socket": "socket.create_server(('127.0.0.1', 0))",
    "a unix socket": "socket.socket(socket.AF_UNIX).bind('/tmp/s')",
    "an abstract socket": "socket.socket(socket.AF_UNIX).bind(chr(0) + 'name')",
    "a name for a pair's end": "socket.socketpair()[0].bind(chr(0) + 'name')",
    "io_uring": "syscall(425, 8, (ctypes.c_char * 256)())",
    "ptrace": "syscall(101, 16, os.getppid(), 0, 0)",
    "memory of the parent": "syscall(310, os.getppid(), 0, 0, 0, 0, 0)",
    "a file of the parent": "os.pidfd_open(os.getppid())",
    "new namespaces": "syscall(272, 0x10000000)",
    "a mount": "syscall(165, b'x', b'/tmp', b'tmpfs', 0, 0)",
    "a flush of all disks": "syscall(162)",
    "a flush of a disk": "syscall(306, os.open(os.__file__, 0))",
    "bpf": "syscall(321, 0, 0, 0)",
    "a key": "syscall(248, b'user', b'x', b'x', 1, -3)",
    "shared memory that stays": "syscall(29, 1, 4096, 0o1600)",
    "a file in memory": "os.memfd_create('x')",
    "the parent": "os.kill(os.getppid(), signal.SIGKILL)",
    "everything": "os.kill(-1, signal.SIGKILL)",
    "the parent's group": "os.killpg(os.getpgid(os.getppid()), signal.SIGKILL)",
    "another group": "os.setpgid(0, os.getpgid(os.getppid()))",
    "another session": "os.setsid()",
    "a file that signals the parent": "fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
    "a signal from a file": "fcntl.fcntl(0, 10, signal.SIGINT)",
    "a socket that signals the parent": "fcntl.ioctl(socket.socketpair()[0], 0x8901,"
    " os.getppid().to_bytes(4, 'little'))",
    "the parent's limits": "import resource; resource.prlimit(os.getppid(), 0, (1, 1))",
    "/proc of the parent": "open(f'/proc/{os.getppid()}/environ').read()",
    "its own environment in /proc": "open('/proc/self/environ').read()",
    "a file in the root": "open('/x', 'w')",
    "a file in the library": "open(os.__file__, 'w')",
    "a file in the server": "open('/sandbox/inside/server.py', 'a')",
    "the working directory": "os.rmdir('/tmp')",
    "a hard link to outside": "os.link(os.__file__, '/tmp/x')",
    "a symbolic link to outside": "os.symlink('/etc/passwd', '/tmp/x'); open('/tmp/x').read()",
    "a device": "os.mknod('/tmp/d', 0o600 | 0o060000, os.makedev(8, 0))",
    "a disk": "open('/dev/vda', 'rb')",
    "an attribute of the folder": "os.setxattr('/tmp', 'user.x', b'x')",
    "an attribute of an open folder": "os.setxattr(os.open('/tmp', 0), 'user.x', b'x')",
    "a list of rights": "os.setxattr('/tmp', 'system.posix_acl_default', bytes.fromhex('02000000'"
    " + ''.join(f'{t:02x}000000ffffffff' for t in (1, 4, 0x20))))",
    "a flag of the folder": "fcntl.ioctl(os.open('/tmp', 0), 0x40086602, bytes([64, *[0] * 7]))",
    "more memory in files": "[open(f'/tmp/{n}', 'wb').write(bytes(10**7)) for n in range(10)]",
    "a larger file": "os.ftruncate(os.open('/tmp/x', os.O_RDWR | os.O_CREAT), 2**30)",
    "more time": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))",
    "many open files": "[os.dup(0) for _ in range(100)]",
    "many threads": "[threading.Thread(target=threading.Event().wait, daemon=True).start()"
    " for _ in range(10_000)]",
}


@pytest.fixture(autouse=True)
def unaffected() -> Iterator[None]:
    """The next program finds all as if there had been none before it, and nothing runs on."""
    yield
    found = execute("import os\nprint(sorted(os.listdir('.')), os.getcwd())\nopen('x', 'w')")
    assert found.stdout == "[] /tmp\n", found
    assert found.passed


@pytest.mark.parametrize("attempt", STOPPED.values(), ids=STOPPED)
def test_a_wall_stops(attempt: str) -> None:
    if attempt.startswith("syscall") and platform.machine() != "x86_64":
        pytest.skip("numbers of another machine")
    assert execute(_ATTEMPT.format(f"    {attempt}"), timeout_s=20).stdout == "stopped\n"


def test_fork_bomb() -> None:
    found = execute("import os\nwhile True: os.fork()")
    assert (found.verdict, found.reason[:15]) == ("failed", "PermissionError")


def test_threads_without_end() -> None:
    program = """
import _thread, threading, time
threading.stack_size(2**15)
while True:
    try: _thread.start_new_thread(time.sleep, (100,))
    except RuntimeError: pass
"""
    assert execute(program, timeout_s=1).verdict == "timeout"


def test_allocation_of_64_gb() -> None:
    assert execute("x = bytearray(64 * 10**9)").verdict == "memory"
    assert execute("x = [0]\nwhile True: x += x", memory_mb=128).verdict == "memory"


def test_signals_are_caught_in_vain() -> None:
    program = """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
"""
    start = time.monotonic()
    assert execute(program, timeout_s=1).verdict == "timeout"
    assert time.monotonic() - start < 10


def test_the_server_ignores_an_interrupt_and_programs_do_not() -> None:
    SANDBOXES.close()
    assert execute("print(1)").passed
    (server,) = _servers()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGIO):
        server.send_signal(number)
    assert execute("import os\nos.kill(0, 2)").reason == "KeyboardInterrupt"
    assert _servers() == [server]


def _servers() -> list[psutil.Process]:
    """Those of the sandboxes that wait for programs."""
    return [psutil.Process(s.process.pid).children()[0] for s in SANDBOXES._idle]


def test_double_fork_outlives_nothing() -> None:
    SANDBOXES.close()
    program = """
import os, time
try:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(1000)
except OSError: print("stopped")
"""
    assert execute(program).stdout == "stopped\n"
    assert [server.children(recursive=True) for server in _servers()] == [[]]


def test_environment_and_files_are_out_of_reach(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("API_KEY", "of-this-user-only")
    (tmp_path / "file").write_text("of-this-user-only")
    program = f"""
import os
print(dict(os.environ))
for folder in ({str(tmp_path)!r}, {os.path.expanduser("~")!r}, {os.getcwd()!r}, "/home", "/proc"):
    for path, _, files in os.walk(folder):
        print(path, files)
"""
    found = execute(program)
    assert found.passed
    assert "of-this-user-only" not in found.stdout and "API_KEY" not in found.stdout
    assert str(tmp_path) not in found.stdout and "pyproject" not in found.stdout


def test_root_holds_the_interpreter_and_its_libraries_alone() -> None:
    found = execute("import os\nprint(*sorted(os.listdir('/')), *sorted(os.listdir('/dev')))")
    allowed = {"dev", "etc", "lib", "lib64", "sandbox", "tmp", "usr", "root", "home", "opt", "nix"}
    assert set(found.stdout.split()) <= allowed | {"null", "zero", "full", "random", "urandom"}
    assert execute("import numpy").reason.startswith("ModuleNotFoundError")


def test_nothing_of_an_earlier_program_is_left() -> None:
    """Whatever it leaves in the folder: the next one starts in an empty one that it can write."""
    leave = {
        "a file": "open('x', 'w')",
        "a deep tree": "for _ in range(2000):\n  os.mkdir('d'); os.chdir('d')",
        "no rights": "os.mkdir('d'); os.chmod('d', 0); os.chmod('.', 0)",
    }
    for program in leave.values():
        assert execute("import os\n" + program).passed
        assert execute("import os\nprint(os.listdir('/tmp'))\nopen('y', 'w')").stdout == "[]\n"


MANY = {
    "links": "os.symlink('y' * 100, 'x' * 200 + str(n))",
    "names of a file": "os.link('x', 'y' * 200 + str(n))",
    "folders": "os.mkdir(str(n)); os.chdir(str(n))",
}


@pytest.mark.parametrize("make", MANY.values(), ids=MANY)
def test_files_without_end(make: str) -> None:
    program = f"import itertools, os\nopen('x', 'w')\nfor n in itertools.count(): {make}"
    tests = FunctionTests("f()", "f")
    in_call = program.replace("for", "def f():\n  for")
    for found in (execute(program, timeout_s=60), run_tests(in_call, tests, timeout_s=60)):
        assert (found.verdict, found.reason) == ("crashed", "it made more than 20000 files")


def test_a_program_may_have_some_files() -> None:
    program = "import time\nfor n in range(15_000): open(str(n), 'w').close()\ntime.sleep(0.2)"
    assert execute(program, timeout_s=60).passed


@pytest.mark.parametrize("mode", [0o2770, 0o1755, 0o000])
def test_the_next_program_finds_the_rights_of_the_start(mode: int) -> None:
    look = "import os\nprint(oct(os.stat('/tmp').st_mode))"
    before = execute(look).stdout
    assert execute(f"import os\nos.chmod('/tmp', {mode})").passed
    assert execute(look).stdout == before


@pytest.mark.parametrize("leave", ["os.utime('/tmp', (1, 2))", "open('x', 'w'); os.unlink('x')"])
def test_the_next_program_finds_the_times_of_the_start(leave: str) -> None:
    look = "import os\nfound = os.stat('/tmp')\nprint(found.st_mtime_ns, found.st_atime_ns)"
    SANDBOXES.close()
    before = execute(look).stdout
    assert execute("import os\n" + leave).passed
    assert execute(look).stdout == before


@pytest.mark.parametrize("name", ["user.x", "system.posix_acl_default"])
def test_a_folder_with_new_attributes_is_noticed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no filter keeps programs from setting them, too."""
    monkeypatch.chdir(tmp_path)
    folder = Folder()
    assert folder.reset()
    rights = (struct.pack("<HHI", kind, 7, 2**32 - 1) for kind in (1, 4, 0x20))
    try:
        os.setxattr(tmp_path, name, struct.pack("<I", 2) + b"".join(rights))
    except OSError:
        pytest.skip("the file system has no such attributes")
    assert not folder.reset()
    os.removexattr(tmp_path, name)
    assert folder.reset()
    (tmp_path / "x").write_text("")
    assert not folder.reset()


def test_nothing_of_an_earlier_program_is_in_memory() -> None:
    secret = "a text that only the first program has"
    assert execute(f"x = {secret!r}\nprint(x)\nimport json\njson.loads = None", secret).passed
    search = f"""
import gc, json
assert json.loads("1") == 1
needle = {secret[::-1]!r}[::-1]
held = [item for o in gc.get_objects() if isinstance(o, (list, tuple, dict)) for item in
        (list(o.values()) if isinstance(o, dict) else o)]
print(sum(isinstance(item, (str, bytes)) and item is not needle and needle in str(item)
          for item in held))
"""
    assert execute(search).stdout == "0\n"
    again = search.replace("gc, json", f"gc, json\nkept = [{secret + '.'!r}]")
    assert int(execute(again).stdout) >= 1
