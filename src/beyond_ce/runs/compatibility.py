"""Which choices of a run work together, checked before anything starts."""

from __future__ import annotations

from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig

from beyond_ce.errors import UsageError, one_line

# What to recommend for each target (see `Head.target`).
_HEADS = {"tokens": "lm", "value": "regression", "tokens and values": "xval"}
_LOSSES = {"tokens": "ce", "value": "mse", "tokens and values": "xval"}
_MODELS = {"tokens": "t5_tiny", "value": "t5_tiny", "tokens and values": "xval_tiny"}
# And for the columns of the examples: an evaluator that reads one, a data set that has them.
_EVALUATORS = {"problem": "programs", "answer": "number_answers", "text": "held_out"}
_DATA_SETS = {
    "arithmetic": {"prompt", "answer", "task"},
    "python_source": {"text", "task"},
    "code_tasks": {"prompt", "answer", "task", "problem"},
    "code_tasks_packed": {"text", "task", "problem"},
}


def check_parts(config: DictConfig) -> None:
    """Check that the chosen classes fit together, by what each class declares.

    Raises:
        UsageError: two of them do not fit; the line names both and what would fit.
    """
    tokenizer, model, head, loss = (
        _class(config, group) for group in ("tokenizer", "model", "head", "loss")
    )
    if tokenizer.carries_numbers and not model.reads_numbers:
        raise UsageError(
            f"tokenizer {tokenizer.__name__} gives numbers beside its tokens, which model "
            f"{model.__name__} does not read: choose model=xval_tiny or tokenizer=digit"
        )
    if model.reads_numbers and not tokenizer.carries_numbers:
        raise UsageError(
            f"model {model.__name__} reads numbers beside tokens, which tokenizer "
            f"{tokenizer.__name__} does not give: choose tokenizer=xval or model=t5_tiny"
        )
    by_blocks = "block" in config.head and _class(config.head, "block").from_trunk
    if (by_blocks or head.takes_layers) and not model.provides_layers:
        choice = "head/block=linear" if by_blocks else "head=multi_token_linear"
        raise UsageError(
            f"head {head.__name__} takes transformer layers from its model, which model "
            f"{model.__name__} does not lend: choose {choice} or model=decoder_tiny"
        )
    if head.target not in model.targets:
        raise UsageError(
            f"head {head.__name__} predicts {_noun(head.target)}, which model "
            f"{model.__name__} does not support: choose head={_HEADS[model.targets[0]]} "
            f"or model={_MODELS[head.target]}"
        )
    if loss.target != head.target:
        raise UsageError(
            f"loss {loss.__name__} is for heads that predict {_noun(loss.target)}, but head "
            f"{head.__name__} predicts {_noun(head.target)}: choose loss={_LOSSES[head.target]} "
            f"or head={_HEADS[loss.target]}"
        )
    if config.trainer.precision == "bf16-true" and not loss.exact_in_half:
        raise UsageError(
            f"trainer.precision=bf16-true rounds the numbers that loss {loss.__name__} compares: "
            "set trainer.precision=bf16-mixed, or choose loss=ce"
        )
    if "objective" in config:
        objective = _class(config, "objective")
        if not hasattr(head, "take_layers"):
            raise UsageError(
                f"objective {objective.__name__} trains heads 2 to n, which head {head.__name__} "
                "does not have: choose head=multi_token, or leave out objective="
            )
        if "start" not in config and config.model.get("pretrained") is None:
            raise UsageError(
                f"objective {objective.__name__} leaves the trunk as it is, and model "
                f"{model.__name__} starts from random weights: name others with model.pretrained=, "
                "start=run or start=checkpoint"
            )
    check_evaluator(config)


def check_evaluator(config: DictConfig) -> None:
    """The part of `check_parts` about data set, evaluator and baseline."""
    data, evaluator = _class(config, "dataset"), _class(config, "evaluator")
    try:
        reads = evaluator.reads(config.evaluator)
    except ImportError as error:  # of an evaluator's parts
        raise UsageError(f"evaluator: {one_line(error)}") from error
    if missing := [column for column in reads if column not in data.columns]:
        fitting = [f"evaluator={_EVALUATORS[c]}" for c in _EVALUATORS if c in data.columns][:1]
        own = evaluator.data_set
        names = [own] if own else [n for n in _DATA_SETS if set(reads) <= _DATA_SETS[n]]
        fitting += [f"dataset={name}" for name in names[:1]]
        raise UsageError(
            f"evaluator {evaluator.__name__} reads '{missing[0]}', which dataset {data.__name__} "
            f"does not have (only {', '.join(data.columns)}): choose "
            + (" or ".join(fitting) or "another evaluator")
        )
    if evaluator.needs_drafts and "baseline" not in config:
        model, heads = _class(config, "model"), config.head.get("n", 1)
        if heads > 1 and not model.drafts:
            raise UsageError(
                f"evaluator {evaluator.__name__} decodes with all {heads} heads, and model "
                f"{model.__name__} with one only: choose a model=decoder_..., which also starts "
                "from Llama checkpoints, or evaluator=held_out"
            )
    if "baseline" in config and not evaluator.judges_answers:
        raise UsageError(
            f"baseline {_class(config, 'baseline').__name__} answers with a number, which "
            f"evaluator {evaluator.__name__} does not score: choose evaluator=number_answers"
        )


def _class(config: DictConfig, group: str) -> Any:
    try:
        return get_object(config[group]._target_)
    except ImportError as error:
        raise UsageError(f"{group}: {one_line(error)}") from error


def _noun(target: str) -> str:
    return "a value" if target == "value" else target
