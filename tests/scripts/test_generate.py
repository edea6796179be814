"""scripts/generate.py: text from a trained run, live, and what can go wrong on the way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from beyond_ce.configuration import compose
from beyond_ce.generation import answer
from beyond_ce.runs.assembly import load_run
from beyond_ce.runs.experiment import run

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "generate.py"
STATISTICS = re.compile(
    r"^\d+ tokens in \d+\.\d\d s: \d+\.\d tokens/s, 1\.00 tokens/forward$", re.M
)
QUESTION = "What is 4 + 7 - 120?"

Generate = Callable[..., tuple[str, str]]


def overrides(data: Path, cache: Path, results: Path) -> list[str]:
    return [
        "experiment=ntl/arithmetic/smoke", f"dataset.path={data}",
        "dataset.train_per_difficulty=80", "dataset.validation_per_difficulty=10",
        "dataset.test_size=20", "trainer.max_steps=5", "trainer.progress=false",
        f"results_dir={results}", f"cache_dir={cache}",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def t5_run(official_data: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("t5")
    return run(compose(overrides(official_data, cache_dir, results)))


@pytest.fixture(scope="module")
def decoder_run(
    official_data: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    results = tmp_path_factory.mktemp("decoder")
    small = ["model=decoder_tiny", "model.dim=16", "model.num_layers=1"]
    return run(compose([*overrides(official_data, cache_dir, results), *small]))


@pytest.fixture
def script(call: Callable[..., subprocess.CompletedProcess[str]]) -> Generate:
    """Runs the script; returns stdout and stderr."""

    def generate(*arguments: object, **kwargs: Any) -> tuple[str, str]:
        done = call("generate.py", *arguments, **kwargs)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return generate


@pytest.fixture
def failure(call: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., str]:
    """The one line that the script ends with."""

    def generate(*arguments: object, **kwargs: Any) -> str:
        done = call("generate.py", *arguments, **kwargs)
        assert done.returncode == 2
        assert done.stdout == "" and done.stderr.count("\n") == 1
        return done.stderr

    return generate


def test_an_encoder_decoder_answers(t5_run: Path, script: Generate) -> None:
    out, err = script(t5_run, QUESTION, "--max-new-tokens", 9)
    model, tokenizer, _ = load_run(t5_run, "last")
    assert out == answer(model, tokenizer, [QUESTION], "cpu", max_new_tokens=9)[0] + "\n"
    assert STATISTICS.match(err)


def test_a_decoder_goes_on_up_to_its_context(decoder_run: Path, script: Generate) -> None:
    model, tokenizer, _ = load_run(decoder_run, "best")
    (expected,) = answer(model, tokenizer, [QUESTION], "cpu", max_new_tokens=20)
    out, err = script(decoder_run, QUESTION, "--checkpoint", "best")
    assert out.startswith(expected)
    assert STATISTICS.match(err)


def test_prompts_from_stdin_and_a_file(t5_run: Path, tmp_path: Path, script: Generate) -> None:
    length = ("--max-new-tokens", 6)
    one, _ = script(t5_run, QUESTION, *length)
    assert script(t5_run, *length, stdin=f"{QUESTION}\n".encode())[0] == one
    file = tmp_path / "prompts.txt"
    file.write_text(f"{QUESTION}\nWhat is 1 + 1 - 120?\n{QUESTION}\n", encoding="utf-8")
    together, _ = script(t5_run, "--prompts", file, *length)
    assert together.startswith(f"==> {QUESTION} <==\n{one}==> What is 1 + 1 - 120? <==\n")
    assert together.endswith(f"==> {QUESTION} <==\n{one}")
    assert script(t5_run, "--prompts", file, *length, "--batch-size", 1)[0] == together


def test_samples_follow_the_seed(decoder_run: Path, script: Generate) -> None:
    settings = (decoder_run, "What", "--temperature", 1.5, "--top-p", 0.9, "--max-new-tokens", 20)
    first, _ = script(*settings, "--seed", 1)
    assert script(*settings, "--seed", 1)[0] == first
    assert script(*settings, "--seed", 2)[0] != first


def test_weights_in_bfloat16(decoder_run: Path, tmp_path: Path, script: Generate) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("".join(f"What is {i}?\n" for i in range(200)), encoding="utf-8")
    draw = (decoder_run, "--prompts", file, "--temperature", 3, "--max-new-tokens", 20)
    exact = script(*draw)[0]
    assert script(*draw, "--dtype", "float32")[0] == exact
    assert script(*draw, "--dtype", "bfloat16")[0] != exact


def test_colours_are_all_that_colour_adds(decoder_run: Path, script: Generate) -> None:
    plain, _ = script(decoder_run, QUESTION, "--max-new-tokens", 12)
    coloured, _ = script(decoder_run, QUESTION, "--max-new-tokens", 12, "--colour")
    assert "\x1b[36m" in coloured
    assert re.sub("\x1b\\[[0-9]+m", "", coloured) == plain


def test_all_heads_write_what_one_writes(
    official_data: Path, cache_dir: Path, tmp_path: Path, script: Generate
) -> None:
    heads = ["model=decoder_tiny", "model.dim=16", "head=multi_token", "head.n=3"]
    folder = run(compose([*overrides(official_data, cache_dir, tmp_path), *heads]))
    alone, err = script(folder, QUESTION, "--heads", 1)
    assert STATISTICS.match(err)
    together, err = script(folder, QUESTION)
    assert together == alone
    assert "tokens/forward" in err and not STATISTICS.match(err), "some drafts should hold"
    _, err = script(folder, QUESTION, "--temperature", 0.8)
    assert STATISTICS.match(err), "several heads are for greedy decoding"


def test_a_model_that_cannot_draft_decodes_with_one_head(
    official_data: Path, cache_dir: Path, tmp_path: Path, script: Generate
) -> None:
    heads = ["head=multi_token_linear", "head.n=2"]
    folder = run(compose([*overrides(official_data, cache_dir, tmp_path), *heads]))
    _, err = script(folder, QUESTION)
    assert STATISTICS.match(err)


def test_bad_input_is_one_line(
    t5_run: Path, decoder_run: Path, tmp_path: Path, failure: Callable[..., str]
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"caf\xe9\n")
    assert "there is no folder" in failure(tmp_path / "missing", QUESTION)
    assert "a prompt and --prompts were given: give only one" in failure(
        t5_run, QUESTION, "--prompts", file
    )
    assert f"cannot read {file}" in failure(t5_run, "--prompts", file)
    assert "cannot read" in failure(t5_run, "--prompts", tmp_path / "missing.txt")
    assert "is a pipe or a device" in failure(t5_run, "--prompts", "/dev/zero")
    assert "cannot read the prompt" in failure(t5_run, stdin=b"caf\xe9")
    assert "cannot read the prompt" in failure(t5_run, "caf\udce9")
    assert "prompt 0 is empty" in failure(decoder_run, "")
    assert "shorten the prompt" in failure(decoder_run, QUESTION * 50)
    assert "set max_new_tokens=" in failure(decoder_run, QUESTION, "--max-new-tokens", 10_000)
    assert "heads=2 > 1" in failure(decoder_run, QUESTION, "--heads", 2)
    assert "temperature=-1.0" in failure(decoder_run, QUESTION, "--temperature", -1)


def start(folder: Path, tmp_path: Path) -> subprocess.Popen[bytes]:
    """The script at work on more prompts than anyone waits for."""
    file = tmp_path / "prompts.txt"
    file.write_text(f"{QUESTION}\n" * 20_000)
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), "--prompts", str(file), "--batch-size", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # Tests that run in a script's background ignore SIGINT, and processes inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def test_a_closed_pipe_ends_it_quietly(decoder_run: Path, tmp_path: Path) -> None:
    process = start(decoder_run, tmp_path)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == f"==> {QUESTION} <==\n".encode()
    process.stdout.close()
    assert process.wait(60) == -signal.SIGPIPE
    assert process.stderr.read() == b""


def test_an_interruption_is_one_line(decoder_run: Path, tmp_path: Path) -> None:
    process = start(decoder_run, tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == b"interrupted\n"
    assert out == b"" or out.endswith(b"\n"), "no line is left without its end"
