"""The decoding benchmark at its smallest: it runs, and its figures are coherent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_decoders import byte_decoder

from beyond_ce.benchmarks.decode import main
from beyond_ce.checkpoints import Checkpoint, write_checkpoint
from beyond_ce.errors import UsageError

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


def test_plain_decoding_has_the_tokens_of_transformers() -> None:
    figures = main(["--small", "--parts", "plain"])["plain"]["1m 258"]
    assert figures.keys() == {"b1", "b2"}
    for each in figures.values():
        assert each["ratio"] > 0
        assert each["tokens_per_s"].keys() == {"ours", "transformers"}


def test_forwards_of_all_numbers_of_heads() -> None:
    figures = main(["--small", "--parts", "cost", "--heads", "3"])
    assert figures["cost"]["1m 258"]["b2"]["ratio"].keys() == {"2", "3"}
    assert "run" not in figures


def test_decoding_beside_reading_memory(tmp_path: Path) -> None:
    model = byte_decoder(2)
    config = {"vocab_size": model.vocab_size, "pad_id": model.pad_id, "eos_id": model.eos_id}
    write_checkpoint(Checkpoint(config, model), tmp_path / "mine", "hf")
    arguments = ["--small", "--parts", "memory", "--model", str(tmp_path / "mine")]
    figures = main(arguments)["memory"]
    assert figures.keys() == {"1m", "mine"}
    for each in figures.values():
        assert each["gigabytes_per_s"] > 0
        for dtype in ("float32", "bfloat16"):
            assert each[f"ours_{dtype}"]["tokens_per_s"] > 0
            assert 0 < each[f"ours_{dtype}"]["share"] < 2


def test_a_run_is_needed() -> None:
    with pytest.raises(UsageError, match="give --run"):
        main(["--small", "--parts", "run"])


@pytest.mark.slow
def test_prints_one_json_object() -> None:
    command = [sys.executable, SCRIPT, "decode", "--small", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert {"plain", "cost", "memory", "bars", "hardware", "versions", "threads"} <= figures.keys()
