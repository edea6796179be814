import collections
import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from beyond_ce.data import Arithmetic, Mathematics, generation
from beyond_ce.data.mathematics import DIFFICULTIES
from beyond_ce.errors import UsageError

CONF = Path(__file__).parents[2] / "conf" / "dataset"
SIZES = {"train_per_difficulty": 60, "validation_per_difficulty": 10, "test_size": 20, "seed": 0}


def rows(data):
    return {split: list(examples) for split, examples in data.load().items()}


def prompts(splits, split):
    return [row["prompt"] for row in splits[split]]


def assert_disjoint(splits):
    for one, other in itertools.combinations(splits, 2):
        assert not set(prompts(splits, one)) & set(prompts(splits, other)), (one, other)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    cache_dir = tmp_path_factory.mktemp("cache")
    return rows(Arithmetic(**SIZES, cache_dir=cache_dir, num_workers=1))


def test_arithmetic_has_exactly_the_sizes_asked_for(generated):
    sizes = {split: len(examples) for split, examples in generated.items()}
    assert sizes == {"train": 180, "validation": 30, "interpolate": 20, "extrapolate": 20}
    tasks = {split: {row["task"] for row in examples} for split, examples in generated.items()}
    assert tasks["train"] == tasks["interpolate"] == {"arithmetic__add_sub_multiple"}
    assert tasks["extrapolate"] == {"arithmetic__add_sub_multiple_longer"}


def test_splits_are_distinct_and_disjoint(generated):
    assert_disjoint(generated)
    for split in ("train", "validation", "interpolate", "extrapolate"):
        assert len(set(prompts(generated, split))) == len(generated[split])


def test_answers_are_right(generated):
    for examples in generated.values():
        for row in examples:
            expression = row["prompt"].rstrip("?.").split("value of ")[-1]
            for words in ("What is ", "Evaluate ", "Calculate "):
                expression = expression.removeprefix(words)
            assert eval(expression) == int(row["answer"])


def test_any_number_of_workers_gives_the_same_data(generated, tmp_path):
    assert rows(Arithmetic(**SIZES, cache_dir=tmp_path, num_workers=3)) == generated


def test_another_seed_gives_other_data(generated, tmp_path):
    other = rows(Arithmetic(**{**SIZES, "seed": 1}, cache_dir=tmp_path, num_workers=1))
    assert all(other[split] != generated[split] for split in generated)


def test_mathematics_has_every_category_at_every_difficulty(tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "SHARD_SIZE", 4)  # less to generate
    sizes = {"train_per_difficulty": 3, "validation_per_difficulty": 1, "test_size": 2}
    splits = rows(Mathematics(**sizes, seed=0, cache_dir=tmp_path))
    for split, each in {"train": 9, "validation": 3, "interpolate": 2}.items():
        counts = collections.Counter(row["task"] for row in splits[split])
        assert counts == dict.fromkeys(Mathematics.categories, each)
    counts = collections.Counter(row["task"] for row in splits["extrapolate"])
    assert counts == dict.fromkeys(Mathematics.extrapolation, 2)
    assert_disjoint(splits)


@given(
    st.sampled_from(["train_per_difficulty", "validation_per_difficulty", "test_size", "seed"]),
    st.integers(1, 99),
)
def test_the_fingerprint_is_of_what_defines_the_data(key, value):
    base = Arithmetic(**SIZES, cache_dir="here", num_workers=1).fingerprint()
    assert Arithmetic(**SIZES, cache_dir="there", num_workers=value).fingerprint() == base
    other = Arithmetic(**{**SIZES, key: value}, cache_dir="here").fingerprint()
    assert (other == base) == (value == SIZES[key])
    assert Mathematics(**SIZES, cache_dir="here").fingerprint() != base


class Exhausted(Arithmetic):
    """Whose questions are the digits."""

    def _generated(self, plan):
        return contextlib.nullcontext(
            lambda stream: ((str(i % 10), "0") for i in itertools.count())
        )


def test_a_category_that_runs_out_gives_what_it_has_and_says_so(tmp_path, caplog):
    sizes = {"train_per_difficulty": 6, "validation_per_difficulty": 1, "test_size": 1}
    splits = rows(Exhausted(**sizes, seed=0, cache_dir=tmp_path))
    assert {split: len(examples) for split, examples in splits.items()} == {
        "interpolate": 1,
        "extrapolate": 1,
        "validation": 3,
        "train": 3 * 5,  # of ten digits five are held out
    }
    assert_disjoint(splits)
    assert "train (train-easy): found only 5 of the 6 questions" in caplog.text


