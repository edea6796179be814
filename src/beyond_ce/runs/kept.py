"""What git keeps of a run that others start from: its tokenizer and its weights in bfloat16.

Both lie beside its report (see `identity.kept_folder`), about two bytes a parameter.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from beyond_ce.errors import RunError, one_line
from beyond_ce.models import LanguageModel
from beyond_ce.runs.assembly import build_model, load_run
from beyond_ce.runs.store import weights_file
from beyond_ce.storage.writing import replacing
from beyond_ce.tokenizers import Tokenizer


def keep_weights(run: Path, kept: Path, checkpoint: str) -> list[Path]:
    """Copies a run's tokenizer and rounded weights to a folder for git; returns what it wrote.

    Raises:
        UsageError: the run has no such checkpoint.
    """
    model, tokenizer, _ = load_run(run, checkpoint)
    tokenizer.save(kept / "tokenizer")
    with replacing(weights_file(kept), place="set results_dir") as (file,):
        save_model(model.bfloat16(), str(file))
    return [kept / "tokenizer", weights_file(kept)]


def load_kept(kept: Path, config: DictConfig) -> LanguageModel:
    """The model of a kept folder, in float32.

    Args:
        config: the run's.

    Raises:
        RunError: its weights are damaged or of another model.
    """
    path = weights_file(kept)
    model = build_model(config, Tokenizer.load(kept / "tokenizer"))
    try:
        load_model(model, path)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise RunError(
            f"{path} cannot be read: {one_line(error)[:160]}; take it from git again"
        ) from error
    return model
