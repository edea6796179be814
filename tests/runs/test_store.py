"""Run folders: claimed by one process and one config, written whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from beyond_ce.errors import RunError, UsageError
from beyond_ce.reporting.tables import Job, read_reports
from beyond_ce.runs import provenance as module
from beyond_ce.runs.assembly import load_run
from beyond_ce.runs.experiment import run
from beyond_ce.runs.identity import run_folder
from beyond_ce.runs.provenance import provenance
from beyond_ce.runs.store import (
    check_file,
    is_done,
    open_run,
    read_config,
    read_report,
    write_atomically,
    write_report,
)
from beyond_ce.storage.untrusted import PLUGINS_VARIABLE

Compose = Callable[..., DictConfig]


def test_a_run_is_done_once_its_report_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "abc"
    assert not is_done(folder)
    write_report(folder, {"run": "abc", "metrics": {"loss": 0.5}})
    assert is_done(folder)
    assert read_report(folder) == {"run": "abc", "metrics": {"loss": 0.5}}


DAMAGED_REPORTS = [
    (None, r"abc is marked as DONE but has no report\.json: delete DONE"),
    ('{"run": "abd", "metrics": {}}', r"report\.json is the report of run abd, not of abc"),
    ('{"metrics": {}}', r"report\.json is the report of run None, not of abc"),
    ("{}", r"report\.json is damaged \(it has no metrics\)"),
    ("[]", r"report\.json is damaged \(it has no metrics\)"),
    ('{"run": ', r"report\.json is damaged"),
    ("", r"report\.json is damaged"),
]


@pytest.mark.parametrize(("text", "message"), DAMAGED_REPORTS)
def test_what_says_it_is_done_must_have_its_report(
    tmp_path: Path, text: str | None, message: str
) -> None:
    folder = tmp_path / "abc"
    folder.mkdir()
    (folder / "DONE").touch()
    if text is not None:
        (folder / "report.json").write_text(text)
    job = Job("row", 0, ())
    for read in (is_done, read_report, lambda folder: read_reports([job], lambda job: folder)):
        with pytest.raises(RunError, match=message) as error:
            read(folder)
        assert "\n" not in str(error.value)


def test_a_changed_report_is_noticed(tmp_path: Path) -> None:
    """Another number in it, or the whole report of a run of the same name."""
    folder = tmp_path / "abc"
    write_report(folder, {"run": "abc", "metrics": {"loss": 0.5}})
    report = folder / "report.json"
    text = report.read_text()
    for other in (text.replace("0.5", "0.4"), text.replace("\n", " ")):
        report.write_text(other)
        for read in (is_done, read_report):
            with pytest.raises(
                RunError, match=r"report\.json was damaged or changed.*DONE"
            ) as error:
                read(folder)
            assert "\n" not in str(error.value)
    report.write_text(text)
    assert is_done(folder)
    report.write_text(text.replace("0.5", "0.4"))
    for done in (folder / "DONE").write_text, (folder / "DONE").unlink:
        done(*([""] if done.__name__ == "write_text" else []))
        assert read_report(folder)["metrics"] == {"loss": 0.4}  # as committed and older ones


def test_done_can_be_checked_by_others(tmp_path: Path) -> None:
    folder = tmp_path / "abc"
    (folder / "evaluation").mkdir(parents=True)
    names = ["evaluation/test.json", "last.ckpt"]
    for name in names:
        (folder / name).write_text(name)
    write_report(folder, {"run": "abc", "metrics": {}})
    check = ["sha256sum", "--check", "--strict", "DONE"]
    done = subprocess.run(check, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"{n}: OK" for n in sorted([*names, "report.json"])]


def test_a_changed_evaluation_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    path = tmp_path / "evaluation" / "test.json"
    path.write_text("{}")
    (tmp_path / "evaluation" / ".claim").touch()  # of a process that scores it anew
    write_report(tmp_path, {"run": tmp_path.name, "metrics": {}})
    assert ".claim" not in (tmp_path / "DONE").read_text()
    check_file(path)
    path.write_text('{"a": 1}')
    with pytest.raises(RunError, match=r"test\.json was damaged or changed: it is not the file"):
        check_file(path)


def test_other_weights_in_a_finished_run_are_noticed(smoke_config: Compose) -> None:
    """Such as those of another seed, or changed and saved again, with right checksums."""
    folder = run(smoke_config("trainer.max_steps=2"))
    path = folder / "last.ckpt"
    load_run(folder, "last")
    content = torch.load(path, weights_only=True)
    next(value for value in content["module"].values() if value.ndim == 2)[0, 0] += 1
    torch.save(content, path)
    with pytest.raises(RunError, match=r"last\.ckpt was damaged or changed"):
        load_run(folder, "last")
    load_run(folder, "best")


def test_a_run_without_its_report_is_not_skipped(smoke_config: Compose) -> None:
    config = smoke_config("trainer.max_steps=2")
    folder = run(config)
    report = read_report(folder)
    (folder / "report.json").unlink()
    with pytest.raises(RunError, match="delete DONE and start the run again"):
        run(config)
    (folder / "DONE").unlink()
    assert read_report(run(config))["metrics"] == report["metrics"]


def test_a_report_that_cannot_be_written_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(RunError, match=r"cannot write .*report\.json"):
        write_report(tmp_path, {})
    assert not is_done(tmp_path)


def test_a_damaged_report_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"run": ')
    with pytest.raises(RunError, match=r"report\.json is damaged.*run again"):
        read_report(tmp_path)


def test_a_run_is_reopened_with_its_config(smoke_config: Compose) -> None:
    config = smoke_config()
    for _ in range(2):
        with open_run(config) as folder:
            assert folder == run_folder(config)
    assert read_config(folder) == OmegaConf.create(OmegaConf.to_container(config, resolve=True))


def test_what_does_not_define_the_run_may_change(smoke_config: Compose, tmp_path: Path) -> None:
    with open_run(smoke_config()) as folder:
        pass
    with open_run(smoke_config("trainer.devices=2", f"cache_dir={tmp_path}")) as again:
        assert again == folder


def test_a_run_is_one_processs_at_a_time(smoke_config: Compose) -> None:
    with (
        open_run(smoke_config()),
        pytest.raises(UsageError, match="another process is running"),
        open_run(smoke_config()),
    ):
        pass
    with open_run(smoke_config()):
        pass


@pytest.mark.parametrize("text", ["seed: 7\n", "{", ""])
def test_another_config_is_refused_and_kept(smoke_config: Compose, text: str) -> None:
    with open_run(smoke_config()) as folder:
        pass
    (folder / "config.yaml").write_text(text)
    with (
        pytest.raises(UsageError, match="is not the config of this run"),
        open_run(smoke_config()),
    ):
        pass
    assert (folder / "config.yaml").read_text() == text


def test_a_run_with_a_plugin_is_reopened_where_the_plugin_is_trusted(
    smoke_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = smoke_config("logger._target_=elsewhere.Logger")
    with open_run(config):
        pass
    with pytest.raises(UsageError, match=PLUGINS_VARIABLE), open_run(config):
        pass
    monkeypatch.setenv(PLUGINS_VARIABLE, "elsewhere")
    with open_run(config):
        pass


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    yield folder
    folder.chmod(0o755)


def test_an_unwritable_place_is_the_users_to_change(smoke_config: Compose, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = smoke_config(f"results_dir={tmp_path / 'file'}")
    with pytest.raises(UsageError, match="set results_dir to a writable folder"), open_run(config):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_the_users_to_change(smoke_config: Compose, read_only: Path) -> None:
    config = smoke_config(f"results_dir={read_only}")
    with pytest.raises(UsageError, match="set results_dir to a writable folder"), open_run(config):
        pass


def test_reading_a_config_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no run folder"):
        read_config(tmp_path)
    (tmp_path / "config.yaml").write_text("{")
    with pytest.raises(RunError, match=r"config\.yaml is damaged"):
        read_config(tmp_path)


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, "old")

    def full(self: Path, text: str, encoding: str) -> None:
        self.write_bytes(text.encode()[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunError, match="No space left on device; free some space"):
        write_atomically(path, "new text")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def fresh_provenance() -> Iterator[None]:
    provenance.cache_clear()
    yield
    provenance.cache_clear()


@pytest.mark.usefixtures("fresh_provenance")
@pytest.mark.parametrize(("status", "dirty"), [("", False), (" M src/beyond_ce/x.py", True)])
def test_provenance_says_what_made_a_number(
    monkeypatch: pytest.MonkeyPatch, status: str, dirty: bool
) -> None:
    outputs = {"rev-parse": "0" * 40, "status": status}
    monkeypatch.setattr(module, "_git", lambda *arguments: outputs[arguments[0]])
    found = provenance()
    assert found["commit"] == "0" * 40 and found["dirty"] is dirty
    assert found["versions"]["torch"] == torch.__version__
    assert {"python", "transformers", "datasets"} <= set(found["versions"])
    assert found["hardware"]["cpu"] and found["hardware"]["cores"] >= 1
    json.dumps(found)


@pytest.mark.usefixtures("fresh_provenance")
def test_outside_a_git_checkout_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_git", lambda *_: None)
    found = provenance()
    assert found["commit"] is None and found["dirty"] is None


def test_git_failing_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module._git("no-such-command") is None
    monkeypatch.setenv("PATH", "")
    assert module._git("rev-parse", "HEAD") is None


def test_results_do_not_make_a_checkout_dirty_and_code_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, result = tmp_path / "src/package/provenance.py", tmp_path / "results/table.csv"
    for path in (code, result):
        path.parent.mkdir(parents=True)
        path.write_text("old", encoding="utf-8")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    monkeypatch.setattr(module, "__file__", str(code))
    for path, dirty in ((result, False), (code, True)):
        path.write_text("new", encoding="utf-8")
        module.provenance.cache_clear()
        assert module.provenance()["dirty"] is dirty
    module.provenance.cache_clear()
