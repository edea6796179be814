"""Questions of benchmarks from local files, as the rows on the hub that the harness reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beyond_ce.data import files
from beyond_ce.data.base import DataSet
from beyond_ce.errors import RunError, UsageError
from beyond_ce.settings import PATH, TEXT, each, optional, takes, whole

if TYPE_CHECKING:
    import datasets

Row = dict[str, Any]
Rows = dict[str, list[Row]]
"""By split, as the hub names it."""

_LETTERS = "ABCDEFGHIJ"
_HELD_OUT = 10  # one row in so many, where there is no training file to take examples from


def _letters(row: Row, where: str, key: str) -> Row:
    texts = _texts(row, where)
    choices = {"text": texts, "label": list(_LETTERS[: len(texts)])}
    answer = _LETTERS[_label(row, where)]
    return {key: files.text_of(row, "question", where), "choices": choices, "answerKey": answer}


def _arc(row: Row, where: str) -> Row:
    return _letters(row, where, "question")


def _openbookqa(row: Row, where: str) -> Row:
    return _letters(row, where, "question_stem")


def _copa(row: Row, where: str) -> Row:
    texts = ("premise", "choice1", "choice2", "question")
    return {
        **{key: files.text_of(row, key, where) for key in texts},
        # The benchmark's test file has none, and is not read.
        "label": _label({"choices": ["", ""], **row}, where),
    }


def _hellaswag(row: Row, where: str) -> Row:
    """NOTE: the files have the context as one text. Its last sentence, if it does not end, is
    `ctx_b`, whose first letter the harness writes as a capital."""
    context = files.text_of(row, "ctx", where)
    begun = re.search(r"(?<=[.!?\"'\)\]]) [^.!?]*[^.!?\"'\)\]]$", context)
    place = len(context) if begun is None else begun.start()
    return {
        "activity_label": files.text_of(row, "activity_label", where),
        "ctx_a": context[:place],
        "ctx_b": context[place:].strip(),
        "endings": _texts(row, where, "endings"),
        "label": str(_label(row, where, "endings")),
    }


def _mmlu(row: Row, where: str) -> Row:
    return {
        "subject": files.text_of(row, "subject", where),
        "question": files.exact_text_of(row, "question", where),
        "choices": _texts(row, where),
        "answer": _label(row, where),
    }


def _piqa(row: Row, where: str) -> Row:
    texts = _texts(row, where, count=2)
    return {
        "goal": files.exact_text_of(row, "question", where),
        "sol1": texts[0],
        "sol2": texts[1],
        "label": _label(row, where),
    }


def _siqa(row: Row, where: str) -> Row:
    """The files have context and question as one text, which the harness joins to the same."""
    texts = _texts(row, where, count=3)
    context, _, question = files.text_of(row, "question", where).rpartition(". ")
    return {
        "context": f"{context}." if context else "",
        "question": question,
        **dict(zip(("answerA", "answerB", "answerC"), texts, strict=True)),
        "label": str(_label(row, where) + 1),
    }


def _winogrande(row: Row, where: str) -> Row:
    texts = _texts(row, where, count=2)
    sentence = files.text_of(row, "question", where)
    if "_" not in sentence:
        raise UsageError(f"{where}: the question has no gap '_'; is this the right file?")
    answer = str(_label(row, where) + 1)
    return {"sentence": sentence, "option1": texts[0], "option2": texts[1], "answer": answer}


def _nq_open(row: Row, where: str) -> Row:
    return {
        "question": files.text_of(row, "question", where),
        "answer": _texts(row, where, "answer"),
    }


def _triviaqa(row: Row, where: str) -> Row:
    answer = row.get("answer")
    if not isinstance(answer, dict):
        raise UsageError(f"{where}: no 'answer' with aliases; is this the right file?")
    aliases = _texts(answer, where, "aliases")
    return {"question": files.text_of(row, "question", where), "answer": {"aliases": aliases}}


@dataclass(frozen=True)
class _Files:
    """Where a benchmark's questions are in its folder.

    Attributes:
        folder: of $BEYOND_CE_DATA.
        hub: the name of the data set on the hub.
        splits: the hub's names of the splits, with those that a file may have, without .jsonl.
            The first split is needed.
        row: makes a row as on the hub of a line; takes its place for messages besides.
    """

    folder: str
    hub: str
    splits: dict[str, tuple[str, ...]]
    row: Callable[[Row, str], Row]


_ARC = "allenai/ai2_arc"
_FILES = {
    "arc_challenge": _Files("arc", _ARC, {"test": ("arc_challenge_test",)}, _arc),
    "arc_easy": _Files("arc", _ARC, {"test": ("arc_easy_test",)}, _arc),
    "copa": _Files("copa", "aps/super_glue", {"validation": ("val",), "train": ("train",)}, _copa),
    "hellaswag": _Files(
        "hellaswag", "Rowan/hellaswag", {"validation": ("hellaswag_val",)}, _hellaswag
    ),
    "mmlu": _Files("mmlu", "cais/mmlu", {"test": ("mmlu_test",), "dev": ("mmlu_dev",)}, _mmlu),
    "nq_open": _Files(
        "nq_open",
        "google-research-datasets/nq_open",
        {"validation": ("NQ-open.dev",), "train": ("NQ-open.train",)},
        _nq_open,
    ),
    "openbookqa": _Files(
        "openbookqa", "allenai/openbookqa", {"test": ("openbookqa_test",)}, _openbookqa
    ),
    "piqa": _Files("piqa", "baber/piqa", {"validation": ("piqa_validation",)}, _piqa),
    "social_iqa": _Files("siqa", "lighteval/siqa", {"validation": ("siqa_dev",)}, _siqa),
    "triviaqa": _Files(
        "triviaqa",
        "mandarjoshi/trivia_qa",
        {"validation": ("validation", "dev"), "train": ("train",)},
        _triviaqa,
    ),
    "winogrande": _Files(
        "winogrande",
        "allenai/winogrande",
        {"validation": ("winogrande_xl_validation",)},
        _winogrande,
    ),
}
LOCAL_TASKS = tuple(_FILES)
"""The harness's tasks whose questions may be in local files."""


