"""Run folders: `<results_dir>/runs/<hash>/` with config.yaml, report.json and DONE."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from beyond_ce.configuration import CONF_DIR
from beyond_ce.errors import RunError, Stopped, UsageError, keeping, one_line
from beyond_ce.runs.claim import claim, remove_remains
from beyond_ce.runs.identity import definition, kept_folder, run_folder, run_hash
from beyond_ce.runs.state import forget, note_failed, note_started
from beyond_ce.storage.digests import check_digest, digest_lines
from beyond_ce.storage.reading import check_numbers, damaged, read_json
from beyond_ce.storage.untrusted import read_yaml
from beyond_ce.storage.writing import write_atomically

RUN_AGAIN = "delete the folder and run again"
_REPEAT = (
    "put the right one back, or delete DONE and start the run again, which repeats only what is "
    "missing"
)
_DIGESTED = ("report.json", "*.ckpt", "evaluation/*")


def is_done(folder: Path) -> bool:
    """Whether the run in `folder` is complete.

    Raises:
        RunError: it says so, but its report is missing, damaged or of another run.
    """
    if not (folder / "DONE").exists():
        return False
    read_report(folder)
    return True


def read_report(folder: Path) -> dict[str, Any]:
    """The run's report.json.

    Raises:
        RunError: it is missing, not valid JSON, the report of another run, or not the file that
            DONE names.
    """
    path = folder / "report.json"
    if not path.exists():
        raise RunError(
            f"{folder} is marked as DONE but has no report.json: delete DONE and start the run "
            "again, which repeats only what is missing"
        )
    report = read_json(path, RUN_AGAIN)
    if not isinstance(report, dict) or not isinstance(report.get("metrics"), dict):
        raise damaged(path, "it has no metrics", RUN_AGAIN)
    check_numbers(report["metrics"], path, RUN_AGAIN)
    if report.get("run") != folder.name:
        raise RunError(
            f"{path} is the report of run {report.get('run')}, not of {folder.name}: put the right "
            "one back, or delete the folder and run again"
        )
    check_file(path)
    return report


def check_file(path: Path, remedy: str = _REPEAT) -> None:
    """Compare a file of a run with its digest in DONE, if the run is finished.

    Args:
        path: in the run's folder or in its folder of evaluations.
        remedy: what to do about another file; the end of the message.

    Raises:
        RunError: it is not the file that the finished run has left.
    """
    folder = path.parent.parent if path.parent.name == "evaluation" else path.parent
    check_digest(path, folder / "DONE", remedy)


def read_config(folder: Path) -> DictConfig:
    """The config that the run in `folder` was started with.

    Raises:
        UsageError: it is not the folder of a run.
        RunError: its config is damaged, or would run code (see `untrusted`).
    """
    path = folder / "config.yaml"
    if not path.exists():
        raise UsageError(f"{folder} is no run folder: give one such as results/runs/<hash>")
    return read_yaml(path, remedy=RUN_AGAIN)


@contextmanager
def open_run(config: DictConfig) -> Iterator[Path]:
    """Create or reopen the config's run folder, for one process at a time.

    Raises:
        UsageError: the folder cannot be written, belongs to another config, or is in use.
    """
    folder = run_folder(config)
    failed = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lease = claim(folder)
    except OSError as error:
        raise UsageError(
            f"cannot write to {folder} ({error.strerror}): set results_dir to a writable folder"
        ) from error
    try:
        _check_config(folder, config)
        note_started(folder)
        with keeping(f"{folder} keeps what was computed: start the same command again to continue"):
            yield folder
    except Stopped:
        raise  # it is interrupted, and has not failed
    except Exception as error:
        failed = f"{type(error).__name__}: {one_line(error)}"
        raise
    finally:
        lease.release()
        remove_remains(folder)
        if failed is not None:
            note_failed(folder, failed)


def _check_config(folder: Path, config: DictConfig) -> None:
    """Compare the folder's config.yaml with `config`; write it if there is none."""
    path = folder / "config.yaml"
    if path.exists():
        same, reason = False, "the folder was edited or moved here"
        try:
            same = definition(read_config(folder)) == definition(config)
        except RunError as error:  # says what it refuses, such as the class of a plugin
            reason = one_line(error)
        except Exception:
            pass
        if not same:
            raise UsageError(
                f"{path} is not the config of this run: {reason}; delete the folder or choose "
                "another results_dir"
            )
    else:
        write_atomically(path, OmegaConf.to_yaml(config, resolve=True))


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write report.json and then DONE, which marks the run as finished.

    DONE has the digests of the report, the checkpoints and the predictions, as `sha256sum` writes
    them.
    """
    write_atomically(folder / "report.json", json.dumps(report, indent=2, sort_keys=True) + "\n")
    forget(folder)
    found = [path for pattern in _DIGESTED for path in sorted(folder.glob(pattern))]
    files = [path for path in found if not path.name.startswith(".")]  # a claim comes and goes
    write_atomically(folder / "DONE", digest_lines(folder, files))


def has_weights(kept: Path) -> bool:
    """Whether a folder among the kept ones (see `runs.kept`) has weights to start from."""
    return weights_file(kept).exists()


def kept_weights(config: DictConfig) -> Path | None:
    """The folder with the weights that git keeps of a run, if it keeps them: below the run's
    results_dir, or in this checkout."""
    checkout = CONF_DIR.parent / "results" / "reports" / run_hash(config)
    return next((kept for kept in (kept_folder(config), checkout) if has_weights(kept)), None)


def weights_file(kept: Path) -> Path:
    """Where the weights of a folder among the kept ones are."""
    return kept / "weights.safetensors"
