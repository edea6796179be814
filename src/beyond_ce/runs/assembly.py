"""From a config to its model and loss, and from a run's folder back to its trained model."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

from hydra.utils import get_object
from omegaconf import DictConfig

from beyond_ce.checkpoints import start_from
from beyond_ce.configuration import build
from beyond_ce.errors import UsageError
from beyond_ce.losses import Loss
from beyond_ce.models import Decoder, LanguageModel
from beyond_ce.processes.ranks import make_fabric
from beyond_ce.runs.compatibility import check_parts
from beyond_ce.runs.store import RUN_AGAIN, check_file, is_done, read_config
from beyond_ce.tokenizers import Tokenizer
from beyond_ce.training import load_checkpoint
from beyond_ce.training.objective import Objective


def build_model(config: DictConfig, tokenizer: Tokenizer) -> LanguageModel:
    """The config's model and head, with the tokenizer's vocabulary size and number encodings.

    A decoder with a checkpoint to start from (`model.pretrained`) gets its weights here; models
    of transformers load their own.
    """
    model: LanguageModel = build(
        config.model,
        "model",
        vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id,
        eos_id=tokenizer.eos_id,
        head=build(config.head, "head"),
    )
    if isinstance(model, Decoder) and model.pretrained is not None:
        start_from(model, model.pretrained)
    encodings = tokenizer.number_encodings(model.embedding.embedding_dim)
    if encodings is not None:
        model.add_encodings(encodings)
    return model


def build_objective(config: DictConfig, tokenizer: Tokenizer) -> Objective:
    """The config's model and loss.

    Raises:
        UsageError: the tokenizer, model, head and loss do not fit together.
    """
    check_parts(config)
    model = build_model(config, tokenizer)
    make = build(config.objective, "objective") if "objective" in config else Objective
    objective: Objective = make(model, build_loss(config, tokenizer))
    return objective


def build_loss(config: DictConfig, tokenizer: Tokenizer) -> Loss:
    """The config's loss, with the tables of the tokenizer that it needs.

    Raises:
        UsageError: the loss cannot work with this tokenizer.
    """
    tables = {"number_values": tokenizer.number_values()}
    if "decimal_points" in signature(get_object(config.loss._target_)).parameters:
        tables["decimal_points"] = tokenizer.decimal_points()
    try:
        return build(config.loss, "loss", **tables)
    except UsageError as error:  # losses never see the tokenizer, so they cannot name it
        raise UsageError(f"with tokenizer {type(tokenizer).__name__}: {error}") from error


def load_model(
    config: DictConfig, tokenizer: Tokenizer, checkpoint: Path
) -> tuple[LanguageModel, int]:
    """The config's model with the weights of a checkpoint, and the checkpoint's step.

    The whole model is on the CPU, even if several devices trained it in shards.
    """
    objective = build_objective(config, tokenizer)
    fabric = make_fabric(accelerator="cpu", devices=1)
    rest = load_checkpoint(fabric, checkpoint, {"module": objective})
    return objective.model, rest["progress"]["step"]


def load_run(folder: Path, checkpoint: str) -> tuple[LanguageModel, Tokenizer, int]:
    """The model of a trained run (all of it on the CPU), its tokenizer, and the checkpoint's step.

    Args:
        folder: of a run, finished or not.
        checkpoint: last or best.

    Raises:
        UsageError: there is no such run or checkpoint.
        RunError: its files are damaged.
    """
    config = read_config(folder)
    if "baseline" in config:
        raise UsageError(f"{folder} has a baseline and no model: give the folder of another run")
    path = folder / f"{checkpoint}.ckpt"
    if not path.exists():
        if is_done(folder):
            raise UsageError(f"{folder} has lost its {checkpoint} checkpoint: {RUN_AGAIN}")
        raise UsageError(f"{folder} has no {checkpoint} checkpoint yet: train longer")
    tokenizer = Tokenizer.load(folder / "tokenizer")
    model, step = load_model(config, tokenizer, path)
    check_file(path, f"put the right one back, or {RUN_AGAIN}")
    return model, tokenizer, step
