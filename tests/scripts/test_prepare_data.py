"""`scripts/prepare_data.py` as a program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "prepare_data.py"


def test_a_corpus_is_tokenized_too(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for i in range(60):
        (tmp_path / "text" / f"{i}.txt").write_text(f"number {i:02}")  # and a newline: 10 bytes
    overrides = [
        *("dataset=text_files", f"dataset.path={tmp_path / 'text'}", "dataset.test_share=0.2"),
        *("dataset.validation_share=0.2", "dataset.sequence_length=11", "tokenizer=byte"),
        f"cache_dir={tmp_path / 'cache'}",
    ]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *overrides], capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    counts = {line[0]: int(line[1]) for line in lines[:3]}
    assert sum(counts.values()) == 60 and {line[2] for line in lines[:3]} == {"documents"}
    # 10 bytes and an end token each; a row predicts 11 tokens, and the first is none's label.
    assert lines[3] == [
        "train:",
        str(11 * counts["train:"]),
        "tokens,",
        str(counts["train:"]),
        "rows",
    ]
    assert "tokenizing" in done.stderr
    again = subprocess.run(
        [sys.executable, str(SCRIPT), *overrides], capture_output=True, text=True
    )
    assert again.stdout == done.stdout and "tokenizing" not in again.stderr
