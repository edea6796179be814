from __future__ import annotations

import json
from pathlib import Path

import pytest
from real_models import real_model

from beyond_ce.benchmarks.choices import main


def test_both_models_answer_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = tmp_path / "piqa" / "piqa_validation.jsonl"
    questions.parent.mkdir()
    rows = [
        {"question": f"There were {n} of them.", "choices": [f"{n} dogs", "a cat"], "label": n % 2}
        for n in range(5)
    ]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.setenv("BEYOND_CE_DATA", str(tmp_path))
    model = str(real_model("stories260k"))
    figures = main(
        ["--model", model, "--tasks", "piqa", "--questions", "3", "--cache-dir", str(tmp_path)]
    )
    assert figures["equal"]
    found = figures["piqa"]
    assert (found["questions"], found["requests"], found["beyond_tolerance"]) == (3, 6, 0)
    assert 0 < found["largest_difference"] < 1e-4  # two programs do not round alike
    assert found["scores"]["ours"].keys() == {"acc", "acc_norm"}
    assert found["seconds"].keys() == {"ours", "hf"} and found["ratio"] > 0
    assert figures["bar"] == 1.0 and figures.keys() >= {"versions", "hardware", "commit"}
