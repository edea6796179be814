from __future__ import annotations

import datasets
import pandas as pd
import pytest

from beyond_ce.evaluation import AgreementAnswers, Subject


def test_article_and_word_are_scored_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["2abc", "2abc", "2abc", "2abc", "2abc"]
    given = ["2abc", "1abc", "2abd", "", "2abcd"]
    examples = datasets.Dataset.from_dict(
        {"prompt": ["x"] * 5, "answer": answers, "task": ["agreement"] * 5}
    )
    table = pd.DataFrame({"answer": answers, "prediction": given})
    monkeypatch.setattr(AgreementAnswers, "answers", lambda self, subject, examples: table)
    subject = Subject(model=None, tokenizer=None, device="cpu")  # type: ignore[arg-type]
    metrics = AgreementAnswers(batch_size=1, max_new_tokens=8)(subject, examples).metrics
    assert metrics == {
        "article_accuracy": pytest.approx(3 / 5),
        "word_accuracy": pytest.approx(2 / 5),
        "accuracy": pytest.approx(1 / 5),
    }
