"""No code that comes with a model, a tokenizer or a data set is ever run."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beyond_ce.errors import UsageError
from beyond_ce.models import T5, CausalLM
from beyond_ce.models.heads import LMHead
from beyond_ce.tokenizers import PretrainedTokenizer

ROOT = Path(__file__).resolve().parents[1]
# Functions of transformers that can run such code; without the argument they ask on a terminal.
# `datasets.load_dataset` can no longer do it.
LOADERS = {"from_pretrained", "from_config", "pipeline"}


def calls() -> Iterator[tuple[str, ast.Call]]:
    for folder in ("src", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def argument(call: ast.Call) -> str | None:
    values = [k.value for k in call.keywords if k.arg == "trust_remote_code"]
    return ast.unparse(values[0]) if values else None


def test_every_loader_is_told_to_run_no_code() -> None:
    found = []
    for place, call in calls():
        function = call.func
        name = function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
        if name in LOADERS:
            found.append(place)
            assert argument(call) == "False", f"{place}: {ast.unparse(call)}"
        assert argument(call) in (None, "False"), place
    assert len(found) >= 8


@pytest.fixture
def booby_trap(tmp_path: Path) -> Path:
    """A model's folder whose Python file leaves a marker when it is imported."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "code.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w').close()\n")
    names = ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")
    own = {"auto_map": {name: f"code.{name.removeprefix('Auto')}" for name in names}}
    (folder / "config.json").write_text(json.dumps({"model_type": "trap", **own}))
    tokenizer = {"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": ["code.T", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


SIZES = {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_heads": 2, "num_layers": 1, "dropout": 0.0}


@pytest.mark.parametrize(
    "load",
    [
        lambda folder: CausalLM(30, 0, 1, LMHead, {"model_type": "gpt2"}, pretrained=folder),
        lambda folder: T5(30, 0, 1, LMHead, **SIZES, pretrained=folder),
        lambda folder: PretrainedTokenizer(folder).fit([], Path(folder), "key"),
    ],
    ids=["CausalLM", "T5", "PretrainedTokenizer"],
)
def test_code_in_a_models_folder_is_not_run(
    load: Callable[[str], object], booby_trap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where transformers asks, the answer would be yes.
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(UsageError):
        load(str(booby_trap))
    assert not (booby_trap.parent / "marker").exists()
