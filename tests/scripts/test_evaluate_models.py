"""scripts/evaluate.py with models that no run has trained, and with an evaluator of choice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pandas as pd
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from beyond_ce.checkpoints import Checkpoint, write_checkpoint
from beyond_ce.checkpoints.checkpoint import llama_config
from beyond_ce.configuration import build
from beyond_ce.runs.experiment import run
from beyond_ce.runs.inputs import current_inputs
from beyond_ce.tokenizers import ByteTokenizer, PretrainedTokenizer

Call = Callable[..., CompletedProcess[str]]

ROWS = [
    {
        "task_id": f"HumanEval/{i}",
        "prompt": f"def f{i}(x):\n",
        "entry_point": f"f{i}",
        "canonical_solution": "    return x\n",
        "test": "def check(candidate):\n    assert candidate(1) == 1\n",
    }
    for i in range(3)
]
SETTINGS = [
    "evaluator.samples=3", "evaluator.ks=[1,3]", "evaluator.temperatures=[0,1]",
    "evaluator.max_new_tokens=5", "evaluator.timeout_s=3",
]  # fmt: skip


@pytest.fixture
def humaneval(tmp_path: Path) -> list[str]:
    """The evaluator on three functions of its schema."""
    folder = tmp_path / "humaneval"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return ["evaluator=humaneval", f"evaluator.data.path={folder}", *SETTINGS]


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    return [f"results_dir={tmp_path / 'results'}", f"cache_dir={tmp_path / 'cache'}"]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 on bytes, whose texts start with a token, and which ends them with another."""
    folder = tmp_path_factory.mktemp("gpt2")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, "</s>": 1, **{c: i + 2 for i, c in enumerate(alphabet)}}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=258, n_embd=16, n_layer=1, n_head=2, n_positions=64)
    )
    model.generation_config.eos_token_id = [1, 5]
    model.save_pretrained(folder)
    return folder


def reports(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("evaluation/*.json"))]


def test_the_start_tokens_are_those_of_transformers(gpt2: Path) -> None:
    tokenizer = PretrainedTokenizer(str(gpt2))
    assert tokenizer.start_ids == [0]
    assert tokenizer.encode(["1"])[0] == [vocabulary_place("1")]


def vocabulary_place(character: str) -> int:
    return sorted(pre_tokenizers.ByteLevel.alphabet()).index(character) + 2


def test_a_model_of_transformers(
    call: Call, gpt2: Path, humaneval: list[str], places: list[str], tmp_path: Path
) -> None:
    model = ["model=causal_lm", f"model.pretrained={gpt2}"]
    done = call("evaluate.py", *humaneval, *model, *places)
    assert done.returncode == 0, done.stderr
    assert "pass@1@oracle" in done.stdout
    (report,) = reports(tmp_path / "results" / "evaluations")
    assert report["metrics"]["problems"] == 3
    assert report["metrics"]["passed@t1"] == 0
    assert report["tokenizer"]["model"] == str(gpt2) and report["isolation"]
    (table,) = (tmp_path / "results").rglob("evaluation/*.parquet")
    samples = pd.read_parquet(table)
    assert len(samples) == 3 * (1 + 3)
    # Started again, with more samples: it draws those alone.
    files = {
        path: path.read_bytes() for path in (tmp_path / "results").rglob("samples/**/*.parquet")
    }
    assert files
    done = call("evaluate.py", *humaneval, *model, *places)
    assert done.returncode == 0
    pd.testing.assert_frame_equal(pd.read_parquet(table), samples)
    assert {path: path.read_bytes() for path in files} == files


def test_the_problems_of_the_chosen_data_set(
    call: Call, gpt2: Path, places: list[str], tmp_path: Path
) -> None:
    data = ["dataset=code_tasks", "dataset.train_size=40", "dataset.validation_size=5",
            "dataset.test_size=6"]  # fmt: skip
    model = ["model=causal_lm", f"model.pretrained={gpt2}"]
    done = call("evaluate.py", "evaluator=programs", *SETTINGS, *data, *model, *places,
                "evaluator.max_examples=2", "--split", "validation")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (report,) = reports(tmp_path / "results" / "evaluations")
    assert report["split"] == "validation" and report["metrics"]["problems"] == 2


def test_a_checkpoint(call: Call, humaneval: list[str], places: list[str], tmp_path: Path) -> None:
    tokenizer = ByteTokenizer()
    config = llama_config(
        tokenizer.vocab_size, tokenizer.pad_id, tokenizer.eos_id, n=2, dim=16, num_layers=3,
        num_heads=2, max_length=64, multiple_of=16, norm_eps=1e-5, rope_theta=10000.0,
    )  # fmt: skip
    head = build(OmegaConf.create(config["head"]), "head")
    sizes = {key: config[key] for key in ("vocab_size", "pad_id", "eos_id")}
    torch.manual_seed(0)
    model = build(OmegaConf.create(config["model"]), "model", head=head, **sizes)
    folder = tmp_path / "checkpoint"
    write_checkpoint(Checkpoint(config, model), folder, "llama")
    tokenizer.save(tmp_path / "run" / "tokenizer")
    done = call("evaluate.py", folder, *humaneval, *places, "--tokenizer", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    (report,) = reports(tmp_path / "results" / "evaluations")
    assert report["model"] == str(folder) and report["metrics"]["problems"] == 3


def test_a_run_by_another_evaluator(
    call: Call, smoke_config: Callable[..., DictConfig], humaneval: list[str]
) -> None:
    folder = run(smoke_config("trainer.max_steps=2"))
    done = call("evaluate.py", folder, *humaneval)
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "evaluation").glob("test-last-*humaneval*.json")
    report = json.loads(path.read_text())
    assert report["run"] == folder.name and report["metrics"]["problems"] == 3
    done = call("evaluate.py", folder, "evaluator=programs")
    assert done.returncode == 2
    assert done.stderr.startswith("error: evaluator CodeSamples reads 'problem', which dataset")
    done = call("evaluate.py", folder, *humaneval, "--split", "interpolate")
    assert done.returncode == 2
    assert "has its own data, of which it scores 'test': set evaluator.split" in done.stderr


def test_what_is_missing_is_said_in_one_line(
    call: Call, gpt2: Path, humaneval: list[str], places: list[str], tmp_path: Path
) -> None:
    done = call("evaluate.py", *humaneval, *places)
    assert done.returncode == 2 and "there is no model to score: give the folder" in done.stderr
    done = call("evaluate.py", *humaneval, *places, "--tokenizer", tmp_path)
    assert done.returncode == 2 and "--tokenizer is for a checkpoint's folder" in done.stderr
    model = ["model=causal_lm", f"model.pretrained={gpt2}"]
    done = call("evaluate.py", *humaneval, *places, *model, "evaluator.samples=2")
    assert done.returncode == 2 and "evaluator.samples=2" in done.stderr
    done = call("evaluate.py", "evaluator=programs", *places, *model)
    assert done.returncode == 2 and "choose evaluator=number_answers or dataset=" in done.stderr
    assert all(len(call_.stderr.splitlines()) == 1 for call_ in (done,))


def test_a_run_remembers_what_its_evaluators_data_are(
    humaneval: list[str], smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    config = smoke_config(*humaneval)
    before = current_inputs(config)
    assert "evaluator.data humaneval in" in before["evaluator.data"]["source"]
    rows = [{**row, "test": "def check(candidate):\n    pass\n"} for row in ROWS]
    path = tmp_path / "humaneval" / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    after = current_inputs(config)
    assert after["evaluator.data"]["digest"] != before["evaluator.data"]["digest"]
    assert after["dataset"] == before["dataset"]
