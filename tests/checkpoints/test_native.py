from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor

from beyond_ce.checkpoints import Checkpoint, load_decoder, write_checkpoint
from beyond_ce.configuration import CONF_DIR, build
from beyond_ce.errors import RunError, UsageError

SMALL = ["+model=decoder_tiny", "model.max_length=64"]


def make(*overrides: str) -> Checkpoint:
    """A model of the real configs, with random weights."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose(overrides=[*SMALL, *overrides])
    torch.manual_seed(0)
    sizes = {"vocab_size": 52, "pad_id": 0, "eos_id": 1}
    model = build(config.model, "model", head=build(config.head, "head"), **sizes)
    parts: Any = OmegaConf.to_container(config, resolve=True)
    return Checkpoint({**sizes, **parts}, model)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_checkpoint(make("+head=multi_token", "head.n=2"), tmp_path / "native", "native")
    return tmp_path / "native"


@pytest.mark.parametrize(
    "overrides",
    [
        ["+head=lm"],
        ["+head=multi_token", "head.n=3", "head.extra_layers=2"],
        ["+head=multi_token", "head.loss_weights=[1,0.5,0.5,0.1]"],
        ["+head=multi_token_causal"],
        ["+head=multi_token_anticausal", "head/unembedding=replicated"],
        ["+head=multi_token_recurrent", "head.decay=0.5"],
        ["+head=multi_token", "head/block=linear"],
    ],
)
def test_any_head_comes_back_bit_by_bit(
    overrides: list[str], tokens: Tensor, tmp_path: Path
) -> None:
    checkpoint = make(*overrides)
    write_checkpoint(checkpoint, tmp_path / "native", "native")
    model = load_decoder(tmp_path / "native")
    assert type(model.head) is type(checkpoint.model.head)
    assert model.head.loss_weights == checkpoint.model.head.loss_weights
    assert (model.pad_id, model.eos_id) == (0, 1)
    with torch.no_grad():
        assert torch.equal(model.logits(tokens), checkpoint.model.logits(tokens))


@pytest.mark.parametrize(
    "overrides",
    [
        ["+head=multi_token_causal"],
        ["+head=multi_token", "head/unembedding=replicated"],
        ["+head=multi_token", "head/block=linear"],
    ],
)
def test_heads_without_a_place_in_the_llama_layout(overrides: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the Llama layout has an lm head, or parallel heads"):
        write_checkpoint(make(*overrides), tmp_path / "llama", "llama")
    assert not list(tmp_path.iterdir())
    write_checkpoint(make(*overrides), tmp_path / "hf", "hf")
    assert load_decoder(tmp_path / "hf").head.n == 1


def test_a_folder_is_never_overwritten(folder: Path) -> None:
    with pytest.raises(UsageError, match="native exists already"):
        write_checkpoint(make("+head=lm"), folder, "llama")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("beyond_ce.checkpoints.files.save_file", fail)
    with pytest.raises(RunError, match="cannot write .*No space left"):
        write_checkpoint(make("+head=lm"), tmp_path / "native", "native")
    assert not list(tmp_path.iterdir())


def test_damage_is_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "head.blocks.1.attention.wq.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, path)
    with pytest.raises(RunError, match=rf"{name} is missing, expected with shape \[64, 64\]"):
        load_decoder(folder)
    save_file({**tensors, "more": torch.ones(2)}, path)
    with pytest.raises(RunError, match=r"more of shape \[2\] is not in the model"):
        load_decoder(folder)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"model.safetensors is truncated"):
        load_decoder(folder)
    path.unlink()
    with pytest.raises(RunError, match=r"model.safetensors is missing"):
        load_decoder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": None}, "config.json has no vocab_size"),
        ({"model": None}, "config.json has no model"),
        ({"model": {"_target_": "beyond_ce.models.Decoder", "nope": 1}}, "does not describe"),
        ({"model": {"_target_": "os.getcwd"}}, "model._target_='os.getcwd' is no class"),
        ({"model": {"_target_": "beyond_ce.models.T5"}}, "models.T5' is no class"),
        ({"model": {"_target_": "beyond_ce.models.decoder.torch.load"}}, "is no class that conf/"),
        ({"head": {"_target_": "beyond_ce.models.heads.LMHead", "x": [{"_target_": "os.abort"}]}},
         "head.x.0._target_='os.abort' is no class"),
    ],
)  # fmt: skip
def test_a_config_chooses_decoders_and_heads_only(folder: Path, change: dict, message: str) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    with pytest.raises(RunError, match=message) as found:
        load_decoder(folder)
    assert "\n" not in str(found.value)
