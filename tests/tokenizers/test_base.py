import errno
import pickle
from pathlib import Path

import pytest

from beyond_ce.errors import RunError
from beyond_ce.tokenizers import DigitTokenizer, SubwordTokenizer, Tokenizer

CLASSES = [DigitTokenizer, SubwordTokenizer]


@pytest.mark.parametrize("cls", CLASSES)
def test_a_saved_tokenizer_comes_back(cls, t5_model, tmp_path, questions):
    trained = cls(vocab_size=400)
    trained.train(questions)
    for name, tokenizer in {"own": trained, "t5": cls(model=str(t5_model))}.items():
        tokenizer.save(tmp_path / name)
        loaded = Tokenizer.load(tmp_path / name)
        assert type(loaded) is cls
        assert loaded.fingerprint() == tokenizer.fingerprint()
        assert loaded.vocab_size == tokenizer.vocab_size
        assert loaded.encode(questions[:50]) == tokenizer.encode(questions[:50])


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped"])
def test_a_damaged_folder_is_named_in_one_line(name, damage, tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.unlink()
    if damage != "missing":
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        path.write_bytes({"empty": b"", "cut": whole[:middle], "flipped": flipped}[damage])
    with pytest.raises(RunError, match=str(tmp_path)) as error:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(error.value)


def test_loading_as_another_class_is_refused(questions, tmp_path):
    DigitTokenizer(vocab_size=400).fit(questions, tmp_path, "key").save(tmp_path / "run")
    with pytest.raises(RunError, match="DigitTokenizer, not a SubwordTokenizer"):
        SubwordTokenizer.load(tmp_path / "run")


def test_pickling_keeps_the_tokenizer(tokenizer, t5_model, questions):
    for original in (tokenizer, DigitTokenizer(model=str(t5_model))):
        before = original.encode(questions[:50])
        copy = pickle.loads(pickle.dumps(original))
        assert copy.encode(questions[:50]) == before
        assert copy.fingerprint() == original.fingerprint()


def test_a_full_disk_is_named_in_one_line(tokenizer, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match=f"{tmp_path}.*No space left"):
        tokenizer.save(tmp_path)
