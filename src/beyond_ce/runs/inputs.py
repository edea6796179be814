"""What a run reads, by content: its data, and the files or hub names among its settings.

A run is named by its settings (`identity`), and these only name what it reads. So its folder and
its report also hold a digest of each input. They are compared before the run goes on, before it is
skipped as finished, before it is scored again, and before a table averages it with others.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from beyond_ce.configuration import build
from beyond_ce.data.base import DataSet
from beyond_ce.errors import RunError, UsageError
from beyond_ce.runs.claim import remove_remains
from beyond_ce.runs.identity import definition, rules_of, run_folder
from beyond_ce.runs.store import is_done, read_report
from beyond_ce.settings import is_read
from beyond_ce.storage.content import bytes_digest
from beyond_ce.storage.hub import hub_revision
from beyond_ce.storage.reading import read_json
from beyond_ce.storage.writing import write_atomically

log = logging.getLogger(__name__)

Inputs = dict[str, dict[str, str]]
"""By the key of the config: `source`, which tells people what was read, and `digest`."""

Memo = dict[str, Inputs]
"""Inputs that were read already, for runs that share them."""

_DATA = "dataset"
_FILE = "inputs.json"
# What models and tokenizers read in a folder; other files, such as notes and logs, may change.
_SUFFIXES = (".safetensors", ".bin", ".pth", ".json", ".model", ".txt")
_OTHERWISE = "set another results_dir, or delete that folder to start anew"
_SHOWN = 12  # hex digits of a digest


def current_inputs(config: DictConfig, memo: Memo | None = None) -> Inputs:
    """What a run of this config would read now.

    What is on the hub counts by its commit, and is left out while that is not known: without a
    network and with nothing in the hub's local cache. Measurements make their own data.

    Raises:
        UsageError: something is missing, such as the folder of the data.
        RunError: it cannot be read.
    """
    memo = {} if memo is None else memo
    plain: Any = OmegaConf.to_container(config, resolve=True)
    found: Inputs = {}
    if "measure" not in config:
        key = json.dumps(plain[_DATA], sort_keys=True)
        if key not in memo:
            memo[key] = current_data(config)
        found |= memo[key]
        for setting, node in _own_data(plain["evaluator"], "evaluator"):
            key = f"{setting}={json.dumps(node, sort_keys=True)}"
            if key not in memo:
                memo[key] = _read_data(OmegaConf.create(node), setting)
            found |= memo[key]
    if "baseline" not in config:
        if plain.pop("start", None) is not None:
            key = json.dumps(definition(config)["start"], sort_keys=True)
            if key not in memo:
                memo[key] = _starting_weights(config)
            found |= memo[key]
        for setting, name in _sources(plain, ""):
            key = f"{setting}={name}"
            if key not in memo:
                memo[key] = named_input(setting, name, Path(config.cache_dir))
            found |= memo[key]
    return found


def current_data(config: DictConfig) -> Inputs:
    """The data among `current_inputs`."""
    return _read_data(config.dataset, _DATA)


def _read_data(node: DictConfig, key: str) -> Inputs:
    data: DataSet = build(node, key)
    source = f"{key} {data.name}"
    if node.get("path") is not None:
        source += f" in {node.path}"
    elif data.hub_name is not None:
        revision = hub_revision(data.hub_name, "dataset")
        if revision is None:
            return {}
        source += f" from the hub, {data.hub_name} at {revision[:_SHOWN]}"
    return {key: {"source": source, "digest": data.fingerprint()}}


def _own_data(node: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and settings of the data sets that an evaluator, or one of its parts, has of its own."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "data" and isinstance(value, dict):
                yield f"{name}.data", value
            else:
                yield from _own_data(value, f"{name}.{key}")


def _starting_weights(config: DictConfig) -> Inputs:
    """The weights of the run that the config starts from."""
    from beyond_ce.runs.source import weights_digest  # slow to import, and seldom needed

    digest = weights_digest(config)
    name = f"start, run {run_folder(config.start.source).name}"
    return {} if digest is None else {"start": {"source": name, "digest": digest}}


def _sources(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Key and value of every setting that `SOURCE` describes; those of data sets are `TEXT`."""
    if not isinstance(node, dict):
        return
    rules = rules_of(node["_target_"]) if isinstance(node.get("_target_"), str) else {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        yield from _sources(value, f"{name}.")
        if value is not None and key in rules and is_read(rules[key]):
            yield name, str(value)


def named_input(key: str, name: str, cache_dir: Path) -> Inputs:
    """The input that a setting names: a file, a folder, a run, or what is on the hub."""
    from beyond_ce.runs.loading import find_tokenizer  # slow to import, and seldom needed
    from beyond_ce.runs.source import run_digest

    path = Path(name).expanduser()
    if not path.exists():
        revision = hub_revision(name, "model")
        return {} if revision is None else {key: {"source": f"{key}={name}", "digest": revision}}
    if key.startswith("tokenizer.") and path.is_dir():
        path = find_tokenizer(path)
    elif (path / "config.yaml").is_file():
        return {key: {"source": f"{key}={name}", "digest": run_digest(path, cache_dir)}}
    files = [path]
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.suffix in _SUFFIXES and f.is_file())
    return {key: {"source": f"{key}={name}", "digest": bytes_digest(files, cache_dir)}}


