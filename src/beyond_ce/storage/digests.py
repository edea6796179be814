"""Digests that tell whether a file still is what was written.

A folder's list of digests has the format of `sha256sum`, which can check it as well. Files of
`torch.save` are zip archives with a checksum for every tensor, which torch writes and does not
compare.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from beyond_ce.errors import RunError, one_line

_BLOCK = 2**20  # bytes read at once
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex digits; about 1 s per GB. OSError is the caller's."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def digest_lines(folder: Path, files: Iterable[Path]) -> str:
    """A line `<digest>  <name>` for every file in `folder`."""
    return "".join(f"{file_digest(f)}  {f.relative_to(folder).as_posix()}\n" for f in files)


def check_digest(path: Path, listed_in: Path, remedy: str) -> None:
    """Compare a file with the digest that a list in its folder, or one above, has for it.

    Passes if there is no such list, or if it is empty, as older versions wrote it.

    Args:
        remedy: what to do about another file, or a damaged list.

    Raises:
        RunError: the file is another one than the list says, or the list is damaged.
    """
    try:
        lines = listed_in.read_bytes().decode("utf-8").splitlines()
        listed = dict(_split(line) for line in lines)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise RunError(f"{listed_in} is damaged ({one_line(error)}): {remedy}") from error
    expected = listed.get(path.relative_to(listed_in.parent).as_posix())
    if expected is None:
        return
    try:
        found = file_digest(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    if found != expected:
        raise RunError(
            f"{path} was damaged or changed: it is not the file whose digest is in "
            f"{listed_in.name}; {remedy}"
        )


def _split(line: str) -> tuple[str, str]:
    """The name and the digest in a line."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("a line is no digest with a name")
    return match[2], match[1]


def check_archive(path: Path) -> None:
    """Compare every part of a file of `torch.save` with its checksum; about 1 s per GB.

    Passes for files in torch's older format and for those that were written without checksums.

    Raises:
        ValueError: a part is not what was written.
        OSError: the file cannot be read.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            if not any(part.CRC for part in archive.infolist()):
                return
            part_name = archive.testzip()
    except OSError:
        raise
    except Exception as error:  # a damaged directory of the archive can raise almost anything
        raise ValueError(one_line(error)) from error
    if part_name is not None:
        raise ValueError(f"the checksum of {part_name} is wrong")
