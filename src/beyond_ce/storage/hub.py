"""What a name on the Hugging Face hub stands for: one commit of its repository, and its files."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Literal

from beyond_ce.errors import UsageError, one_line

_SECONDS = 10  # to wait for the hub's answer
_CHECKPOINT = ["*.json", "*.safetensors", "*.model"]  # of its weights in several formats, one


@functools.cache
def hub_revision(name: str, kind: Literal["model", "dataset"]) -> str | None:
    """The commit that is loaded under this name: the hub's newest or, without a network, the one
    in the hub's local cache. None if neither is known.

    Asked once per process, which then keeps to the answer.
    """
    # A late import, because most runs read nothing from the hub.
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    with contextlib.suppress(Exception):  # the client has no common class of errors
        return HfApi().repo_info(name, repo_type=kind, timeout=_SECONDS).sha
    with contextlib.suppress(OSError, ValueError):  # the latter for what is no name on the hub
        folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind)
        return (folder / "refs" / "main").read_text(encoding="utf-8").strip() or None
    return None


def checkpoint_folder(name: str | Path, setting: str) -> Path:
    """The folder of this name or, if there is none, the checkpoint of this name on the hub.

    Args:
        name: a folder, or a name on the hub, whose files are then downloaded once.
        setting: what the user set to `name`, for messages.

    Raises:
        UsageError: there is no such folder, and nothing can be downloaded.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        revision = hub_revision(str(name), "model")
        found = snapshot_download(str(name), revision=revision, allow_patterns=_CHECKPOINT)
    except Exception as error:  # the client has no common class of errors
        raise UsageError(
            f"{setting}={name} is no folder and cannot be loaded from the Hugging Face hub "
            f"({one_line(error)[:160]}): give a folder with a checkpoint or, with network, a name "
            "on the hub"
        ) from error
    return Path(found)
