"""Every kind of file that is read from a folder, damaged in every way: one line that names it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pytest
import torch
from lightning_fabric import Fabric
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn

from beyond_ce.batches.packed_tokens import PackedTokens, pack
from beyond_ce.batches.prompt_answer import tokenize
from beyond_ce.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from beyond_ce.checkpoints.checkpoint import llama_config
from beyond_ce.configuration import CONF_DIR, build, compose
from beyond_ce.data import (
    APPS,
    GSM8K,
    MBPP,
    Arithmetic,
    CodeContests,
    HubCorpus,
    HumanEval,
    MultiRC,
    Questions,
    RJokes,
    Summaries,
    TextFiles,
)
from beyond_ce.data.cache import load_or_write
from beyond_ce.data.example import Example
from beyond_ce.errors import RunError, UsageError
from beyond_ce.reproduction.figures import read_csv
from beyond_ce.runs.scoring import save_scores, score
from beyond_ce.runs.state import note_queued, state_of
from beyond_ce.runs.store import is_done, read_config, read_report, write_report
from beyond_ce.storage.shards import Shards
from beyond_ce.storage.untrusted import read_yaml
from beyond_ce.tokenizers import BPETokenizer, DigitTokenizer, PretrainedTokenizer, Tokenizer
from beyond_ce.training.checkpoint import random_state, resume, save_checkpoint
from beyond_ce.training.records import Records, read_records

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [Example(f"{i} + 1?", str(i + 1), "sum") for i in range(25)]
ROWS = datasets.Dataset.from_list([vars(example) for example in EXAMPLES])
TEXTS = [f"What is {i} + {j}?" for i in range(30) for j in range(30)]
REPORT = {"run": "abc", "metrics": {"test/loss": 0.5}}

DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "empty": lambda whole: b"",
    "half": lambda whole: whole[: len(whole) // 2],
    "random": lambda whole: torch.randint(
        256, (max(64, len(whole)),), generator=torch.Generator().manual_seed(0)
    ).to(torch.uint8).numpy().tobytes(),
    "zeros": lambda whole: bytes(len(whole)),
    "list": lambda whole: b"[]\n",
    "mapping": lambda whole: b"{}\n",
    "null": lambda whole: b"null\n",
    "number": lambda whole: b"7\n",
    "surrogate": lambda whole: b'{"a": "\\ud800", "prompt": "\\ud800"}\n',
    "NaN": lambda whole: b"NaN\n",
    "infinite": lambda whole: b'{"a": Infinity, "dim": 1e999}\n',
    "deep": lambda whole: DEEP,
    "folder": lambda whole: None,
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        file: below the folder that `make` fills.
        read: reads it, given that folder.
        valid: damages that leave a valid file of this kind, which may be read.
    """

    file: str
    make: Callable[[Path], None]
    read: Callable[[Path], object]
    valid: tuple[str, ...] = ()


def decoder(folder: Path, to: str) -> None:
    config = llama_config(
        64, 0, 1, n=2 if to != "hf" else 1,
        dim=16, num_layers=2, num_heads=2, max_length=32, multiple_of=16,
        norm_eps=1e-5, rope_theta=10000.0,
    )  # fmt: skip
    sizes = {key: config[key] for key in ("vocab_size", "pad_id", "eos_id")}
    head = build(OmegaConf.create(config["head"]), "head")
    model = build(OmegaConf.create(config["model"]), "model", head=head, **sizes)
    write_checkpoint(Checkpoint(config, model, {"eos_token_id": [1, 2]}), folder, to)


