"""What a name on the Hugging Face hub stands for: one commit of its repository."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Literal

_SECONDS = 10  # to wait for the hub's answer


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
