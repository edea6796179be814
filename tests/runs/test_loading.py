"""Models and tokenizers from folders of all kinds."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import sentencepiece
import torch
from omegaconf import DictConfig
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from beyond_ce.checkpoints import Checkpoint, write_checkpoint
from beyond_ce.checkpoints.checkpoint import llama_config
from beyond_ce.errors import RunError, UsageError
from beyond_ce.generation import generate
from beyond_ce.models import Decoder
from beyond_ce.models.heads import LMHead
from beyond_ce.runs.assembly import load_run
from beyond_ce.runs.conversion import convert
from beyond_ce.runs.experiment import run
from beyond_ce.runs.loading import Loaded, load
from beyond_ce.tokenizers import BPETokenizer, ByteTokenizer, PretrainedTokenizer

BOS, EOS = 1, 2
TEXT = "def main(args):"


@pytest.fixture(scope="module")
def tokenizer_model() -> bytes:
    """A SentencePiece file laid out as Llama 2's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT, "    return 0"] * 20), model_writer=model,
        model_type="bpe", vocab_size=290, byte_fallback=True, unk_id=0, bos_id=BOS, eos_id=EOS,
        pad_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A random model in Llama's layout, without a tokenizer."""
    settings = {"dim": 16, "num_layers": 1, "num_heads": 2, "max_length": 32, "multiple_of": 8}
    torch.manual_seed(0)
    model = Decoder(300, 0, EOS, partial(LMHead), **settings)
    config = llama_config(300, 0, EOS, n=1, **settings)
    write_checkpoint(Checkpoint(config, model), tmp_path / "checkpoint", "llama")
    return tmp_path / "checkpoint"


def tokens(loaded: Loaded) -> list[list[int]]:
    return generate(loaded.model, loaded.encode([TEXT]), 5).tokens


def test_a_llama_with_its_tokenizer(checkpoint: Path, tokenizer_model: bytes) -> None:
    file = checkpoint.parent / "elsewhere.model"
    file.write_bytes(tokenizer_model)
    elsewhere = load(checkpoint, tokenizer=file)
    (checkpoint / "tokenizer.model").write_bytes(tokenizer_model)
    beside = load(checkpoint)
    for loaded in (elsewhere, beside):
        assert isinstance(loaded.tokenizer, BPETokenizer)
        assert loaded.tokenizer.eos_id == EOS
        (prompt,) = loaded.encode([TEXT])
        assert prompt[0] == BOS and loaded.tokenizer.decode(prompt[1:]) == TEXT
    assert tokens(elsewhere) == tokens(beside)


def test_a_tokenizer_beside_the_folders_of_a_release(
    checkpoint: Path, tokenizer_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoint / "consolidated.00.pth").rename(checkpoint / "consolidated.pth")
    (checkpoint.parent / "tokenizer.model").write_bytes(tokenizer_model)
    loaded = load(checkpoint)
    assert loaded.encode([TEXT])[0][0] == BOS
    named = BPETokenizer(model=str(checkpoint)).fit([], tmp_path, "")  # tokenizer.model=<folder>
    assert named.vocab_size == loaded.tokenizer.vocab_size
    convert(checkpoint, tmp_path / "new" / "native", "native", tell=lambda line: None)
    assert tokens(load(tmp_path / "new" / "native")) == tokens(loaded)
    monkeypatch.chdir(checkpoint)
    assert tokens(load(Path())) == tokens(loaded)


def test_a_checkpoint_names_more_tokens_that_end_a_text(
    checkpoint: Path, tokenizer_model: bytes
) -> None:
    (checkpoint / "tokenizer.model").write_bytes(tokenizer_model)
    assert load(checkpoint).end_ids == [EOS]
    path = checkpoint / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": [7, EOS, "x", None]}))
    assert load(checkpoint).end_ids == [EOS, 7]
    path.write_text("{")
    with pytest.raises(RunError, match=r"generation_config.json is damaged"):
        load(checkpoint)


@pytest.mark.parametrize("puts_start", [True, False])
def test_texts_start_as_the_tokenizer_of_transformers_has_it(
    checkpoint: Path, puts_start: bool
) -> None:
    alphabet = {token: i for i, token in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    plain = FastTokenizer(models.BPE(vocab=alphabet, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, **special)
    if puts_start:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    tokenizer.save_pretrained(checkpoint)
    loaded = load(checkpoint)
    assert isinstance(loaded.tokenizer, PretrainedTokenizer)
    assert loaded.start == ([loaded.tokenizer.bos_id] if puts_start else [])
    assert loaded.encode([TEXT]) == [tokenizer(TEXT).input_ids]
    assert loaded.tokenizer.decode(loaded.encode([TEXT])[0][len(loaded.start) :]) == TEXT


def test_a_run_and_what_it_converts_to(
    smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    small = ["model=decoder_tiny", "model.dim=16", "model.num_layers=1", "trainer.max_steps=2"]
    folder = run(smoke_config(*small))
    convert(folder, tmp_path / "native", "native", tell=lambda line: None)
    trained, converted = load(folder), load(tmp_path / "native")
    assert trained.start == converted.start == []
    assert trained.tokenizer.fingerprint() == converted.tokenizer.fingerprint()
    assert tokens(trained) == tokens(converted)
    shutil.rmtree(tmp_path / "native" / "tokenizer")
    assert tokens(load(tmp_path / "native", tokenizer=folder)) == tokens(trained)
    assert load(folder, "best").tokenizer.vocab_size == load_run(folder, "best")[1].vocab_size
    with pytest.raises(UsageError, match="is a run and has its own tokenizer"):
        load(folder, tokenizer=tmp_path)


def test_what_is_missing_or_does_not_fit(
    checkpoint: Path, tokenizer_model: bytes, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        load(tmp_path / "missing")
    with pytest.raises(UsageError, match="has no tokenizer: put its tokenizer.model there"):
        load(checkpoint)
    with pytest.raises(UsageError, match="has no tokenizer"):
        load(checkpoint, tokenizer=tmp_path / "missing")
    (tmp_path / "noise.model").write_bytes(b"noise")
    with pytest.raises(UsageError, match="noise.model is not a SentencePiece vocabulary"):
        load(checkpoint, tokenizer=tmp_path / "noise.model")
    (tmp_path / "tokenizer.model").write_bytes(tokenizer_model)
    with pytest.raises(UsageError, match="has no checkpoint"):
        load(tmp_path)


def test_a_tokenizer_of_another_model(checkpoint: Path, tmp_path: Path) -> None:
    tokenizer = BPETokenizer(vocab_size=400)
    tokenizer.train([f"{TEXT} {json.dumps(list(range(i)))} {i:b}" for i in range(40)])
    ByteTokenizer().save(tmp_path / "bytes" / "tokenizer")
    assert load(checkpoint, tokenizer=tmp_path / "bytes").start == []
    assert tokenizer.vocab_size > 300
    tokenizer.save(tmp_path / "other" / "tokenizer")
    with pytest.raises(UsageError, match="tokens, the model in .* 300: give the tokenizer"):
        load(checkpoint, tokenizer=tmp_path / "other")
