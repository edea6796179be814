from __future__ import annotations

import math

import pytest

from beyond_ce.evaluation import Subject, TextOverlap, evaluator
from beyond_ce.evaluation.text_overlap import overlap, token_scores

DIGIT, END, START = 3, 1, 0  # as in conftest.py


def test_token_scores_by_hand(tokenizer, uniform, examples):
    """Answers "12" and "1 1", ends included: 7 tokens, 4 of them numbers.

    After the start comes a 1 (logit ln 3 against 0), after a 1 the end. Right: both first 1s and,
    after the second 1 of "1 1", the end. Wrong: 2 after 1; the end after 2 (all are equal there,
    and the first of equals is the start); the space after 1; 1 after the space.
    """
    v = tokenizer.vocab_size
    uniform.table[START, DIGIT + 1] = math.log(3)
    uniform.table[DIGIT + 1, END] = math.log(5)
    scores = token_scores(Subject(uniform, tokenizer, "cpu"), examples("12", "1 1"), 2)
    assert scores["token_accuracy"] == pytest.approx(3 / 7)
    assert scores["number_token_accuracy"] == pytest.approx(2 / 4)
    after_start, after_one = v + 2, v + 4
    nats = 2 * math.log(after_start / 3) + 2 * math.log(after_one) + math.log(after_one / 5)
    nats += 2 * math.log(v)
    assert scores["loss/ce"] == pytest.approx(nats / 7, rel=1e-6)


def test_without_numbers_or_answers_the_metrics_are_left_out(tokenizer, uniform, examples):
    scores = token_scores(Subject(uniform, tokenizer, "cpu"), examples(" "), 2)
    assert set(scores) == {"token_accuracy", "loss/ce"}
    assert token_scores(Subject(uniform, tokenizer, "cpu"), examples("1").select([]), 2) == {}
    assert overlap([], []) == {}


def test_overlap_of_a_known_pair():
    """ "the cat sat on the mat" against "the cat is on the mat": unigrams 5 of 6, bigrams 3 of 5,
    trigrams 1 of 4, and none of 3 four-grams, which smoothing counts as half of one."""
    metrics = overlap(["the cat sat on the mat"], ["the cat is on the mat"])
    bleu = 100 * (5 / 6 * 3 / 5 * 1 / 4 * 0.5 / 3) ** 0.25
    assert metrics["bleu"] == pytest.approx(bleu)
    assert metrics["rouge1"] == pytest.approx(5 / 6)
    assert metrics["exact_match"] == 0


def test_overlap_is_of_the_corpus_for_bleu_and_a_mean_for_the_others():
    metrics = overlap(["walked home", "x"], ["walks  home", "completely different words"])
    # Stems agree in the first text (F1 1) and nothing does in the second.
    assert metrics["rouge1"] == pytest.approx(0.5)
    assert overlap(["a  b\n"], ["a b"])["exact_match"] == 1
    same = overlap(["one two three four", "five"], ["one two three four", "five"])
    assert same == pytest.approx({"exact_match": 1, "bleu": 100, "rouge1": 1})


@pytest.mark.parametrize("text", ["привет мир", "今日は", "नमस्ते दुनिया", "?", "שלום"])
def test_a_text_in_another_script_equals_itself(text):
    assert overlap([text], [text])["rouge1"] == 1
    assert overlap([text], ["two words"])["rouge1"] == overlap(["two words"], [text])["rouge1"] == 0


def test_words_of_other_scripts_by_hand():
    assert overlap(["привет, мир"], ["Привет всем!"])["rouge1"] == 0.5
    assert overlap(["今日"], ["今 夜 、"])["rouge1"] == 0.5  # a character is a word
    assert overlap([""], ["?"])["rouge1"] == 0


def test_the_evaluator_gives_all_of_it(tokenizer, uniform, monkeypatch, examples):
    monkeypatch.setattr(
        evaluator, "answer", lambda model, tokenizer, texts, **_: ["12"] * len(texts)
    )
    data = examples("12", "1 1", "3", "4")
    found = TextOverlap(batch_size=2, max_new_tokens=4, max_examples=2)(
        Subject(uniform, tokenizer, "cpu"), data
    )
    assert list(found.predictions["answer"]) == ["12", "4"]
    assert list(found.predictions["prediction"]) == ["12", "12"]
    assert found.metrics["exact_match"] == 0.5
    assert set(found.metrics) == {
        *("token_accuracy", "number_token_accuracy", "loss/ce"),
        *("exact_match", "bleu", "rouge1"),
    }
    assert all(math.isfinite(value) for value in found.metrics.values())
