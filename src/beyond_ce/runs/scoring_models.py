"""Scores models that no run here has trained: checkpoints, and those of transformers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from transformers import GenerationConfig

from beyond_ce.configuration import build, compose
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import Evaluator, Subject
from beyond_ce.models import CausalLM
from beyond_ce.runs.assembly import build_model
from beyond_ce.runs.checks import check_settings
from beyond_ce.runs.compatibility import check_evaluator, check_parts
from beyond_ce.runs.loading import Loaded, load
from beyond_ce.runs.scoring import Scores, device_of, score_splits
from beyond_ce.storage.writing import check_writable
from beyond_ce.tokenizers import PretrainedTokenizer, Tokenizer

_OF_MODEL = ("model", "head", "tokenizer")
_OF_SCORES = ("dataset", "evaluator")


def score_checkpoint(
    folder: Path, tokenizer: Path | None, splits: Sequence[str], overrides: Sequence[str]
) -> Scores:
    """Score a checkpoint in any layout that `load` reads.

    Results, and what a killed evaluation goes on from, are in `<results_dir>/evaluations/<hash>`.

    Args:
        tokenizer: see `load`.
        splits: empty for the test splits.
        overrides: of the config, such as `evaluator=humaneval`.

    Raises:
        UsageError: there is no such checkpoint, tokenizer, choice or split.
        RunError: a file is damaged.
    """
    config = compose(overrides)
    check_settings(config)
    check_evaluator(config)
    return _score(config, load(folder, tokenizer=tokenizer), {"model": str(folder)}, splits)


def score_model(splits: Sequence[str], overrides: Sequence[str]) -> Scores:
    """Score the model of a config, whose weights are `model.pretrained`.

    A model of transformers comes with its tokenizer, unless the config chooses one. Its texts start
    and end with the tokens that transformers would give them.

    Args:
        overrides: of the config, such as `model=causal_lm` and `model.pretrained=...`.

    Raises:
        UsageError: there is no such model, choice or split.
    """
    config = compose(overrides)
    name = config.model.get("pretrained")
    if name is None:
        raise UsageError(
            "there is no model to score: give the folder of a run or of a checkpoint, or "
            "model=causal_lm model.pretrained=<a folder or a name on the Hugging Face hub>"
        )
    of_transformers = issubclass(get_object(config.model._target_), CausalLM)
    if of_transformers and not any(o.partition("=")[0] == "tokenizer" for o in overrides):
        config.tokenizer = compose(["tokenizer=pretrained", "tokenizer.model=x"]).tokenizer
        config.tokenizer.model = name
    check_settings(config)
    check_parts(config)
    tokenizer: Tokenizer = build(config.tokenizer, "tokenizer")
    tokenizer.fit((), Path(config.cache_dir), "")
    start: list[int] = []
    ends = [tokenizer.eos_id]
    if of_transformers and isinstance(tokenizer, PretrainedTokenizer):
        start, ends = tokenizer.start_ids, [*ends, *_end_ids(name)]
    model = build_model(config, tokenizer)
    loaded = Loaded(model, tokenizer, start, list(dict.fromkeys(ends)))
    return _score(config, loaded, _plain(config, _OF_MODEL), splits)


def _end_ids(name: str) -> Iterable[int]:
    """The tokens that end a text of a model of transformers, besides its tokenizer's."""
    try:
        ends = GenerationConfig.from_pretrained(name, trust_remote_code=False).eos_token_id
    except (OSError, ValueError):  # most models have none of their own
        return []
    return [ends] if isinstance(ends, int) else ends or []


def _score(
    config: DictConfig, loaded: Loaded, head: dict[str, Any], splits: Sequence[str]
) -> Scores:
    """Scores in a folder named by the model and by how it is scored.

    Args:
        head: says which model it is.
    """
    described = {**head, **_plain(config, _OF_SCORES)}
    text = json.dumps(described, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = Path(config.results_dir) / "evaluations" / name
    check_writable(folder, "set results_dir to a writable folder")
    print(f"results go to {folder}")
    evaluator: Evaluator = build(config.evaluator, "evaluator")
    subject = Subject(
        loaded.model, loaded.tokenizer, device_of(config), folder, loaded.start, loaded.end_ids
    )
    return score_splits(config, evaluator, subject, splits, "scores", head)


def _plain(config: DictConfig, groups: Iterable[str]) -> dict[str, Any]:
    return {group: OmegaConf.to_container(config[group], resolve=True) for group in groups}
