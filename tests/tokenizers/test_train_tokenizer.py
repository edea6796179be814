import subprocess
import sys
from pathlib import Path

import pytest

from beyond_ce.tokenizers import SubwordTokenizer, Tokenizer

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_tokenizer.py"


def run(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_text_file_gives_a_saved_tokenizer(tmp_path, questions):
    (tmp_path / "texts.txt").write_text("\n".join(questions), encoding="utf-8")
    out = tmp_path / "out"
    done = run(tmp_path / "texts.txt", out, "--tokenizer", "subword", "--vocab-size", 400)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"400 tokens in {out}\n"
    expected = SubwordTokenizer(vocab_size=400)
    expected.train(questions)
    assert Tokenizer.load(out).fingerprint() == expected.fingerprint()


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_what_is_wrong_with_the_file_is_one_line(tmp_path, content):
    texts = tmp_path / "texts.txt"
    if content is not None:
        texts.write_bytes(content)
    done = run(texts, tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
