"""Places that may only be read: shared caches, other people's runs, results of a system."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from omegaconf import DictConfig
from permissions import read_only

from beyond_ce.configuration import CONF_DIR
from beyond_ce.errors import UsageError
from beyond_ce.reproduction.write import write_claims
from beyond_ce.runs.experiment import run
from beyond_ce.storage.writing import check_writable
from beyond_ce.tokenizers import DigitTokenizer

Call = Callable[..., CompletedProcess[str]]
Config = Callable[..., DictConfig]


def in_one_line(done: CompletedProcess[str]) -> str:
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_the_helper_takes_the_right_to_write(tmp_path: Path) -> None:
    with read_only(tmp_path), pytest.raises(PermissionError):
        (tmp_path / "file").touch()
    (tmp_path / "file").touch()
    with read_only(tmp_path), pytest.raises(UsageError, match=r"cannot write .*: choose|; choose"):
        check_writable(tmp_path / "new", "choose another")
    check_writable(tmp_path / "new", "choose another")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_shared_tokenizer_is_read(tmp_path: Path) -> None:
    def texts() -> Iterator[str]:
        yield from (f"{i} + {i}" for i in range(200))

    trained = DigitTokenizer(vocab_size=300).fit(texts(), tmp_path, "key")
    for lock in tmp_path.rglob("*.lock"):
        lock.unlink()
    with read_only(tmp_path):
        again = DigitTokenizer(vocab_size=300).fit([], tmp_path, "key")
    assert again.fingerprint() == trained.fingerprint()


@pytest.mark.parametrize("tokenizer", ["digit", "subword"])
def test_a_warm_cache_need_not_be_written(
    smoke_config: Config, tmp_path: Path, tokenizer: str
) -> None:
    settings = ("trainer.max_steps=2", f"cache_dir={tmp_path / 'shared'}", f"tokenizer={tokenizer}")
    run(smoke_config(*settings))
    for lock in (tmp_path / "shared").rglob("*.lock"):
        lock.unlink()
    with read_only(tmp_path / "shared"):
        assert (run(smoke_config(*settings, "seed=1")) / "DONE").exists()


@pytest.fixture
def folder(smoke_config: Config) -> Path:
    return run(smoke_config("trainer.max_steps=2"))


def test_anothers_run_is_read(folder: Path, smoke_config: Config, call: Call) -> None:
    with read_only(folder.parent):
        assert run(smoke_config("trainer.max_steps=2")) == folder
        done = call("generate.py", folder, "1 + 1", "--max-new-tokens", 2)
        assert done.returncode == 0, done.stderr
        line = in_one_line(call("evaluate.py", folder))
    assert f"cannot write {folder / 'evaluation'}" in line and "copy the run's folder" in line


def test_results_that_cannot_be_written_are_one_line(tmp_path: Path, call: Call) -> None:
    results = tmp_path / "results"
    table = results / "tables" / "cpu" / "mtp-orders.csv"  # something to judge
    table.parent.mkdir(parents=True)
    table.touch()
    (results / "reports").symlink_to(CONF_DIR.parent / "results" / "reports")
    before = sorted(results.iterdir())
    with read_only(results):
        for arguments in (("ntl-2", "--scale", "smoke"), ("mtp-s13", "--scale", "smoke")):
            done = call("reproduce_table.py", *arguments, f"results_dir={results}")
            assert "set results_dir" in in_one_line(done)
        assert "choose a writable folder" in in_one_line(
            call("make_claims.py", "--results", results)
        )
        with pytest.raises(UsageError, match=r"cannot write .*claims\.md"):
            write_claims(results)
    assert sorted(results.iterdir()) == before