def hugging_face_index(folder: Path) -> None:
    decoder(folder, "hf")
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    index = {"weight_map": {"a": "part.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def hugging_face_torch(folder: Path) -> None:
    decoder(folder, "hf")
    (folder / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(2)}, folder / "pytorch_model.bin")


def finished_run(folder: Path) -> None:
    run = folder / "abc"
    run.mkdir(parents=True)
    config = compose(["experiment=ntl/arithmetic/smoke"])
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    write_report(run, REPORT)


def queued_run(folder: Path) -> None:
    note_queued(folder / "abc", folder / "abc.err", "12_3")


def unmarked(folder: Path) -> None:
    finished_run(folder)
    (folder / "abc" / "DONE").unlink()


def metrics(folder: Path) -> None:
    folder.mkdir()
    with Records(folder / "metrics.jsonl", 0, lambda values, step: None, enabled=True) as lines:
        for step in range(1, 10):
            lines.write({"loss": step / 2}, step)


def go_on(folder: Path) -> None:
    Records(folder / "metrics.jsonl", 9, lambda values, step: None, True, lines=9).__exit__()


def state() -> dict[str, Any]:
    module = nn.Linear(8, 8)
    return {"module": module, "optimizer": torch.optim.AdamW(module.parameters())}


def run_checkpoint(folder: Path) -> None:
    folder.mkdir()
    rest = {"progress": {"step": 3}, "random": [random_state()]}
    fabric = Fabric(accelerator="cpu", devices=1)
    save_checkpoint(fabric, folder / "last.ckpt", {**state(), **rest})


def resume_checkpoint(folder: Path) -> None:
    assert resume(Fabric(accelerator="cpu", devices=1), folder / "last.ckpt", state()).step == 3


def scores(folder: Path) -> None:
    folder.mkdir()
    save_scores({"accuracy": 0.5}, pd.DataFrame({"a": [1]}), folder / "evaluation" / "test.json")


def score_from_files(folder: Path) -> None:
    prepared: Any = SimpleNamespace(test_splits=("test",), splits={})
    never: Any = None
    evaluator: Any = SimpleNamespace(tidy=lambda folder: None)
    assert score(never, evaluator, prepared, folder)


def tokenizer(folder: Path) -> None:
    trained = DigitTokenizer(vocab_size=400)
    trained.train(TEXTS)
    trained.save(folder)


def sentence_piece(folder: Path) -> None:
    trained = BPETokenizer(vocab_size=400)
    trained.train(TEXTS)
    folder.mkdir()
    trained._save_vocabulary(folder)


def fast_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer as Fast
    from tokenizers import models
    from transformers import PreTrainedTokenizerFast

    fast = Fast(models.WordLevel({"</s>": 0, "a": 1}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="</s>").save_pretrained(folder)


def cached(folder: Path) -> object:
    return load_or_write(folder, lambda: iter([("train", EXAMPLES)]), ("prompt", "answer", "task"))


def packed(folder: Path) -> PackedTokens:
    split = datasets.Dataset.from_dict({"text": ["12", "345"]})
    pack(split, lambda texts: [list(map(int, text)) for text in texts], 9, 10, folder)
    return PackedTokens(folder, 2)


def shards(folder: Path) -> Shards:
    return Shards(folder, {"problem": pa.string(), "sample": pa.int64()})


def fill_shards(folder: Path) -> None:
    for start in (0, 9):
        shards(folder).append([{"problem": f"p{i}", "sample": i} for i in range(start, start + 9)])


TOKENIZER = DigitTokenizer(vocab_size=400)


def token_cache(folder: Path) -> object:
    if TOKENIZER._loaded is None:
        TOKENIZER.train(TEXTS)
    made = tokenize(ROWS, TOKENIZER, folder, "key")
    (path,) = (folder / "tokens").glob("*.arrow")
    if path.name != "a.arrow":
        path.rename(path.with_name("a.arrow"))
    return made[0]


def read_token_cache(folder: Path) -> object:
    from beyond_ce.batches import prompt_answer

    original = prompt_answer.cache_name
    prompt_answer.cache_name = lambda *_: "a"  # type: ignore[assignment]
    try:
        return tokenize(ROWS, TOKENIZER, folder, "key")[:]
    finally:
        prompt_answer.cache_name = original


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(folder: Path, **texts: str) -> None:
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")


def load(kind: type, folder: Path, **settings: Any) -> object:
    cache = folder.with_name(f"{folder.name}-cache")
    return kind(path=folder, seed=0, cache_dir=cache, **settings).load()


SUMS = lines(*({"question": f"{i}?", "answer": f"so\n#### {i}"} for i in range(40)))
CHOICE = {
    "idx": {"paragraph": 0, "question": 0, "answer": 0}, "paragraph": "Long ago.",
    "question": "When?", "answer": "Long ago", "label": 1,
}  # fmt: skip
CHOICES = lines(
    *(
        {**CHOICE, "paragraph": f"{i} years ago.", "idx": {"paragraph": i, "question": 0}}
        for i in range(40)
    )
)
ABSTRACTS = lines(*({"document": f"We do {i}.", "summary": f"{i} done."} for i in range(40)))
JOKES = "".join(f"{i % 10}\tJoke {i}.\n" for i in range(40))


def official(folder: Path) -> None:
    for regime in ("train-easy", "interpolate", "extrapolate"):
        (folder / regime).mkdir(parents=True)
        longer = "_longer" if regime == "extrapolate" else ""
        path = folder / regime / f"arithmetic__add_sub_multiple{longer}.txt"
        path.write_text("".join(f"What is {regime} + {i}?\n{i}\n" for i in range(20)))


CORPUS = {"sequence_length": 8, "validation_share": 0.2, "test_share": 0.2}


def corpus(kind: type, folder: Path, **settings: Any) -> object:
    made = kind(path=folder, **CORPUS, cache_dir=folder.with_name("cache"), **settings)
    return made.identity(), list(made.documents())


FUNCTION = {
    "task_id": "a/1", "prompt": "def f():\n", "entry_point": "f",
    "canonical_solution": "    return 1\n", "test": "def check(f):\n    assert f()\n",
}  # fmt: skip
COPA = {"premise": "It fell.", "choice1": "A.", "choice2": "B.", "question": "cause", "label": 0}
SENTENCE = {
    "task_id": 11, "text": "Give 1.", "code": "def f(): return 1", "test_setup_code": "",
    "test_list": ["assert f() == 1"] * 3,
}  # fmt: skip
EXERCISE = {
    "problem_id": 1, "question": "Print 1.", "difficulty": "introductory", "starter_code": "",
    "solutions": '["print(1)"]', "input_output": '{"inputs": [""], "outputs": ["1"]}',
}  # fmt: skip
CASES = {"input": ["1"], "output": ["1"]}
CONTEST = {
    "name": "one", "description": "Print it.", "public_tests": CASES, "private_tests": CASES,
    "generated_tests": CASES, "solutions": {"language": [3], "solution": ["print(1)"]},
    "incorrect_solutions": {"language": [3], "solution": ["print(0)"]},
}  # fmt: skip


def benchmark(kind: type, folder: Path, **settings: Any) -> object:
    made = kind(path=folder, cache_dir=folder.with_name("cache"), **settings)
    return made.fingerprint(), made.load()


def prompts(folder: Path) -> object:
    path = ROOT / "scripts" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.read_prompts(None, folder / "prompts.txt")


TEXT = (
    "empty", "half", "zeros", "list", "mapping", "null", "number", "surrogate", "NaN", "infinite",
    "deep",
)  # fmt: skip
KINDS: dict[str, Kind] = {
    "a run's config": Kind(
        "abc/config.yaml", finished_run, lambda f: read_config(f / "abc"), ("half", "infinite")
    ),
    "a report": Kind("abc/report.json", unmarked, lambda f: read_report(f / "abc")),
    "a finished run's report": Kind("abc/report.json", finished_run, lambda f: is_done(f / "abc")),
    "what became of a run": Kind(
        "abc/state.json",
        queued_run,
        lambda f: state_of(f / "abc", OmegaConf.create({})),
        ("mapping", "infinite"),
    ),
    "DONE": Kind("abc/DONE", finished_run, lambda f: is_done(f / "abc"), ("empty",)),
    "metrics": Kind("metrics.jsonl", metrics, go_on),
    "a finished training's metrics": Kind(
        "metrics.jsonl", metrics, lambda f: read_records(f / "metrics.jsonl"), ("empty",)
    ),
    "a run's checkpoint": Kind("last.ckpt", run_checkpoint, resume_checkpoint),
    "scores": Kind("evaluation/test.json", scores, score_from_files, ("infinite",)),
    "a batch of samples": Kind("000001.parquet", fill_shards, lambda f: shards(f).read()),
    "a tokenizer's settings": Kind("tokenizer.json", tokenizer, Tokenizer.load),
    "a tokenizer's vocabulary": Kind("tokenizer.model", tokenizer, Tokenizer.load),
    "a vocabulary from elsewhere": Kind(
        "tokenizer.model",
        sentence_piece,
        lambda f: BPETokenizer(model=str(f)).fit([], f, ""),
    ),
    "a tokenizer of transformers": Kind(
        "tokenizer.json",
        fast_tokenizer,
        lambda f: PretrainedTokenizer(str(f)).fit([], f, ""),
    ),
    "our config": Kind("config.json", lambda f: decoder(f, "native"), read_checkpoint),
    "our weights": Kind("model.safetensors", lambda f: decoder(f, "native"), read_checkpoint),
    "our end tokens": Kind(
        "generation_config.json",
        lambda f: decoder(f, "native"),
        read_checkpoint,
        ("mapping", "infinite"),
    ),
    "transformers' config": Kind("config.json", lambda f: decoder(f, "hf"), read_checkpoint),
    "transformers' weights": Kind("model.safetensors", lambda f: decoder(f, "hf"), read_checkpoint),
    "transformers' index": Kind(
        "model.safetensors.index.json", hugging_face_index, read_checkpoint
    ),
    "torch's weights": Kind("pytorch_model.bin", hugging_face_torch, read_checkpoint),
    "Llama's params": Kind("params.json", lambda f: decoder(f, "llama"), read_checkpoint),
    "Llama's weights": Kind("consolidated.00.pth", lambda f: decoder(f, "llama"), read_checkpoint),
    "a cache's sizes": Kind("splits.json", cached, cached, ("mapping",)),
    "a cache's rows": Kind("train.arrow", cached, cached),
    "packed tokens": Kind("tokens.bin", packed, packed, ("random", "zeros")),
    "a list of packed tokens": Kind("index.json", packed, packed),
    "tokens": Kind("tokens/a.arrow", token_cache, read_token_cache),
    "GSM8K": Kind(
        "train.jsonl",
        lambda f: write(f, train__jsonl=SUMS, test__jsonl=SUMS),
        lambda f: load(GSM8K, f, validation_size=5),
    ),
    "MultiRC": Kind(
        "train.jsonl",
        lambda f: write(f, train__jsonl=CHOICES, val__jsonl=CHOICES),
        lambda f: load(MultiRC, f, validation_size=5),
    ),
    "summaries": Kind(
        "train.jsonl",
        lambda f: write(f, train__jsonl=ABSTRACTS, dev__jsonl=ABSTRACTS, test__jsonl=ABSTRACTS),
        lambda f: benchmark(Summaries, f, source="scitldr"),
    ),
    "official questions": Kind(
        "train-easy/arithmetic__add_sub_multiple.txt",
        official,
        lambda f: load(
            Arithmetic,
            f,
            train_per_difficulty=9,
            validation_per_difficulty=3,
            test_size=3,
            difficulties=["easy"],
        ),
        ("half",),
    ),
    "rJokes": Kind(
        "dev.tsv",
        lambda f: write(f, dev__tsv=JOKES, test__tsv="1\tAnother.\n"),
        lambda f: load(
            RJokes, f, validation_size=2, max_train=None, max_test=None, max_characters=99
        ),
        ("half",),
    ),
    "questions": Kind(
        "copa/val.jsonl",
        lambda f: write(f / "copa", val__jsonl=lines(COPA, COPA, COPA)),
        lambda f: Questions(["copa"], {}, f / "cache", path=f).rows("copa"),
    ),
    "HumanEval": Kind(
        "rows.jsonl",
        lambda f: write(f, rows__jsonl=lines(FUNCTION, FUNCTION, FUNCTION)),
        lambda f: benchmark(HumanEval, f),
    ),
    "HumanEval's parquet": Kind(
        "rows.parquet",
        lambda f: (f.mkdir(), pd.DataFrame([FUNCTION] * 9).to_parquet(f / "rows.parquet"))[0],
        lambda f: benchmark(HumanEval, f),
    ),
    "MBPP": Kind(
        "rows.jsonl",
        lambda f: write(f, rows__jsonl=lines(*({**SENTENCE, "task_id": n} for n in (11, 12, 601)))),
        lambda f: benchmark(MBPP, f),
    ),
    "APPS": Kind(
        "test.jsonl",
        lambda f: write(f, test__jsonl=lines(EXERCISE, EXERCISE, EXERCISE)),
        lambda f: benchmark(
            APPS, f, difficulties=["introductory"], max_solutions=None, validation_share=0.1
        ),
    ),
    "CodeContests": Kind(
        "test.jsonl",
        lambda f: write(f, test__jsonl=lines(CONTEST, CONTEST, CONTEST)),
        lambda f: benchmark(
            CodeContests,
            f,
            max_solutions=None,
            max_characters=None,
            validation_share=0.1,
            test_share=0.1,
        ),
    ),
    "rows": Kind(
        "rows.jsonl",
        lambda f: write(f, rows__jsonl=lines({"text": "a"}, {"text": "bcd"})),
        lambda f: corpus(
            HubCorpus, f, hub="a/b", config=None, split="train", column="text", name="rows"
        ),
        ("empty",),
    ),
    "a parquet file": Kind(
        "rows.parquet",
        lambda f: (f.mkdir(), pd.DataFrame({"text": ["a"] * 50}).to_parquet(f / "rows.parquet"))[0],
        lambda f: corpus(
            HubCorpus, f, hub="a/b", config=None, split="train", column="text", name="rows"
        ),
    ),
    "a text": Kind(
        "a.txt", lambda f: write(f, a__txt="A text.\n" * 9), lambda f: corpus(TextFiles, f), TEXT
    ),
    "prompts": Kind("prompts.txt", lambda f: write(f, prompts__txt="One.\nTwo.\n"), prompts, TEXT),
    "a table": Kind(
        "a.csv",
        lambda f: write(f, a__csv=(ROOT / "results/tables/cpu/ntl-2.csv").read_text()),
        lambda f: read_csv(f / "a.csv"),
        ("half",),
    ),
    "a config in YAML": Kind(
        "a.yaml",
        lambda f: write(f, a__yaml="a: 1\nb: 2\n"),
        lambda f: read_yaml(f / "a.yaml", "get it again"),
        ("half", "infinite"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The undamaged folder of a kind, made once."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("whole") / "folder"
            KINDS[name].make(made[name])
        return made[name]

    return get


def in_one_line(error: BaseException, folder: Path, file: str) -> None:
    text = str(error)
    assert "\n" not in text and len(text) < 700, text
    assert Path(file).name in text or str(folder) in text, text


@pytest.mark.parametrize("name", KINDS)
def test_a_whole_file_is_read(name: str, whole: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole(name), tmp_path / "copy"))
    if name not in ("transformers' index", "torch's weights"):  # those hold no model
        KINDS[name].read(folder)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_one_line(
    name: str, damage: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    kind = KINDS[name]
    folder = Path(shutil.copytree(whole(name), tmp_path / "copy"))
    path = folder / kind.file
    content = DAMAGES[damage](path.read_bytes())
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    try:
        kind.read(folder)
    except (UsageError, RunError) as error:
        in_one_line(error, folder, kind.file)
    else:
        assert damage in kind.valid, f"{name} was read"


VALUES: list[Any] = [None, -1, 0.5, 10**30, 10**400, float("inf"), "x", [], {"a": {}}]
# Keys that files of others may have.
MORE = (
    "ffn_dim_multiplier", "use_scaled_rope", "rope_scaling_factor", "max_seq_len", "n_kv_heads",
    "n_future_tokens", "rope_scaling", "rope_parameters", "layer_types", "sliding_window",
    "head_dim",
)  # fmt: skip
OF_OTHERS = ("transformers' config", "Llama's params")
JSON_KINDS = [name for name, kind in KINDS.items() if kind.file.endswith(".json")]


def paths_in(values: Any, start: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a JSON value has values, the deeper ones included; not the ids of a vocabulary."""
    items = values.items() if isinstance(values, dict) else ()
    for key, value in items:
        yield (*start, key)
        if len(start) < 2:
            yield from paths_in(value, (*start, key))


@pytest.mark.parametrize("name", JSON_KINDS)
def test_a_wrong_value_is_read_or_refused_in_one_line(
    name: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    kind = KINDS[name]
    folder = Path(shutil.copytree(whole(name), tmp_path / "copy"))
    path = folder / kind.file
    original = json.loads(path.read_text())
    places = list(paths_in(original))
    places += [(key,) for key in MORE if name in OF_OTHERS and key not in original]
    for place in places:
        for value in VALUES:
            values = json.loads(json.dumps(original))
            inner = values
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            path.write_text(json.dumps(values))
            try:
                kind.read(folder)
            except (UsageError, RunError) as error:
                in_one_line(error, folder, kind.file)
            except Exception as error:
                raise AssertionError(f"{name}: {place}={value!r}") from error


@pytest.mark.parametrize("name", ["our weights", "transformers' weights", "Llama's weights"])
def test_a_flipped_bit_in_weights_is_refused(
    name: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    flip_bits(KINDS[name], Path(shutil.copytree(whole(name), tmp_path / "copy")))


def test_a_flipped_bit_in_a_runs_checkpoint_is_refused(
    whole: Callable[[str], Path], tmp_path: Path
) -> None:
    name = "a run's checkpoint"
    flip_bits(KINDS[name], Path(shutil.copytree(whole(name), tmp_path / "copy")))


def flip_bits(kind: Kind, folder: Path) -> None:
    """Flip bits of a weight, found by its bytes: the file then still loads by itself."""
    path = folder / kind.file
    kind.read(folder)
    content = path.read_bytes()
    weights = weight_of(path)
    start = content.index(weights)
    for position in (start, start + len(weights) // 2, start + len(weights) - 1):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert weight_of(path) != weights
        with pytest.raises(RunError, match=kind.file):
            kind.read(folder)


def weight_of(path: Path) -> bytes:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        values = load_file(path)
    else:
        values = torch.load(path, weights_only=True)
        values = values.get("module", values)
    return max(values.values(), key=torch.Tensor.numel).numpy().tobytes()


def test_a_file_without_our_digest_is_read(tmp_path: Path) -> None:
    """As others write them: a hub's safetensors, and torch's without checksums."""
    from beyond_ce.checkpoints.files import read_tensors

    tensors = {"a": torch.arange(3.0)}
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(tensors, tmp_path / "c.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    for name in ("a.safetensors", "b.pth", "c.pth"):
        try:
            assert torch.equal(read_tensors(tmp_path / name)["a"], tensors["a"])
        except RunError:
            assert name == "b.pth"  # which torch does not map into memory


def test_json_has_one_reader() -> None:
    """Other modules read JSON through storage/reading, which knows all that can be wrong."""
    package = ROOT / "src" / "beyond_ce"
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"\bjson\.loads?\(", path.read_text(encoding="utf-8"))
    }
    # Processes talk to each other in JSON: the generator's, and those of the sandbox.
    talk = {"data/deepmind_generator.py", "data/generation.py", "benchmarks/sandbox.py"}
    sandbox = {"sandbox.py", "inside/server.py", "inside/wire.py"}
    talk |= {f"evaluation/code_execution/{name}" for name in sandbox}
    assert users == {"storage/reading.py"} | talk


def test_every_data_set_is_above() -> None:
    """A data set that is added needs a line in `KINDS`, unless it reads no files."""
    damaged = {"gsm8k", "multirc", "rjokes", "text_files", "hub_corpus", "arithmetic"}
    damaged |= {"humaneval", "mbpp", "apps", "code_contests", "summaries"}
    as_hub_corpus = {"books", "github_code", "wikipedia", "tinystories"}
    as_arithmetic = {"mathematics"}
    without_files = {"multiplication", "python_docs", "python_source", "sums", "continuations"}
    without_files |= {"code_tasks", "contest_tasks", "expressions", "polynomials", "agreement"}
    without_files |= {"markov_chain", "choice_language", "generated_stories"}
    mixed = {"mixed_text", "tinystories_with_books", "own_text"}  # of the corpora above
    names = {path.stem for path in (CONF_DIR / "dataset").glob("*.yaml")}
    bases = {re.sub("_(100k|all|packed)$", "", name) for name in names}
    assert bases == damaged | as_hub_corpus | as_arithmetic | without_files | mixed
