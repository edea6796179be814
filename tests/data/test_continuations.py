from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.data import Continuations, TextFiles
from beyond_ce.data.continuations import pieces
from beyond_ce.errors import UsageError


def continuations(folder: Path, prompt_words: int, answer_words: int) -> Continuations:
    corpus = TextFiles(
        path=folder,
        name="mine",
        sequence_length=8,
        cache_dir=folder / "cache",
        validation_share=0.3,
        test_share=0.3,
    )
    return Continuations(
        corpus=corpus,
        prompt_words=prompt_words,
        answer_words=answer_words,
        cache_dir=folder / "cache",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty documents of ten words each: d0 w1 .. w9 and so on."""
    for i in range(20):
        (tmp_path / f"{i}.txt").write_text(f"d{i} w1\n w2 w3  w4 w5 w6 w7 w8\tw9\n")
    return tmp_path


def test_answers_follow_their_prompts_to_the_end_of_the_document(folder: Path) -> None:
    data = continuations(folder, prompt_words=3, answer_words=2)
    train = data.load()["train"]
    assert train.column_names == ["prompt", "answer", "task"]
    rows = [(row["prompt"], row["answer"]) for row in train][:3]
    name = rows[0][0].split()[0]
    assert rows == [(f"{name} w1 w2", "w3 w4"), ("w2 w3 w4", "w5 w6"), ("w4 w5 w6", "w7 w8")]
    assert set(train["task"]) == {"mine"}
    assert data.name == "mine_continuations"


def test_splits_are_the_corpus_s(folder: Path) -> None:
    data = continuations(folder, prompt_words=3, answer_words=7)
    documents, examples = data.corpus.load(), data.load()
    assert set(examples) == set(documents)
    for split, rows in examples.items():
        assert [row.split()[0] for row in rows["prompt"]] == [
            text.split()[0] for text in documents[split]["text"]
        ]


def test_settings_and_corpus_name_the_cache(folder: Path) -> None:
    one = continuations(folder, 3, 2)
    assert one.fingerprint() == continuations(folder, 3, 2).fingerprint()
    others = [continuations(folder, 2, 2), continuations(folder, 3, 3)]
    (folder / "more.txt").write_text("one more")
    others.append(continuations(folder, 3, 2))
    assert len({one.fingerprint(), *(other.fingerprint() for other in others)}) == 4


def test_documents_that_are_too_short_are_named(folder: Path) -> None:
    with pytest.raises(UsageError, match="no document of 8 \\+ 3 words in the split 'train'"):
        continuations(folder, 8, 3).load()


@given(words=st.integers(1, 40), prompt=st.integers(1, 9), answer=st.integers(1, 9))
def test_every_word_but_the_first_and_last_is_in_one_answer(
    words: int, prompt: int, answer: int
) -> None:
    text = " ".join(str(i) for i in range(words))
    answers = [int(word) for _, part in pieces(text, prompt, answer) for word in part.split()]
    assert answers == list(range(prompt, prompt + len(answers)))
    assert len(answers) == max(0, words - prompt) // answer * answer
