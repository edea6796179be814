import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from beyond_ce.errors import RunError, UsageError
from beyond_ce.tokenizers import BPETokenizer, DigitTokenizer, SubwordTokenizer

CLASSES = [BPETokenizer, DigitTokenizer, SubwordTokenizer]


def test_training_is_deterministic_and_silent(questions):
    here = SubwordTokenizer(vocab_size=400)
    here.train(questions)
    script = (
        "import json, sys; from beyond_ce.tokenizers import SubwordTokenizer\n"
        "t = SubwordTokenizer(vocab_size=400); t.train(json.load(sys.stdin))\n"
        "print(t.fingerprint())"
    )
    there = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(questions), text=True, capture_output=True
    )
    assert there.stdout.strip() == here.fingerprint()
    assert there.stderr == ""


def test_a_fitted_tokenizer_is_found_in_the_cache(tmp_path, questions):
    first = DigitTokenizer(vocab_size=400).fit(questions, tmp_path, "key")

    def unread():
        raise AssertionError("trained again")
        yield

    second = DigitTokenizer(vocab_size=400).fit(unread(), tmp_path, "key")
    assert second.fingerprint() == first.fingerprint()
    for other in (SubwordTokenizer(vocab_size=400), DigitTokenizer(vocab_size=401)):
        with pytest.raises(AssertionError, match="trained again"):
            other.fit(unread(), tmp_path, "key")
    with pytest.raises(AssertionError, match="trained again"):
        DigitTokenizer(vocab_size=400).fit(unread(), tmp_path, "other key")


def test_an_interrupted_fit_leaves_no_cache_entry(tmp_path, questions):
    def interrupted():
        yield from questions
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        DigitTokenizer(vocab_size=400).fit(interrupted(), tmp_path, "key")
    assert [p for p in (tmp_path / "tokenizers").iterdir() if p.suffix != ".lock"] == []
    DigitTokenizer(vocab_size=400).fit(questions, tmp_path, "key")


def test_what_goes_wrong_in_reading_the_texts_is_not_hidden(tmp_path):
    def broken():
        yield "1 + 1"
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        DigitTokenizer(vocab_size=400).fit(broken(), tmp_path, "key")


def test_workers_that_fit_at_once_share_one_training(tmp_path, questions):
    def fit(key: str) -> str:
        tokenizer = DigitTokenizer(vocab_size=400).fit(questions, tmp_path, key)
        return tokenizer.fingerprint()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(fit, ["key"] * 8))) == 1
    assert len(list((tmp_path / "tokenizers").glob("*/tokenizer.model"))) == 1


def test_a_corrupt_cache_is_named_in_one_line(tmp_path, questions):
    DigitTokenizer(vocab_size=400).fit(questions, tmp_path, "key")
    (model,) = (tmp_path / "tokenizers").glob("*/tokenizer.model")
    model.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(RunError, match=f"{model.parent}.*delete it") as error:
        DigitTokenizer(vocab_size=400).fit(questions, tmp_path, "key")
    assert "\n" not in str(error.value)


def test_an_unwritable_cache_is_named_in_one_line(tmp_path, questions):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot write the tokenizer cache.*cache_dir"):
        DigitTokenizer(vocab_size=400).fit(questions, tmp_path / "file", "key")


@pytest.mark.parametrize("cls", CLASSES)
def test_a_text_of_any_length_is_learned_from(cls):
    tokenizer = cls(vocab_size=300)
    tokenizer.train(["spam and " * 250_000])  # SentencePiece itself leaves out what is over 1 MiB
    assert len(tokenizer.encode([" spam and"])[0]) == 2


@pytest.mark.parametrize("texts", [[], [""], ["▅"]])
def test_texts_with_nothing_to_learn_are_refused(texts):
    with pytest.raises(UsageError, match="can be trained"):
        DigitTokenizer(vocab_size=400).train(texts)


@pytest.mark.parametrize("size", [None, 0, -1, 1, 100, 270])
def test_a_vocabulary_too_small_is_refused(size, questions):
    with pytest.raises(UsageError, match="vocab_size") as error:
        SubwordTokenizer(vocab_size=size).train(questions)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("texts", [["1"], ["12 345"], [" "], ["a"], ["5 + 5", "10"]])
def test_a_vocabulary_too_large_for_the_texts_is_made_smaller(cls, texts):
    tokenizer = cls(vocab_size=32_000)
    tokenizer.train(texts)
    assert 270 <= tokenizer.vocab_size < 300
    assert tokenizer.decode(tokenizer.encode(["0123456789 x"])[0]) == "0123456789 x"
    assert set(range(10)) <= set(tokenizer.number_values().tolist())


def test_an_unfitted_tokenizer_says_so():
    with pytest.raises(RuntimeError, match="fit"):
        DigitTokenizer(vocab_size=400).encode(["1"])
