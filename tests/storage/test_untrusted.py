"""Nothing that is read from a folder runs code, whatever a config in it says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file

from beyond_ce.checkpoints import read_checkpoint
from beyond_ce.errors import RunError
from beyond_ce.runs.experiment import run
from beyond_ce.runs.store import read_config
from beyond_ce.storage.untrusted import (
    PLUGINS_VARIABLE,
    check_plain,
    is_trusted,
    own_targets,
    read_yaml,
)

ROOT = Path(__file__).resolve().parents[2]


def attacks(marker: Path) -> dict[str, Any]:
    """Nodes that would create `marker` if one of them were resolved or built."""
    touch = f"open({str(marker)!r}, 'w')"
    call = {"_target_": "builtins.exec", "_args_": [touch]}
    node = json.dumps(call).replace('"_target_"', "_target_").replace('"_args_"', "_args_")
    inline = "${oc.create:" + node + "}"
    return {
        "call": call,
        "partial": {**call, "_partial_": True},
        "sympy": {"_target_": "sympy.sympify", "a": f"__import__('builtins').{touch}"},
        "pickle": {"_target_": "joblib.load", "filename": str(marker)},
        "pandas": {"_target_": "pandas.read_pickle", "filepath_or_buffer": str(marker)},
        "shell": {"_target_": "subprocess.call", "args": ["touch", str(marker)]},
        "through a module of ours": {
            "_target_": "beyond_ce.data.files.os.system",
            "command": f"touch {marker}",
        },
        "a function of ours": {"_target_": "beyond_ce.configuration.build", "node": call},
        "a class of ours that writes": {
            "_target_": "beyond_ce.training.records.Records",
            "path": str(marker),
            "step": 0,
            "log": None,
            "enabled": True,
        },
        "no text as a target": {"_target_": [call]},
        "interpolation": inline,
        "interpolation in a list": [{"a": inline}],
        "environment": "${oc.env:HOME}",
        "interpolated target": {"_target_": "${oc.decode:builtins.exec}", "_args_": [touch]},
        "interpolation in a key": {inline: 1},
        "arguments": {"_target_": "beyond_ce.models.heads.LMHead", "_args_": [call]},
    }


NAMES = list(attacks(Path("x")))


def in_one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text and len(text) < 500
    return text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["head", "model"])
def test_a_checkpoint_runs_nothing(name: str, place: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    block = {"_target_": "beyond_ce.models.heads.TransformerBlocks", "_partial_": True}
    config: dict[str, Any] = {
        "vocab_size": 8,
        "pad_id": 0,
        "eos_id": 1,
        "model": {"_target_": "beyond_ce.models.Decoder", "dim": 8, "num_layers": 2},
        "head": {"_target_": "beyond_ce.models.heads.MultiTokenHead", "block": block},
    }
    config[place]["block"] = attacks(marker)[name]
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(RunError, match="nothing was run") as error:
        read_checkpoint(folder)
    assert "config.json" in in_one_line(error.value)
    assert not marker.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_run_folder_runs_nothing(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for key in ("evaluator", "dataset", "trainer"):
        config = {key: {"_target_": "beyond_ce.evaluation.NumberMass", "x": attacks(marker)[name]}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(RunError, match="nothing was run") as error:
            read_config(tmp_path)
        assert key in in_one_line(error.value)
    assert not marker.exists()


def test_scripts_refuse_a_changed_run_in_one_line(
    smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    folder, marker = run(smoke_config("trainer.max_steps=2")), tmp_path / "marker"
    config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert isinstance(config, dict)
    config["optimizer"]["eps"] = {"_target_": "subprocess.call", "args": ["touch", str(marker)]}
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    for script, *arguments in (
        ("evaluate.py", str(folder)),
        ("generate.py", str(folder), "x"),
        ("convert_checkpoint.py", str(folder), str(tmp_path / "out"), "--to", "native"),
    ):
        command = [sys.executable, str(ROOT / "scripts" / script), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1 and "optimizer.eps._target_" in done.stderr
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 2]\nb: *a\n",
        "a: &a [1]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in ("ab", "bc", "cd")),
        "[" * 10_000 + "]" * 10_000,
        "{a: " * 200 + "1" + "}" * 200,
        "a: [" + "1, " * 50_000 + "1]",
        "x: " + "y" * (2**20 + 1),
        "a: !!python/object/apply:os.getcwd []",
        "- 1\n- 2\n",
        "\x00",
        "",
    ],
    ids=["alias", "bomb", "deep", "deep maps", "many", "large", "tag", "list", "nul", "empty"],
)
def test_yaml_that_is_no_config_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(RunError, match="is damaged .*: delete it") as error:
        read_yaml(path, "delete it")
    in_one_line(error.value)


def test_every_run_folder_of_this_repository_is_read(tmp_path: Path) -> None:
    reports = sorted((ROOT / "results" / "reports").glob("*/report.json"))
    assert reports
    for path in reports:
        check_plain(json.loads(path.read_text())["config"], path)


def test_a_plugin_is_trusted_when_its_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = {"loss": {"_target_": "my_losses.Mine"}}
    with pytest.raises(RunError, match=PLUGINS_VARIABLE):
        check_plain(config, tmp_path)
    monkeypatch.setenv(PLUGINS_VARIABLE, "other, my_losses")
    check_plain(config, tmp_path)
    assert not is_trusted("my_losses_too.Mine")
    assert not is_trusted("builtins.exec")


def test_the_closed_set_is_what_conf_names() -> None:
    targets = own_targets()
    assert "beyond_ce.losses.WassersteinLoss" in targets
    assert "beyond_ce.losses.squashed" in targets  # offered in a comment
    assert "beyond_ce.benchmarks.ntl_runtime.TorchCrossEntropy" in targets  # a row's override
    assert "beyond_ce.recipes.Reading" in targets  # a former name
    assert all(target.startswith("beyond_ce.") for target in targets)
