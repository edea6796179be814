from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.data.summaries import END
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import Rouge, Subject
from beyond_ce.evaluation import evaluator as module
from beyond_ce.evaluation.rouge import KINDS, rouge
from beyond_ce.tokenizers import ByteTokenizer


def test_a_pair_by_hand() -> None:
    """ "the cat sat on the mat" (6 words) against "the cat is on the mat today" (7): 5 words in
    common, 3 of 5 and 6 pairs, 1 of 4 and 5 triples, and as longest subsequence the 5 words."""
    found = rouge(["the cat sat on the mat"], ["the cat is on the mat today"])
    expected = {"rouge1": (5, 6, 7), "rouge2": (3, 5, 6), "rouge3": (1, 4, 5), "rougeL": (5, 6, 7)}
    for kind, (common, ours, theirs) in expected.items():
        precision, recall = common / ours, common / theirs
        assert found[f"{kind}_precision"] == pytest.approx(precision)
        assert found[f"{kind}_recall"] == pytest.approx(recall)
        assert found[kind] == pytest.approx(2 * precision * recall / (precision + recall))


def test_a_mean_over_texts_and_not_over_words() -> None:
    found = rouge(["a", "x y z w"], ["a", "nothing"])
    assert found["rouge1"] == found["rougeL"] == 0.5
    assert rouge([], []) == {}


def test_lines_count_for_lsum_alone() -> None:
    """Two lines in the other order: the subsequence has one of them, line by line both count."""
    found = rouge(["c d\na b"], ["a b\nc d"])
    assert found["rougeL"] == pytest.approx(0.5)
    assert found["rougeLsum"] == pytest.approx(1.0)
    same = rouge(["a b c d"], ["c d a b"])
    assert same["rougeL"] == same["rougeLsum"] == pytest.approx(0.5)


def test_stems_and_other_scripts() -> None:
    assert rouge(["walked"], ["walks"])["rouge1"] == 1
    assert rouge(["walked"], ["walks"], stemmer=False)["rouge1"] == 0
    assert rouge(["خبر"], ["خبر"])["rouge1"] == 0  # as in the paper, see there


WORDS = st.lists(st.sampled_from("abcde"), max_size=8)


def overlap(one: Sequence[str], other: Sequence[str], n: int) -> tuple[int, int, int]:
    """n-grams in common, and of each."""
    left, right = (Counter(zip(*(x[i:] for i in range(n)), strict=False)) for x in (one, other))
    return (left & right).total(), left.total(), right.total()


def subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    if not one or not other:
        return 0
    if one[0] == other[0]:
        return 1 + subsequence(one[1:], other[1:])
    return max(subsequence(one[1:], other), subsequence(one, other[1:]))


@given(WORDS, WORDS)
def test_the_definitions(ours: list[str], theirs: list[str]) -> None:
    found = rouge([" ".join(ours)], [" ".join(theirs)], stemmer=False)
    counts = {f"rouge{n}": overlap(ours, theirs, n) for n in (1, 2, 3)}
    counts["rougeL"] = subsequence(ours, theirs), len(ours), len(theirs)
    for kind, (common, of_ours, of_theirs) in counts.items():
        precision, recall = common / max(of_ours, 1), common / max(of_theirs, 1)
        f1 = 2 * precision * recall / (precision + recall) if common else 0
        assert found[kind] == pytest.approx(f1)
        assert found[f"{kind}_precision"] == pytest.approx(precision)
        assert found[f"{kind}_recall"] == pytest.approx(recall)


# --- the evaluator ---------------------------------------------------------------------------

TOKENIZER = ByteTokenizer()
END_ID = TOKENIZER.eos_id


def model(context: int | None) -> Any:
    head = SimpleNamespace(target="tokens")
    made = SimpleNamespace(max_length=context, head=head)
    made.to = lambda device: made
    return made


def examples(**documents: str) -> datasets.Dataset:
    prompts = [document + END for document in documents.values()]
    tasks = ["papers"] * len(prompts)
    return datasets.Dataset.from_dict({"prompt": prompts, "answer": list(documents), "task": tasks})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Every summary is "one two"; gives the prompts. The first does not end."""
    prompts: list[list[int]] = []

    def generate(model: Any, given: list[list[int]], **_: Any) -> Any:
        prompts.extend(given)
        (text,) = TOKENIZER.encode(["one two"])
        return SimpleNamespace(tokens=[text, *([*text, END_ID] for _ in given[1:])][: len(given)])

    monkeypatch.setattr(module, "generate", generate)
    return prompts


def evaluate(context: int | None, data: datasets.Dataset, **settings: Any) -> Any:
    settings = {"batch_size": 2, "max_new_tokens": 10, **settings}
    return Rouge(**settings)(Subject(model(context), TOKENIZER, "cpu"), data)


def test_what_it_gives(asked: list[list[int]]) -> None:
    data = examples(one="one two three. Four.", two="Not it.")
    found = evaluate(None, data)
    assert TOKENIZER.decode(asked[0]) == f"one two three. Four.{END}"
    assert list(found.predictions["prediction"]) == ["one two"] * 2
    metrics = found.metrics
    assert metrics["rouge1"] == pytest.approx(2 / 3)
    assert (metrics["rouge1_precision"], metrics["rouge1_recall"]) == (0.5, 1)
    assert (metrics["words"], metrics["finished"], metrics["truncated"]) == (2, 0.5, 0)
    assert metrics["lead_rougeL"] == pytest.approx(0.25)  # 1 of 3 words and 1 of 1; nothing
    assert metrics["other_rougeL"] == 0
    assert {f"{kind}{a}" for kind in KINDS for a in ("", "_precision", "_recall")} <= set(metrics)
    assert evaluate(None, data.select([])).metrics == {}
    assert len(evaluate(None, data, max_examples=1).predictions) == 1


@pytest.mark.parametrize("length", [0, 1, 20, 21, 22, 300])
def test_a_prompt_that_is_too_long_loses_the_end_of_its_document(
    asked: list[list[int]], length: int
) -> None:
    """A context of 42 has room for 33 bytes, of which `END` takes 11, if 10 new ones follow, as
    the last of these is never read."""
    document = "".join(random.Random(0).choices("abcdef", k=length))
    found = evaluate(42, examples(x=document))
    assert len(END) == 11
    assert TOKENIZER.decode(asked[0]) == document[:22] + END
    assert found.metrics["truncated"] == (length > 22)


def test_a_context_without_room_is_refused(asked: list[list[int]]) -> None:
    with pytest.raises(UsageError, match="max_new_tokens=10 leaves no room .* of 20 tokens"):
        evaluate(20, examples(x="text"))
    assert not asked
