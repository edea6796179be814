import os
import subprocess
import sys
from pathlib import Path

import pytest

from beyond_ce.tokenizers import BPETokenizer, SubwordTokenizer, Tokenizer

NAME = "train_tokenizer.py"
SCRIPT = Path(__file__).parents[2] / "scripts" / NAME


def test_a_text_file_gives_a_saved_tokenizer(tmp_path, questions):
    """As a user starts it, in a process of its own; the tests below call it in this one."""
    (tmp_path / "texts.txt").write_text("\n".join(questions), encoding="utf-8")
    out = tmp_path / "out"
    options = ["--tokenizer", "subword", "--vocab-size", "400"]
    command = [sys.executable, SCRIPT, tmp_path / "texts.txt", out, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"400 tokens in {out}\n"
    expected = SubwordTokenizer(vocab_size=400)
    expected.train(questions)
    assert Tokenizer.load(out).fingerprint() == expected.fingerprint()


def test_whole_files_of_folders_give_a_vocabulary_for_experiments(tmp_path, questions, call):
    code = "def add(a, b):\r\n    return a + b\r\n" * 20
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    (tmp_path / "texts" / "deep" / "add.py").write_bytes(code.encode())
    (tmp_path / "texts" / "noise.bin").write_bytes(b"\xff")
    (tmp_path / "more.txt").write_text("\n".join(questions), encoding="utf-8")
    out = tmp_path / "out"
    options = ["--tokenizer", "sentencepiece", "--vocab-size", 400, "--files", "*.py"]
    done = call(NAME, tmp_path / "texts", tmp_path / "more.txt", out, *options, "--documents")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    expected = BPETokenizer(vocab_size=400)
    expected.train([code, "\n".join(questions)])
    assert Tokenizer.load(out).fingerprint() == expected.fingerprint()
    assert BPETokenizer(model=str(out)).encode(questions) == expected.encode(questions)


def test_a_folder_without_such_files_is_one_line(tmp_path, call):
    done = call(NAME, tmp_path, tmp_path / "out", "--files", "*.py")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: no file in {tmp_path} matches --files *.py: give another pattern\n"
    )


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_what_is_wrong_with_the_file_is_one_line(tmp_path, call, content):
    texts = tmp_path / "texts.txt"
    if content is not None:
        texts.write_bytes(content)
    done = call(NAME, texts, tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("device", ["/dev/zero", "pipe"])
def test_a_pipe_or_a_device_is_no_text(tmp_path, call, device):
    os.mkfifo(tmp_path / "pipe")
    done = call(NAME, tmp_path / device, tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / device} is a pipe or a device: give a file\n"
