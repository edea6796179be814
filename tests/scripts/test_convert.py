"""scripts/convert_checkpoint.py: from a trained run and between layouts."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from transformers import LlamaForCausalLM

from beyond_ce.errors import RunError, UsageError
from beyond_ce.models import load_decoder, load_llama_checkpoint
from beyond_ce.runs.assembly import load_run
from beyond_ce.runs.conversion import convert
from beyond_ce.runs.experiment import run

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "convert_checkpoint.py"
TOKENS = torch.arange(2, 20)[None]


def convert_script(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture
def trained(smoke_config: Callable[..., DictConfig]) -> Path:
    return run(
        smoke_config("model=decoder_tiny", "head=multi_token", "head.n=2", "trainer.max_steps=2")
    )


@torch.no_grad()
def test_a_run_becomes_any_layout(trained: Path, tmp_path: Path) -> None:
    model, tokenizer, _ = load_run(trained, "last")
    done = convert_script(trained, tmp_path / "llama", "--to", "llama", "--dtype", "float64")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "llama" / "tokenizer").is_dir()
    count = sum(parameter.numel() for parameter in model.parameters())
    lines = done.stdout.splitlines()
    assert lines[0] == f"reading {trained}"
    assert lines[-1] == f"written: {count:,} parameters, 2 head(s)"
    llama = load_llama_checkpoint(tmp_path / "llama", max_length=512)
    assert llama.embedding.weight.dtype == torch.float64
    expected = model.double().logits(TOKENS)
    torch.testing.assert_close(llama.logits(TOKENS), expected, rtol=1e-6, atol=1e-6)

    convert(trained, tmp_path / "native", "native", checkpoint="best")
    best, _, _ = load_run(trained, "best")
    native = load_decoder(tmp_path / "native")
    assert torch.equal(native.logits(TOKENS), best.logits(TOKENS))
    config = json.loads((tmp_path / "native" / "config.json").read_text())
    assert config["vocab_size"] == tokenizer.vocab_size and config["head"]["n"] == 2

    convert(tmp_path / "native", tmp_path / "hf", "hf", tell=lambda line: None)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "hf")
    expected = native.logits(TOKENS)[:, :, 0]
    torch.testing.assert_close(theirs(TOKENS).logits, expected, rtol=1e-5, atol=1e-5)


def test_a_run_starts_from_a_checkpoint(
    trained: Path, smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    convert(trained, tmp_path / "hf", "hf", tell=lambda line: None)
    # Of its 4 layers, 3 are left without head 2's.
    choices = ["model=decoder_tiny", "head=multi_token", "head.n=4", "head.extra_layers=3"]
    start = ["model.num_layers=3", f"+model.pretrained={tmp_path / 'hf'}"]
    folder = run(smoke_config(*choices, *start, "trainer.max_steps=1", "optimizer.lr=1e-30"))
    before, after = load_decoder(tmp_path / "hf"), load_run(folder, "last")[0]
    with torch.no_grad():
        assert torch.equal(after.logits(TOKENS)[:, :, 0], before.logits(TOKENS)[:, :, 0])
    convert(folder, tmp_path / "native", "native", tell=lambda line: None)
    config = json.loads((tmp_path / "native" / "config.json").read_text())
    assert "pretrained" not in config["model"] and load_decoder(tmp_path / "native").head.n == 4


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no checkpoint: give a folder with params.json"):
        convert(tmp_path, tmp_path / "target", "hf")


def test_runs_of_other_models_are_refused(
    smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    other = run(smoke_config("trainer.max_steps=2"))
    with pytest.raises(UsageError, match="has trained a T5: only decoders can be converted"):
        convert(other, tmp_path / "target", "hf")
    with pytest.raises(
        UsageError, match="has lost its best checkpoint: delete the folder and run again"
    ):
        (other / "best.ckpt").unlink()
        convert(other, tmp_path / "target", "hf", checkpoint="best")
    (other / "last.ckpt").write_bytes(b"PK")
    with pytest.raises(RunError, match="cannot load checkpoint"):
        convert(other, tmp_path / "target", "hf")


def test_a_full_disk_leaves_no_checkpoint_without_its_tokenizer(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(RunError, match="cannot copy the tokenizer to .*No space left"):
        convert(trained, tmp_path / "new", "native")
    assert not (tmp_path / "new").exists()
