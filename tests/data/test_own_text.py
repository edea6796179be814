"""A corpus whose training documents a model writes."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from real_models import real_model
from transformers import LlamaConfig, LlamaForCausalLM

from beyond_ce.checkpoints import load_decoder
from beyond_ce.data import OwnText, TextFiles
from beyond_ce.errors import UsageError
from beyond_ce.generation import generate
from beyond_ce.runs.experiment import run
from beyond_ce.runs.writer import Writer
from beyond_ce.tokenizers import PretrainedTokenizer


class Upper:
    """Writes every text in capitals."""

    def __init__(self, name: str = "upper", left: int = 1000) -> None:
        self.name, self.calls, self.left = name, 0, left

    def definition(self, cache_dir: Path) -> dict[str, Any]:
        return {"name": self.name}

    def __call__(self, texts: Callable[[], Iterable[str]], done: int) -> Iterator[list[str]]:
        self.calls += 1
        assert list(texts()) == list(texts())
        for text in itertools.islice(texts(), done, None):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield [text.upper()]


def corpus(tmp_path: Path, count: int = 20, length: int = 1) -> TextFiles:
    folder = tmp_path / "texts"
    folder.mkdir(exist_ok=True)
    for i in range(count):
        (folder / f"{i}.txt").write_text(f"tale {i} of a fox and a hen. " * length)
    shares = {"validation_share": 0.2, "test_share": 0.3}
    return TextFiles(path=folder, sequence_length=16, cache_dir=tmp_path / "cache", **shares)


def test_trains_on_what_is_written_and_tests_on_the_corpus(tmp_path: Path) -> None:
    source, writer = corpus(tmp_path), Upper()
    settings = {"corpus": source, "sequence_length": 32, "cache_dir": tmp_path / "cache"}
    data = OwnText(writer=writer, **settings)
    splits, plain = data.load(), source.load()
    assert list(splits["train"]["text"]) == [t.upper() for t in plain["train"]["text"]]
    for split in ("validation", "test"):
        assert list(splits[split]) == list(plain[split])
    assert data.load().keys() == splits.keys() and writer.calls == 1, "it is written once"
    assert data.fingerprint() != OwnText(writer=Upper("another"), **settings).fingerprint()
    assert data.fingerprint() != source.fingerprint()


def test_goes_on_after_a_kill(tmp_path: Path) -> None:
    source = corpus(tmp_path)
    settings = {"corpus": source, "sequence_length": 32, "cache_dir": tmp_path / "cache"}
    with pytest.raises(KeyboardInterrupt):
        OwnText(writer=Upper(left=4), **settings).load()
    train = source.load()["train"]
    again = Upper(left=len(train) - 4)
    found = OwnText(writer=again, **settings).load()["train"]
    assert list(found["text"]) == [text.upper() for text in train["text"]]
    assert again.left == 0, "four were there already"
    assert not list((tmp_path / "cache").glob("*.parts"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer of a real model, and random weights, which repeat themselves less soon."""
    import shutil

    real = real_model("stories260k")
    found = tmp_path_factory.mktemp("model")
    for file in real.glob("token*"):
        shutil.copy(file, found)
    torch.manual_seed(0)
    sizes = LlamaConfig.from_pretrained(real)
    sizes.num_hidden_layers = 2
    LlamaForCausalLM(sizes).save_pretrained(found)
    return found


def writer(folder: Path, **settings: Any) -> Writer:
    sizes = {"prompt_tokens": 8, "new_tokens": 5, "pieces": 1000, "batch_size": 3}
    return Writer(str(folder), dtype="float32", **(sizes | settings))


def test_pieces_go_on_as_the_model_says(folder: Path) -> None:
    texts = ["Once upon a time there was a little girl. " * 5, "short", "The dog saw a cat. " * 9]
    tokenizer, model = PretrainedTokenizer(str(folder)), load_decoder(folder)
    expected = []
    for row in tokenizer.encode(texts):
        for start in range(0, len(row) - 12, 13):
            prompt = row[start : start + 8]
            new = generate(model, [tokenizer.start_ids + prompt], 5, eos_id=tokenizer.eos_id)
            expected.append(tokenizer.decode(prompt + new.tokens[0]))
    assert len(expected) > 6
    batches = list(writer(folder)(lambda: iter(texts)))
    assert list(itertools.chain(*batches)) == expected and len(batches[0]) == 3
    assert list(itertools.chain(*writer(folder)(lambda: iter(texts), 4))) == expected[4:]
    some = list(itertools.chain(*writer(folder, pieces=3)(lambda: iter(texts))))
    middle = expected[round((len(expected) - 1) / 2)]
    assert some == [expected[0], middle, expected[-1]]


def test_what_is_written_depends_on_model_and_settings(folder: Path, tmp_path: Path) -> None:
    first = writer(folder).definition(tmp_path)
    assert first == writer(folder, batch_size=5).definition(tmp_path)
    for name in ("prompt_tokens", "new_tokens", "pieces"):
        assert writer(folder, **{name: 7}).definition(tmp_path) != first
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert writer(copy).definition(tmp_path) == first
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    assert writer(copy).definition(tmp_path) != first


def test_of_a_run_its_weights_and_its_tokenizer_count(
    smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    folder = run(smoke_config("model=decoder_smallest", "trainer.max_steps=2"))
    first = writer(folder).definition(tmp_path)
    report = folder / "report.json"
    report.write_text(report.read_text().replace('"wall_clock_s": ', '"wall_clock_s": 1'))
    assert writer(folder).definition(tmp_path) == first, "its report does not"
    other = run(smoke_config("model=decoder_smallest", "trainer.max_steps=3"))
    shutil.copy(other / "last.ckpt", folder / "last.ckpt")
    (folder / "DONE").unlink()
    assert writer(folder).definition(tmp_path) != first


def test_texts_too_short_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="no text has 13 tokens"):
        list(writer(folder)(lambda: iter(["short"])))
