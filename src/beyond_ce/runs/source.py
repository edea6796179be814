"""Where the weights of a run's source are, and how they get into the run's model."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

import torch
from omegaconf import DictConfig

from beyond_ce.checkpoints import copy_weights
from beyond_ce.errors import UsageError
from beyond_ce.models import LanguageModel
from beyond_ce.runs.assembly import build_model, load_run
from beyond_ce.runs.identity import run_folder
from beyond_ce.runs.kept import load_kept
from beyond_ce.runs.start import source_overrides
from beyond_ce.runs.store import has_weights, is_done, kept_weights, weights_file
from beyond_ce.storage.content import remembered
from beyond_ce.tokenizers import Tokenizer


def source_folder(config: DictConfig) -> Path | None:
    """The folder of the run that `config` starts from (see `with_source`), if it starts from one.

    That is the run's own folder or, for weights rounded to bfloat16, what git keeps of it.

    Raises:
        UsageError: the run is missing or has not finished.
    """
    start = config.get("start")
    if start is None:
        return None
    own = run_folder(start.source) if "experiment" in start else Path(start.path)
    if is_done(own):
        return own
    kept = kept_weights(start.source)
    if kept is not None and start.weights == "bfloat16":
        return kept
    state = "has not finished" if own.exists() else "is not there"
    advice = "give that of a finished run"
    if "experiment" in start:
        words = [*source_overrides(start), f"seed={start.source.seed}"]
        advice = f"make it with `python scripts/train.py {shlex.join(words)}`"
        if kept is not None:
            advice += ", or take its rounded weights with start.weights=bfloat16"
    raise UsageError(f"start: the run to start from, {own}, {state}: {advice}")


def source_tokenizer(config: DictConfig) -> Tokenizer | None:
    """The tokenizer of the run that `config` starts from."""
    folder = source_folder(config)
    return None if folder is None else Tokenizer.load(folder / "tokenizer")


def check_source(config: DictConfig) -> None:
    """Refuse a source that is missing or of another size, without reading its weights.

    Raises:
        UsageError: it cannot be started from.
    """
    tokenizer = source_tokenizer(config)
    if tokenizer is None:
        return
    try:
        with torch.device("meta"):
            model, source = (build_model(c, tokenizer) for c in (config, config.start.source))
    except (NotImplementedError, RuntimeError, UsageError):
        return  # not every model can be built without weights; `start_weights` tells then
    copy_weights(model, source, name="the run to start from")


def start_weights(model: LanguageModel, config: DictConfig) -> None:
    """Copies the weights of the run that `config` starts from into its model, in place.

    Raises:
        UsageError: the run is missing, has not finished, or is of another size.
        RunError: its files are damaged.
    """
    folder = source_folder(config)
    if folder is None:
        return
    copy_weights(model, _source_model(config, folder), name=str(folder))


def weights_digest(config: DictConfig) -> str | None:
    """Hex digest of the weights that `config` starts from, wherever they are; None for random ones.

    Raises:
        UsageError: the run is missing or has not finished.
        RunError: its files are damaged.
    """
    folder = source_folder(config)
    if folder is None:
        return None
    start = config.start
    file = weights_file(folder) if has_weights(folder) else folder / f"{start.checkpoint}.ckpt"

    def digest() -> str:
        return _state_digest(_source_model(config, folder))

    return remembered([file], f"weights {start.weights}", digest, Path(config.cache_dir))


def run_digest(folder: Path, cache_dir: Path) -> str:
    """Hex digest of a run's last weights and its tokenizer, which a repetition has again.

    Raises:
        UsageError, RunError: as `load_run`.
    """

    def digest() -> str:
        model, tokenizer, _ = load_run(folder, "last")
        text = f"{_state_digest(model)} {tokenizer.fingerprint()}"
        return hashlib.sha256(text.encode()).hexdigest()

    return remembered([folder / "last.ckpt"], "weights and tokenizer", digest, cache_dir)


def _state_digest(model: LanguageModel) -> str:
    """Hex digest of a model's weights and buffers, in float32."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)}".encode())
        found.update(tensor.float().contiguous().numpy().tobytes())
    return found.hexdigest()


def _source_model(config: DictConfig, folder: Path) -> LanguageModel:
    start = config.start
    if has_weights(folder):
        return load_kept(folder, start.source)
    source, _, _ = load_run(folder, start.checkpoint)
    return source.bfloat16().float() if start.weights == "bfloat16" else source
