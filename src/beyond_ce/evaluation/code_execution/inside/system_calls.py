"""The second wall: filters of system calls (seccomp) that processes set on themselves for good.

They stand even where the namespaces do not. A program keeps what ordinary Python code needs -
files, memory, threads, time - and loses new processes and programs, sockets, other processes,
kernel interfaces with a history of holes (io_uring, bpf, ptrace, userfaultfd), shared memory and
attributes of files that would outlive it, mounts, and a flush of the host's disks. Numbers are
those of Linux's headers, x86_64 and asm-generic.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import platform
import struct

# name: (x86_64, aarch64); what an architecture lacks is None.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "accept": (43, 202),
    "accept4": (288, 242),
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bind": (49, 200),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "connect": (42, 203),
    "delete_module": (176, 106),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fanotify_init": (300, 262),
    "file_setattr": (469, 469),
    "finit_module": (313, 273),
    "fork": (57, None),
    "fremovexattr": (199, 16),
    "fsconfig": (431, 431),
    "fsetxattr": (190, 7),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_setup": (206, 0),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "listen": (50, 201),
    "lremovexattr": (198, 15),
    "lsetxattr": (189, 6),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "msgctl": (71, 187),
    "msgget": (68, 186),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "removexattr": (197, 14),
    "removexattrat": (466, 466),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "semctl": (66, 191),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "settimeofday": (164, 170),
    "setxattr": (188, 5),
    "setxattrat": (463, 463),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "shmget": (29, 194),
    "socket": (41, 198),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sync": (162, 81),
    "syncfs": (306, 267),
    "syslog": (103, 116),
    "tkill": (200, 130),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vfork": (58, None),
}
# Calls that are refused with some values of an argument: see `for_program`.
_CLONE = (56, 220)
_CLONE3 = 435
_OF_OWN_PROCESS = {"kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261)}
# With another group, a signal to the own group would reach others.
_GROUPS = {"setpgid": (109, 154), "setsid": (112, 157)}
# A file's owner gets a signal when something can be read: any process, and any signal. And flags of
# the folder would stay for the next program.
_COMMANDS = {
    "fcntl": ((72, 25), {"F_SETOWN": 8, "F_SETSIG": 10, "F_SETOWN_EX": 15}),
    "ioctl": (
        (16, 29),
        {
            "FIOSETOWN": 0x8901,
            "SIOCSPGRP": 0x8902,
            "FS_IOC_SETFLAGS": 0x40086602,
            "FS_IOC_FSSETXATTR": 0x401C5820,
        },
    ),
}
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000  # numbers of another interface to the same kernel, with the same calls

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# Offsets in struct seccomp_data.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_CLONE_THREAD = 0x00010000
_REFUSE = (_RETURN, 0, 0, _ERROR | errno.EPERM)

_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2  # arguments of prctl
_DUMPABLE = 4


def is_supported() -> bool:
    """Whether the numbers of this machine's system calls are known."""
    return platform.machine() in _AUDIT


def lasting(machine: str) -> bytes:
    """What the server and all its forks lose, as the kernel reads it: `struct sock_filter`s.

    Args:
        machine: as `platform.machine()` says it.
    """
    column = _column(machine)
    steps = []
    if machine == "x86_64":
        steps += [(_AT_LEAST, 0, 1, _X32), _REFUSE]
    # The C library makes threads with clone where there is no clone3, whose flags cannot be seen.
    steps += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    for both in _REFUSED.values():
        if (number := both[column]) is not None:
            steps += [(_EQUAL, 0, 1, number), _REFUSE]
    return _filter(machine, steps)


def for_program(machine: str, own: int) -> bytes:
    """What a program's process loses besides.

    Args:
        own: its id; it may signal and limit this process alone, and stays in the group that it is
            in.
    """
    column = _column(machine)
    steps = [
        (_EQUAL, 0, 4, _CLONE[column]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _ALLOW),
        _REFUSE,
    ]
    for numbers in _OF_OWN_PROCESS.values():
        steps += [
            (_EQUAL, 0, 5, numbers[column]),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_EQUAL, 1, 0, own),
            (_EQUAL, 0, 1, 0),  # its own group, or itself
            (_RETURN, 0, 0, _ALLOW),
            _REFUSE,
        ]
    for both in _GROUPS.values():
        steps += [(_EQUAL, 0, 1, both[column]), _REFUSE]
    for both, commands in _COMMANDS.values():
        steps += [
            (_EQUAL, 0, 2 * len(commands) + 2, both[column]),
            (_LOAD, 0, 0, _SECOND_ARGUMENT),
            *itertools.chain.from_iterable(
                [(_EQUAL, 0, 1, value), _REFUSE] for value in commands.values()
            ),
            (_RETURN, 0, 0, _ALLOW),
        ]
    return _filter(machine, steps)


def _column(machine: str) -> int:
    return list(_AUDIT).index(machine)


def _filter(machine: str, steps: list[tuple[int, int, int, int]]) -> bytes:
    whole = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _AUDIT[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        *steps,
        (_RETURN, 0, 0, _ALLOW),
    ]
    return struct.pack("=" + "HBBI" * len(whole), *itertools.chain.from_iterable(whole))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def _prctl(*arguments: object) -> None:
    if _LIBC.prctl(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")


_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.prctl.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 4]


def hide_memory() -> None:
    """Keep other processes of this user from reading the memory of this one, and its children's."""
    _prctl(_DUMPABLE, 0, None, None, None)


def restrict(steps: bytes) -> None:
    """Set a filter on this process. Every thread and everything it starts keeps it.

    Raises:
        OSError: the kernel has no such filters.
    """
    _prctl(_NO_NEW_PRIVILEGES, 1, None, None, None)
    held = _Program(len(steps) // 8, steps)
    _prctl(_SECCOMP, _FILTER, ctypes.addressof(held), None, None)
