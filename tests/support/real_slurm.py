"""A SLURM of its own on this machine: munged, slurmctld and slurmd on loopback, in one folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "setpriv")
SYSTEM_FOLDERS = ("/usr/sbin", "/sbin")  # of the daemons, which no user's PATH may have
CPUS = 2
MARK = "BEYOND_CE_TEST_SLURM"  # in the environment of the daemons; jobs have that of who submits

CONF = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until the credential of its former start has expired: 120
# seconds, unless this says 5 or more.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
KillWait=3
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why there can be no SLURM here; None if there can."""
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        return f"no SLURM ({', '.join(missing)}): apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "SLURM's daemons need root here"


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ["PATH"], *SYSTEM_FOLDERS)))


@contextmanager
def slurm() -> Iterator[Path]:
    """Starts the daemons; gives the path of slurm.conf, for `SLURM_CONF` in the environment.

    At the end of the block no daemon and no job is left. If this process is killed, the daemons
    end with it.
    """
    # Not pytest's folder, whose path is too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        conf = folder / "slurm.conf"
        conf.write_text(CONF.format(folder=folder, ports=free_ports(2), cpus=CPUS))
        munge = {name: folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        daemons.append(
            _start(
                folder,
                *("munged", "--foreground", "--force", f"--key-file={folder / 'munge.key'}"),
                *(f"--socket={munge['socket']}", f"--pid-file={munge['pid']}"),
                *(f"--log-file={munge['log']}", f"--seed-file={munge['seed']}"),
            )
        )
        wait_until(munge["socket"].exists, 20, "munged listens")
        daemons.append(_start(folder, "slurmctld", "-D", "-f", str(conf)))
        daemons.append(_start(folder, "slurmd", "-D", "-N", "localhost", "-f", str(conf)))
        wait_until(lambda: "idle" in _ask(conf, "sinfo", "-h", "-o", "%t"), 60, "the node is idle")
        yield conf
    finally:
        # Jobs are no children of slurmd, but all inherit its environment.
        for process in _with(f"{folder / 'slurm.conf'}"):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for daemon in daemons:
            daemon.wait(timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


def _with(conf: str) -> list[psutil.Process]:
    """All processes of this SLURM, but not those of the test that asks it."""
    found = []
    for process in psutil.process_iter(["environ", "name"]):
        environment = process.info["environ"] or {}
        # The daemon of a job has a title in the place of its environment, but slurmd's log.
        is_step = process.info["name"].startswith("slurmstepd")
        log = str(Path(conf).with_name("slurmd.log"))
        with contextlib.suppress(psutil.Error):
            if (
                environment.get("SLURM_CONF") == conf and {MARK, "SLURM_JOB_ID"} & {*environment}
            ) or (is_step and log in (file.path for file in process.open_files())):
                found.append(process)
    return found


def _start(folder: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    program = _program(name)
    assert program is not None
    with (folder / f"{name}.output").open("wb") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), MARK: "yes"},
            start_new_session=True,
        )


def _ask(conf: Path, *command: str) -> str:
    env = {**os.environ, "SLURM_CONF": str(conf)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30).stdout


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits for something that takes a while; a failure says what did not happen."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