def SHOTS(value: Any) -> str | None:
    """Numbers of examples in front of each question, by task."""
    if not isinstance(value, Mapping):
        return "give numbers of examples by task, as {mmlu: 5}"
    pairs = ((name, advice) for name, n in value.items() if (advice := _SHOTS(n)) is not None)
    return next((f"{name}={value[name]}: {advice}" for name, advice in pairs), None)


_SHOTS = whole(0, 1000)


class Questions(DataSet):
    """Questions for `HarnessTasks`: those of local files, or else the hub's, which it reads itself.

    A benchmark whose folder is missing comes from the hub. In the files a line is a question: with
    `question`, `choices` and `label` (from 0), and what differs in the functions above. If examples
    are asked for and there is no file to take them from, every tenth question is an example and is
    not asked.

    Args:
        tasks: the harness's names.
        shots: the number of examples in front of each question, by task; 0 for others.
        path: a folder with one folder per benchmark, such as copa and hellaswag; null for
            $BEYOND_CE_DATA. A benchmark that is not there comes from the hub.
        cache_dir: where digests of the files are kept.

    Raises:
        UsageError: there is no such folder, or a file is missing in a benchmark's.
    """

    name = "questions"
    columns = ()
    test_splits: tuple[str, ...] = ("test",)

    @takes("evaluator.data", tasks=each(TEXT), shots=SHOTS, path=optional(TEXT), cache_dir=PATH)
    def __init__(
        self,
        tasks: Sequence[str],
        shots: Mapping[str, int],
        cache_dir: str | Path,
        path: str | Path | None = None,
    ) -> None:
        self.shots = {task: shots.get(task, 0) for task in tasks}
        self.cache_dir = Path(cache_dir)
        root = None if path is None else Path(path).expanduser()
        if root is not None and not root.is_dir():
            raise UsageError(
                f"evaluator.data.path={path} is not a folder; give one with the folders of the "
                "benchmarks, or null"
            )
        self.files: dict[str, dict[str, Path]] = {}
        for task in self.shots:
            if task not in _FILES:
                continue
            place = _FILES[task]
            folder = files.data_folder(None, place.folder)
            if root is not None:
                folder = root / place.folder if (root / place.folder).is_dir() else None
            if folder is not None:
                self.files[task] = _find(folder, place)

    @property
    def hub_name(self) -> str | None:
        """The first data set of the hub that is asked for; tasks that are not in the table above
        only the harness knows."""
        hubs = (_FILES[task].hub for task in self.shots if task in _FILES)
        here = {_FILES[task].hub for task in self.files}
        return next((hub for hub in hubs if hub not in here), None)

    def _definition(self) -> dict[str, Any]:
        sources = {}
        for task, shots in self.shots.items():
            if task in self.files:
                source = files.content_digest(self.files[task].values(), self.cache_dir)
            else:
                source = files.hub_identity(_FILES[task].hub) if task in _FILES else "the harness"
            sources[task] = [source, shots]
        return {"tasks": sources}

    def load(self) -> dict[str, datasets.Dataset]:
        """Nothing: the harness asks for the rows of each task (see `rows`)."""
        return {}

    def rows(self, task: str) -> Rows | None:
        """A task's questions by split, None if they come from the hub.

        Raises:
            UsageError: a line of a file is no question.
            RunError: a file is damaged or empty.
        """
        if task not in self.files:
            return None
        found = {
            split: list(_read(path, _FILES[task].row)) for split, path in self.files[task].items()
        }
        asked = next(iter(_FILES[task].splits))
        if self.shots[task] and len(found) == 1:
            every = found[asked]
            found["train"] = every[::_HELD_OUT]
            found[asked] = [row for i, row in enumerate(every) if i % _HELD_OUT]
        return found


def _find(folder: Path, place: _Files) -> dict[str, Path]:
    """The file of each split; only the first split is needed."""
    found = {}
    for number, (split, stems) in enumerate(place.splits.items()):
        names = [f"{stem}.jsonl" for stem in stems]
        exists = any((folder / f"{name}{end}").is_file() for name in names for end in ("", ".gz"))
        if exists or not number:
            found[split] = files.find_file(folder, *names)
    return found


def _read(path: Path, make: Callable[[Row, str], Row]) -> Iterator[Row]:
    number = 0
    for number, row in files.read_json_lines(path):
        yield make(row, f"{path}, line {number}")
    if not number:
        raise RunError(f"{path} is empty: fetch it again")


def _texts(row: Row, where: str, key: str = "choices", count: int | None = None) -> list[str]:
    texts = row.get(key)
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise UsageError(f"{where}: no list of texts '{key}'; is this the right file?")
    most = len(_LETTERS) if key == "choices" else len(texts)
    if len(texts) > most or count not in (None, len(texts)):
        raise UsageError(f"{where}: {len(texts)} texts '{key}'; is this the right file?")
    return texts


def _label(row: Row, where: str, key: str = "choices") -> int:
    label = row.get("label")
    if type(label) is not int or not 0 <= label < len(row.get(key) or ()):
        raise UsageError(f"{where}: no 'label' of one of its {key}; is this the right file?")
    return label