# A shell that starts the tests in the background has them, and so this program, ignore SIGINT.
PROGRAM = """
import signal
from beyond_ce.data import Arithmetic
signal.signal(signal.SIGINT, signal.default_int_handler)
Arithmetic(train_per_difficulty=20000, validation_per_difficulty=10, test_size=20, seed=0,
           cache_dir="cache", num_workers=2).load()
"""


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_generation_leaves_nothing_that_looks_finished(tmp_path, with_signal):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    while not list(tmp_path.glob("cache/*.partial/train.arrow")):
        time.sleep(0.01)
        assert process.poll() is None
    os.kill(process.pid, with_signal)
    process.wait()
    folders = [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert all(name.endswith(".partial") for name in folders)
    assert with_signal == signal.SIGKILL or not folders


# The official files


def test_official_files_have_their_own_operations(tmp_path):
    with pytest.raises(UsageError, match=r"dataset\.operations is for generated questions"):
        official(write_official(tmp_path / "files"), tmp_path / "cache", operations=[1, 1])


def write_official(folder, data=Arithmetic, pairs_per_file=40):
    """Small files in the official layout; every pair occurs twice, some of them in a test."""
    for stream in {(s.regime, s.module) for s in data(**SIZES, cache_dir="")._plan()}:
        file = folder / stream[0] / f"{stream[1]}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        numbers = [n for n in range(pairs_per_file) for _ in range(2)]
        file.write_text("".join(f"{stream[0][:5]} {n}?\n{n}\n" for n in numbers))
    return folder


def official(path, cache_dir, **changes):
    return Arithmetic(**{**SIZES, **changes}, cache_dir=cache_dir, path=path)


def test_official_files_are_read_in_their_order(tmp_path):
    path = write_official(tmp_path / "mathematics_dataset-v1.0")
    sizes = {"train_per_difficulty": 50, "validation_per_difficulty": 4, "test_size": 10}
    splits = rows(official(path, tmp_path, **sizes))
    assert prompts(splits, "interpolate") == [f"inter {n}?" for n in range(10)]
    assert [row["answer"] for row in splits["extrapolate"]] == [str(n) for n in range(10)]
    assert prompts(splits, "validation") == [f"train {n}?" for n in range(4 * len(DIFFICULTIES))]
    # No held-out question, repetitions kept as they are, as many as asked for.
    assert prompts(splits, "train")[:4] == ["train 12?", "train 12?", "train 13?", "train 13?"]
    assert len(splits["train"]) == 50 * len(DIFFICULTIES)
    assert_disjoint(splits)


def test_official_files_are_the_same_data_wherever_they_lie(tmp_path):
    here, there = (write_official(tmp_path / name) for name in ("here", "there"))
    assert official(here, "").fingerprint() == official(there, "x").fingerprint()
    assert official(here, "").fingerprint() != official(None, "").fingerprint()


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere is not a folder.*null") as error:
        official(tmp_path / "nowhere", tmp_path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_line(tmp_path):
    path = write_official(tmp_path / "files")
    (path / "train-hard" / "arithmetic__add_sub_multiple.txt").unlink()
    with pytest.raises(UsageError, match=r"no file train-hard/arithmetic__add_sub_multiple\.txt"):
        official(path, tmp_path)


def test_a_cut_file_is_one_line(tmp_path):
    path = write_official(tmp_path / "files")
    file = path / "interpolate" / "arithmetic__add_sub_multiple.txt"
    file.write_text("1 + 1?\n2\n1 + 2?\n")
    with pytest.raises(UsageError, match=r"question without answer") as error:
        official(path, tmp_path).load()
    assert str(file) in str(error.value)


@pytest.mark.parametrize("value", [0, -1, 1.5, "many"])
@pytest.mark.parametrize("key", ["train_per_difficulty", "num_workers"])
def test_sizes_must_be_positive(tmp_path, key, value):
    advice = "at least 1" if isinstance(value, int) else "a whole number, as 1"
    with pytest.raises(UsageError, match=f"dataset.{key}={value}: give {advice}"):
        Arithmetic(**{**SIZES, "num_workers": 1, key: value}, cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["arithmetic", "mathematics"])
def test_the_config_builds_the_data_at_the_papers_size(tmp_path, name):
    config = OmegaConf.merge(
        {"cache_dir": str(tmp_path)}, {"dataset": OmegaConf.load(CONF / f"{name}.yaml")}
    )
    data = instantiate(config.dataset)
    assert data.name == name
    assert data.cache_dir == tmp_path
    per_difficulty = data.sizes["train_per_difficulty"] + data.sizes["validation_per_difficulty"]
    pairs = per_difficulty * len(DIFFICULTIES) * len(data.categories)
    assert pairs == pytest.approx({"arithmetic": 103_000, "mathematics": 26e6}[name], rel=0.01)


def test_importing_the_data_sets_is_cheap():
    program = "import sys, beyond_ce.data; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert not {"torch", "sympy", "datasets", "pandas"} & set(loaded)


def test_operations_make_the_questions_shorter(tmp_path):
    sizes = SIZES | {"test_size": 40}
    data = Arithmetic(
        **sizes, operations=[1, 2], difficulties=["easy", "medium"], cache_dir=tmp_path
    )
    splits = rows(data)
    assert {split: len(examples) for split, examples in splits.items()} == {
        "train": 120,
        "validation": 20,
        "interpolate": 40,
        "extrapolate": 40,
    }
    numbers = {
        split: {len(re.findall(r"\d+", prompt)) for prompt in prompts(splits, split)}
        for split in splits
    }
    assert numbers["train"] == numbers["interpolate"] == {2, 3}
    assert numbers["extrapolate"] == {4}
    assert_disjoint(splits)


def test_what_makes_other_questions_has_another_fingerprint(tmp_path):
    def fingerprint(**changes):
        return Arithmetic(**SIZES, cache_dir=tmp_path, **changes).fingerprint()

    made = [{}, {"operations": [1, 1]}, {"operations": [1, 2]}, {"difficulties": ["easy"]}]
    assert len({fingerprint(**changes) for changes in made}) == len(made)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operations": [2, 1]}, "the minimum and the maximum"),
        ({"operations": [0, 1]}, "the minimum and the maximum"),
        ({"operations": [1]}, "the minimum and the maximum"),
        ({"operations": []}, "the minimum and the maximum"),
        ({"difficulties": ["simple"]}, "give easy or medium or hard for each"),
        ({"difficulties": []}, "give a list of at least one"),
    ],
)
def test_impossible_questions_are_refused(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        Arithmetic(**SIZES, cache_dir=tmp_path, **changes)


def test_replaced_official_files_give_the_new_questions(tmp_path):
    path = write_official(tmp_path / "mathematics_dataset-v1.0")
    before = rows(official(path, tmp_path / "cache"))
    for file in path.rglob("*.txt"):
        file.write_text(file.read_text().replace("train", "new"))
    after = rows(official(path, tmp_path / "cache"))
    assert prompts(before, "train")[0].startswith("train")
    assert prompts(after, "train")[0].startswith("new")


@pytest.mark.parametrize("operations", [[1, 1000], [1, 21], [1.5, 2], [True, 2], ["a", "b"]])
def test_questions_that_would_take_for_ever_are_refused(tmp_path, operations):
    with pytest.raises(UsageError, match="from 1 to 20") as error:
        Arithmetic(**SIZES, operations=operations, cache_dir=tmp_path)
    assert "\n" not in str(error.value)
    Arithmetic(**SIZES, operations=[1, 20], cache_dir=tmp_path)


def test_official_files_can_be_read_as_they_are(tmp_path, caplog):
    """Every pair after the validation pairs is for training, test questions too, and they are
    counted."""
    folder = tmp_path / "mathematics_dataset-v1.0"
    module = "arithmetic__add_sub_multiple"
    for regime in ("train-easy", "train-medium", "train-hard", "interpolate", "extrapolate"):
        name = f"{module}_longer" if regime == "extrapolate" else module
        questions = [f"{regime} {i}" for i in range(8)]
        if regime == "train-easy":
            questions[:8] = ["same", "same", "same", *questions[3:7], "interpolate 1"]
        (folder / regime).mkdir(parents=True)
        text = "".join(f"{question}\n{i}\n" for i, question in enumerate(questions))
        (folder / regime / f"{name}.txt").write_text(text)
    sizes = {"train_per_difficulty": 6, "validation_per_difficulty": 2, "test_size": 8, "seed": 0}
    options = {**sizes, "path": folder, "cache_dir": tmp_path / "cache"}
    splits = rows(Arithmetic(**options, drop_overlap=False))
    easy = prompts(splits, "train")[:6]
    assert prompts(splits, "validation")[:2] == ["same", "same"]
    assert easy == ["same", *(f"train-easy {i}" for i in range(3, 7)), "interpolate 1"]
    assert len(splits["train"]) == 18
    assert "2 of 18 training questions are test or validation questions" in caplog.text
    clean = rows(Arithmetic(**options))
    assert not {"same", "interpolate 1"} & set(prompts(clean, "train"))
    assert (
        Arithmetic(**options).fingerprint()
        != Arithmetic(**options, drop_overlap=False).fingerprint()
    )
