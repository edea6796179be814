"""`generation_config.json` of transformers: which tokens start and end a text, and how the model's
authors sample. Any layout may have one; it is kept when a checkpoint is converted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beyond_ce.checkpoints.files import JsonFile

_FILE = "generation_config.json"
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def read_generation(folder: Path, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the folder's file says; tokens that it does not name are those of `config.json`.

    The tokens that end a text are all that either file names, those of `config.json` first.

    Args:
        settings: `config.json`, if it is in transformers' format.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / _FILE
    values = JsonFile(path).values if path.exists() else {}
    tokens = {key: settings[key] for key in _TOKENS if settings and settings.get(key) is not None}
    merged = tokens | {key: value for key, value in values.items() if value is not None}
    ends = dict.fromkeys([*end_ids(tokens), *end_ids(values)])
    if ends:
        merged["eos_token_id"] = one_or_several(list(ends))
    return merged


def write_generation(values: Mapping[str, Any], folder: Path) -> None:
    """Write the file, if there is anything to write."""
    if values:
        (folder / _FILE).write_text(json.dumps(dict(values), indent=2) + "\n", encoding="utf-8")


def end_ids(values: Mapping[str, Any]) -> list[int]:
    """The ids of all tokens that end a text."""
    ids = values.get("eos_token_id")
    return [i for i in (ids if isinstance(ids, list) else [ids]) if type(i) is int and i >= 0]


def one_or_several(ids: list[int]) -> int | list[int]:
    """As transformers writes them: a number if there is only one."""
    return ids[0] if len(ids) == 1 else ids
