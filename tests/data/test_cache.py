import errno
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beyond_ce.data import PromptAnswerData, cache
from beyond_ce.data.cache import load_or_write
from beyond_ce.data.example import Example
from beyond_ce.errors import RunError

COLUMNS = PromptAnswerData.columns
EXAMPLES = [Example(f"{i} + 1?", str(i + 1), "sum") for i in range(25)]


def splits():
    yield "test", EXAMPLES[:5]
    yield "train", EXAMPLES[5:]


def untouched():
    raise AssertionError("a cached folder must not be written again")


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.builds(Example, text, text, text), max_size=30), st.integers(1, 7))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_reads_back_what_was_written(tmp_path_factory, monkeypatch, examples, rows_per_batch):
    monkeypatch.setattr(cache, "_ROWS_PER_BATCH", rows_per_batch)
    folder = tmp_path_factory.mktemp("cache") / "data"
    load_or_write(folder, lambda: iter([("train", examples)]), COLUMNS)
    again = load_or_write(folder, untouched, COLUMNS)["train"]
    assert again.column_names == ["prompt", "answer", "task"]
    assert [Example(**row) for row in again] == examples


def test_a_failed_write_leaves_nothing(tmp_path):
    def broken():
        yield "test", EXAMPLES
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_or_write(tmp_path / "data", broken, COLUMNS)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_what_a_killed_process_left_is_written_anew(tmp_path):
    (tmp_path / "data.partial").mkdir()
    (tmp_path / "data.partial" / "train.arrow").write_bytes(b"half")
    assert len(load_or_write(tmp_path / "data", splits, COLUMNS)["train"]) == 20
    assert not (tmp_path / "data.partial").exists()


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "_write_split", full)
    with pytest.raises(RunError, match=r"No space left on device.*another cache_dir") as error:
        load_or_write(tmp_path / "data", splits, COLUMNS)
    assert str(tmp_path / "data") in one_line(error)
    assert not (tmp_path / "data").exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the data") as error:
        load_or_write(tmp_path / "file" / "data", splits, COLUMNS)
    one_line(error)


def _cut_between_batches(file):
    content = file.read_bytes()
    file.write_bytes(content[:-8])  # the end-of-stream mark: such a file still reads


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "train.arrow").write_bytes(b""),
        lambda folder: _cut_between_batches(folder / "train.arrow"),
        lambda folder: (folder / "train.arrow").unlink(),
        lambda folder: (folder / "splits.json").unlink(),
        lambda folder: (folder / "splits.json").write_text('{"train": '),
        lambda folder: (folder / "splits.json").write_text("[]"),
        lambda folder: (folder / "train.arrow").write_bytes(
            b"\xff" * (folder / "train.arrow").stat().st_size
        ),
    ],
)
def test_a_damaged_cache_is_one_line_that_says_what_to_do(tmp_path, damage):
    folder = tmp_path / "data"
    load_or_write(folder, splits, COLUMNS)
    damage(folder)
    with pytest.raises(RunError, match=r"damaged.*delete that folder and run again") as error:
        load_or_write(folder, untouched, COLUMNS)
    assert str(folder) in one_line(error)


def test_of_several_processes_one_writes(tmp_path):
    program = f"""
import time
from pathlib import Path
from beyond_ce.data.cache import load_or_write
from beyond_ce.data.example import Example

def splits():
    print("writes", flush=True)
    time.sleep(0.5)
    yield "train", [Example("1 + 1?", "2")]

print(len(load_or_write(Path({str(tmp_path / "data")!r}), splits, {COLUMNS})["train"]))
"""
    command = [sys.executable, "-c", program]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0].split() for process in processes]
    assert sorted(outputs) == [["1"], ["writes", "1"]]
