"""The harness's own tasks, by name, on the hub's data or on local files.

The package `lm_eval` takes seconds to import, so this module is imported when it is needed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import lm_eval.tasks
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._factory import TaskFactory

from beyond_ce.data import Questions
from beyond_ce.data.questions import Rows
from beyond_ce.errors import RunError, UsageError, one_line
from beyond_ce.evaluation.evaluator import spread

# Where the paper's tasks and those of local files are defined. Looking through all folders of the
# harness takes many seconds, and is done for other tasks only.
_FOLDERS = {
    "arc_challenge": "arc",
    "arc_easy": "arc",
    "copa": "super_glue/copa",
    "hellaswag": "hellaswag",
    "mmlu": "mmlu/default",
    "nq_open": "nq_open",
    "openbookqa": "openbookqa",
    "piqa": "piqa",
    "social_iqa": "siqa",
    "triviaqa": "triviaqa",
    "winogrande": "winogrande",
}
_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


def load_tasks(
    questions: Questions, most: int | None, seed: int
) -> tuple[dict[str, Any], dict[str, list[int]] | None]:
    """The harness's tasks with their data, and which questions to ask, for its `evaluate`.

    Args:
        most: ask at most so many questions of each task, spread evenly, and of a group's, such as
            MMLU, so many in all, the same number of each of its tasks (at least one); None for all.
        seed: of the examples drawn for few-shot prompts.

    Raises:
        UsageError: the harness has no such task, or a local file's line is no question.
        RunError: the data cannot be loaded, for example from the hub without a network.
    """
    manager = _manager(list(questions.shots))
    index = dict(manager.task_index)
    unknown = [name for name in questions.shots if name not in index]
    if unknown:
        raise UsageError(
            f"evaluator.tasks: the harness has no task '{unknown[0]}'; `lm-eval ls tasks` lists all"
        )
    built: list[Any] = []
    asked: dict[str, list[int]] = {}
    for name, shots in questions.shots.items():
        changes: dict[str, Any] = {"num_fewshot": shots}
        if (rows := questions.rows(name)) is not None:
            changes["class"] = _local_task(rows, name, shots, _part(most, _subjects(rows)))
        with _loading(name):
            found = TaskFactory().build(index[name], overrides=changes, registry=index)
        found = found if isinstance(found, list) else [found]  # a tag names several tasks
        built += found
        tasks = manager.load(found)["tasks"]
        for key, task in tasks.items():
            task.set_fewshot_seed(seed=seed)
            asked[key] = spread(len(task.eval_docs), _part(most, len(tasks)))
    return manager.load(built), None if most is None else asked


def _part(most: int | None, parts: int) -> int | None:
    """What one of so many tasks has of a limit for all of them together."""
    return None if most is None else math.ceil(most / parts)


def _subjects(rows: Rows) -> int:
    """How many tasks the rows are of: MMLU's are of one for each subject."""
    return len({row.get("subject") for part in rows.values() for row in part})


def _manager(names: Sequence[str]) -> TaskManager:
    """Knows these tasks, and as few others as possible."""
    root = Path(lm_eval.tasks.__file__).parent
    if all(name in _FOLDERS for name in names):
        folders = sorted({str(root / _FOLDERS[name]) for name in names})
        return TaskManager(include_path=folders, include_defaults=False)
    return TaskManager()


@contextmanager
def _loading(name: str) -> Iterator[None]:
    try:
        yield
    except (UsageError, RunError):
        raise
    except Exception as error:  # the hub's client and the harness have no common error class
        raise RunError(
            f"cannot load the harness's task {name} ({one_line(error)[:160]}); without a network, "
            "give a folder with its questions as evaluator.data.path, or in $BEYOND_CE_DATA"
        ) from error


def _local_task(rows: Rows, name: str, shots: int, most: int | None) -> type[ConfigurableTask]:
    """A class of tasks that read these rows instead of the hub's, and ask at most so many.

    A task of a group, such as a subject of MMLU, reads those that name it in `subject`.
    """

    class LocalTask(ConfigurableTask):
        def __init__(self, config: dict[str, Any]) -> None:
            settings = {key: value for key, value in config.items() if key != "class"}
            subject = settings.get("dataset_name")
            found = {split: _of(part, subject) for split, part in rows.items()}
            self.local = {split: part for split, part in found.items() if part}
            for key in _SPLITS:
                if settings.get(key) not in self.local:
                    settings[key] = None
            of_examples = settings["fewshot_split"] or settings["training_split"]
            # Without a split of its own for examples, the harness draws one to spare.
            most_shots = len(self.local.get(of_examples, ())) - (not settings["fewshot_split"])
            if shots > max(0, most_shots):
                raise UsageError(
                    f"evaluator.shots.{name}={shots}: there are no files with so many examples, "
                    f"set it to {max(0, most_shots)} at most"
                )
            asked = settings["test_split"] or settings["validation_split"]
            self.local[asked] = [self.local[asked][i] for i in spread(len(found[asked]), most)]
            # The harness would process all rows again for every look at them.
            self.process = settings.pop("process_docs", None) or (lambda split: split)
            super().__init__(config=settings)

        def download(self, dataset_kwargs: Any = None, **kwargs: Any) -> None:
            self.dataset = {
                split: self.process(datasets.Dataset.from_list(part))
                for split, part in self.local.items()
            }

    return LocalTask


def _of(rows: list[dict[str, Any]], subject: str | None) -> list[dict[str, Any]]:
    return [row for row in rows if "subject" not in row or row["subject"] == subject]


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the harness's remarks on every task out of a run's output."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