def record_inputs(config: DictConfig, folder: Path) -> Inputs:
    """Compare what the run in `folder` read so far with what there is; keep it in the folder.

    Returns:
        For its report.

    Raises:
        UsageError: it was trained on something else, or there is nothing to read.
        RunError: the file that says so is damaged, or cannot be written.
    """
    now = current_inputs(config)
    path = folder / _FILE
    if (folder / "last.ckpt").exists() and path.exists():  # before that, there is nothing to spoil
        known = _read(path)
        compare(known, now, f"{folder} was started", _OTHERWISE)
        now |= known
    write_atomically(path, json.dumps(now, indent=2, sort_keys=True) + "\n")
    return now


def check_prepared(inputs: Inputs, fingerprint: str) -> None:
    """Raises RunError if the data that were prepared are not those that were recorded before."""
    if _DATA in inputs and inputs[_DATA]["digest"] != fingerprint:
        raise RunError("the data changed while they were read: start the same command again")


def recorded_inputs(folder: Path) -> Inputs:
    """What the run in `folder` read; empty for runs from before this was recorded.

    Raises:
        RunError: the report or file that says so is damaged.
    """
    if (folder / "report.json").exists():
        return report_inputs(read_report(folder))
    return _read(folder / _FILE) if (folder / _FILE).exists() else {}


def report_inputs(report: Mapping[str, Any]) -> Inputs:
    """`inputs` of a report.

    Raises:
        RunError: they are damaged.
    """
    return _checked(report.get("inputs", {}), f"the report of run {report.get('run')}")


def _read(path: Path) -> Inputs:
    return _checked(read_json(path, "delete the folder and run again"), str(path))


def _checked(values: Any, where: str) -> Inputs:
    entries = values.values() if isinstance(values, dict) else [None]
    for entry in entries:
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(key), str) for key in ("source", "digest")
        ):
            raise RunError(f"{where} has damaged inputs: delete its folder and run again")
    return values


def compare(had: Inputs, now: Inputs, what: str, otherwise: str) -> None:
    """Raises UsageError if an input that is in both has another digest.

    Args:
        what: the start of the message, which "with ..." continues.
        otherwise: what to do if not to put the former input back.
    """
    for key in had:
        if key in now and had[key]["digest"] != now[key]["digest"]:
            raise UsageError(
                f"{what} with {_shown(had[key])}, and now there is {_shown(now[key])}: put the "
                f"former back, {otherwise}"
            )


def _shown(entry: dict[str, str]) -> str:
    return f"{' '.join(entry['source'].split())} (content {entry['digest'][:_SHOWN]})"


def is_finished(config: DictConfig, memo: Memo | None = None) -> bool:
    """Whether the config's run is complete, from the inputs that there are now.

    If they cannot be read any more, a warning says that they are not compared.

    Raises:
        UsageError: it read something else than what there is now.
        RunError: its report is damaged, or of another run.
    """
    folder = run_folder(config)
    if not is_done(folder):
        return False
    remove_remains(folder)
    if known := recorded_inputs(folder):
        try:
            now = current_inputs(config, memo)
        except (UsageError, RunError) as error:
            _warn(f"finished runs are not compared with what they read: {error}")
            now = {}
        compare(known, now, f"{folder} was run", _OTHERWISE)
    return True


@cache
def _warn(message: str) -> None:
    """Once for all runs of a table."""
    log.warning(message)


def check_same_inputs(runs: Iterable[tuple[str, DictConfig, Mapping[str, Any]]]) -> None:
    """Refuse reports that stand in one table but read different things under the same settings.

    Args:
        runs: label, config and report of each. A setting that differs, such as a seed of the data,
            may give other data.

    Raises:
        UsageError: two of them differ; the line names both.
    """
    first: dict[Hashable, tuple[str, dict[str, str]]] = {}
    for label, config, report in runs:
        inputs = report_inputs(report)
        if not inputs and isinstance(report.get("data"), str):  # from before there were `inputs`
            inputs = {_DATA: {"source": "data", "digest": report["data"]}}
        settings = definition(config) if inputs else {}
        for key, entry in inputs.items():
            setting: Any = settings
            for part in key.split("."):
                setting = setting.get(part, {})
            group = key, json.dumps(setting, sort_keys=True)
            other, theirs = first.setdefault(group, (label, entry))
            if theirs["digest"] != entry["digest"]:
                raise UsageError(
                    f"{label} read {_shown(entry)}, and {other} {_shown(theirs)}: delete the "
                    "folder of one and run it again, or set another results_dir to run all"
                )
