"""README.md and docs/: their commands and Python run, their links lead somewhere, and the numbers
of the README are those of results/."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tokenizers
import torch
import transformers
import yaml

from beyond_ce.configuration import compose
from beyond_ce.reporting.verdicts import Verdict

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = DOCUMENTS[0].read_text(encoding="utf-8")
LONGEST = 170  # lines of the README

TABLES = ROOT / "results" / "tables" / "cpu"
RESULTS = README.split("## Results at a glance")[1].split("\n## ")[0]


def blocks(path: Path, language: str) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


COMMANDS = dict.fromkeys(
    line
    for path in DOCUMENTS
    for block in blocks(path, "bash")
    for line in block.splitlines()
    if line.strip()
)


@pytest.mark.parametrize("line", COMMANDS)
def test_command(line: str) -> None:
    command = shlex.split(line, comments=True)
    if command[0] == "make":
        subprocess.run(["make", "--dry-run", *command[1:]], cwd=ROOT, check=True)
        return
    program, script, *arguments = command
    assert program == "python" and (ROOT / script).exists()
    if script.endswith("train.py"):
        # The first value of each sweep; launchers are Hydra's own and are tested elsewhere.
        overrides = [a.split(",")[0] for a in arguments if "=" in a and "hydra" not in a]
        compose(overrides)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST


def test_the_table_map_lists_every_table() -> None:
    cells = re.findall(r"^\| (`[^|]*`) \|", README, flags=re.MULTILINE)
    listed = [name for cell in cells for name in re.findall("`([^`]*)`", cell)]
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "conf/table").glob("*.yaml"))


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_relative_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_tree_names_packages_that_exist() -> None:
    tree = README.split("src/beyond_ce/ ")[1].split("scripts/")[0]
    named = re.findall(r"^  (\w+)/", tree, re.MULTILINE)
    package = ROOT / "src" / "beyond_ce"
    assert sorted(named) == sorted(p.parent.name for p in package.glob("*/__init__.py"))


# --- numbers ---------------------------------------------------------------------------------


def cell(table: str, row: str, metric: str, spec: str = ".2f", paper: bool = False) -> str:
    """A number of results/tables/cpu as the README shows it."""
    frame = pd.read_csv(TABLES / f"{table}.csv").set_index(["row", "metric"])
    line = frame.loc[(row, metric)]
    if paper:
        return "–" if pd.isna(line["paper"]) else f"{line['paper']:.2f}"
    if line["n_seeds"] == 1:
        return f"{line['mean']:{spec}}"
    return f"{line['mean']:{spec}} ± {line['std']:{spec}}"


def losses(table: str, ce: str, was: str, metric: str, spec: str = ".2f") -> str:
    """CE and NTL-WAS, ours and the paper's, as a line of the README's table ends."""
    cells = [cell(table, row, metric, spec, paper) for paper in (False, True) for row in (ce, was)]
    return f"| {' | '.join(cells)} |"


def heads(metric: str) -> str:
    """Decoding with four heads: transformer heads, linear heads, the paper."""
    cells = [
        cell("mtp-s2", "k = 4", f"code/{metric}"),
        cell("mtp-decoding", "batch 1, k = 4", f"code/{metric}"),
        cell("mtp-s2", "k = 4", f"code/{metric}", paper=True),
    ]
    return f"| {' | '.join(cells)} |"


LINES: dict[str, Callable[[], str]] = {
    "rJokes": lambda: losses("ntl-4", "T5 CE", "T5 NTL-WAS λ=2", "test/rmse"),
    "multiplication": lambda: losses(
        "ntl-5", "Granite CE", "Granite NTL-WAS λ=0.3", "interpolate/mape", ".3f"
    ),
    "arithmetic": lambda: losses("ntl-2", "CE", "NTL-WAS λ=0.3", "interpolate/accuracy", ".3f"),
    "mathematics": lambda: losses(
        "ntl-1", "T5 CE", "T5 NTL-WAS λ=0.3", "interpolate/task_mean_accuracy", ".3f"
    ),
    "MultiRC": lambda: losses("ntl-7", "CE", "NTL-WAS λ=2.0", "test/loss/ce"),
    "tokens per forward": lambda: heads("tokens_per_forward"),
    "speed, one head": lambda: heads("speedup"),
}


VERDICTS = [verdict.value for verdict in Verdict]


def verdicts() -> dict[str, Counter[str]]:
    """Paper -> verdict -> number of claims at scale cpu, from results/claims.md."""
    found: dict[str, Counter[str]] = {"NTL": Counter(), "MTP": Counter()}
    page = (ROOT / "results" / "claims.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Scale cpu$(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    for line in section.splitlines():
        if line.startswith("| `") and line.count("|") == 12:
            cells = [each.strip() for each in line.strip("|").split("|")]
            (verdict,) = [each for each in VERDICTS if cells[1].startswith(each)]
            found[cells[-1].split()[0]][verdict] += 1
    return found


@pytest.mark.parametrize("name", LINES)
def test_a_line_of_the_results_is_that_of_the_tables(name: str) -> None:
    (line,) = [line for line in RESULTS.splitlines() if line.startswith("|") and name in line]
    assert line.endswith(LINES[name]())


def test_every_line_of_the_results_is_checked() -> None:
    rows = [line for line in RESULTS.splitlines() if re.match(r"\|.*\d\.\d", line)]
    assert len(rows) == len(LINES)


def test_the_verdicts_are_those_of_the_claims() -> None:
    text = " ".join(RESULTS.split())
    for paper, counts in verdicts().items():
        assert counts.total() > 15
        numbers = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
        assert f"{paper}'s {counts.total()} claims: {numbers}." in text


def test_the_sizes_are_those_of_the_trained_models() -> None:
    reports = [json.loads(p.read_text()) for p in (ROOT / "results/reports").glob("*/report.json")]
    trained, heads_only = [], []
    for r in reports:
        if r["scale"] == "cpu" and r["steps"] >= 100:
            pretrained_model = r["config"]["model"].get("pretrained")
            (heads_only if pretrained_model else trained).append(r["parameters"])
    assert min(heads_only) > 134.5e6 and "of 135 M" in RESULTS
    assert f"{min(trained) / 1e6:.2f} to {max(trained) / 1e6:.1f} M parameters" in RESULTS


def test_the_costs_are_those_of_the_page_on_performance() -> None:
    bullet = RESULTS.split("- **What it costs to train**")[1].split("\n\n")[0]
    numbers = re.findall(r"\d+\.\d+", bullet)
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert numbers and set(numbers) <= set(re.findall(r"\d+\.\d+", page))


def test_the_page_on_performance_has_the_numbers_of_the_table_of_runtimes() -> None:
    page = " ".join((ROOT / "docs" / "performance.md").read_text(encoding="utf-8").split())
    frame = pd.read_csv(TABLES / "ntl-runtime.csv").set_index(["row", "metric"])
    for part, words in (("loss", "for the loss alone"), ("step", "longer for the whole step")):
        line = 100 * frame.loc[("NTL-WAS", f"{part}/slowdown_minus_baseline")]
        interval = f"{line['mean']:.1f}% [{line['ci_low']:.1f}, {line['ci_high']:.1f}]"
        assert interval in page and words in page


# --- Python ----------------------------------------------------------------------------------


def pretrained(folder: Path) -> Any:
    """A tiny Llama and its tokenizer in transformers' format; returns the model."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=257,  # bytes and nothing else
        special_tokens=["<end>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["12 + 30 = 42"], trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    fast.save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=len(fast),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return model


def multi_token(folder: Path, n: int = 4, dim: int = 16, vocabulary: int = 40) -> None:
    """A checkpoint in the layout of the released models: two layers, and n - 1 extra heads."""
    folder.mkdir()
    sizes = {"dim": dim, "n_layers": n + 1, "n_heads": 2, "vocab_size": vocabulary}
    params = {**sizes, "multiple_of": 16, "norm_eps": 1e-5}
    (folder / "params.json").write_text(json.dumps(params))
    draw = torch.Generator().manual_seed(0)
    shapes = {"tok_embeddings": (vocabulary, dim), "output": (vocabulary, dim), "norm": (dim,)}
    hidden = 48  # 8/3 of 16 is 43, and 48 the next multiple of 16
    for prefix in ["layers.0", "layers.1", *(f"extra_heads.{i}" for i in range(n - 1))]:
        shapes |= {f"{prefix}.attention.w{part}": (dim, dim) for part in "qkvo"}
        shapes |= {f"{prefix}.feed_forward.w{part}": (hidden, dim) for part in (1, 3)}
        shapes |= {f"{prefix}.feed_forward.w2": (dim, hidden)}
        shapes |= {f"{prefix}.{part}_norm": (dim,) for part in ("attention", "ffn")}
    weights = {
        f"{name}.weight": torch.randn(shape, generator=draw) if len(shape) > 1 else torch.ones(dim)
        for name, shape in shapes.items()
    }
    torch.save(weights, folder / "consolidated.00.pth")


def readers_names(path: Path) -> dict[str, Any]:
    """What a page takes for granted that its readers have."""
    model = pretrained(Path("my-model"))
    multi_token(Path("my-multi-token-model"))
    digits = transformers.AutoTokenizer.from_pretrained("my-model")("7412", return_tensors="pt")
    input_ids = digits["input_ids"].repeat(4, 2)
    vocabulary = model.config.vocab_size
    logits = torch.randn(4, 7, vocabulary, requires_grad=True)
    row = {"input_ids": input_ids[0].tolist(), "labels": input_ids[0].tolist()}
    arguments = transformers.TrainingArguments(
        "trainer",
        max_steps=2,
        gradient_accumulation_steps=2,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    names = {
        "README.md": {"prompts": [[5, 6, 7], [8, 9]]},
        "running.md": {},
        "use_parts.md": {
            "model": model, "input_ids": input_ids, "arguments": arguments, "rows": [row] * 8
        },
    }  # fmt: skip
    return {"logits": logits, "labels": input_ids[:, 1:], **names[path.name]}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], dict[str, Any]]:
    """`run(path)` runs the Python of a page, in a folder with its models; returns its names."""

    def run_blocks(path: Path) -> dict[str, Any]:
        monkeypatch.chdir(tmp_path)
        names = readers_names(path)
        for block in blocks(path, "python"):
            exec(compile(block, path.name, "exec"), names)
        return names

    return run_blocks


def test_the_python_of_the_readme(run: Callable[[Path], dict[str, Any]]) -> None:
    names = run(ROOT / "README.md")
    values, out = names["number_values"], names["loss"](names["logits"], names["labels"])
    assert sorted(values[values.isfinite()].tolist()) == list(range(10))
    assert out.terms["ntl"] > 0
    torch.testing.assert_close(out.total, out.terms["ce"] + 0.3 * out.terms["ntl"])
    assert names["logits"].grad.abs().sum() > 0
    assert [len(new) for new in names["generated"].tokens] == [32, 32]


def test_the_python_of_the_page_on_parts(run: Callable[[Path], dict[str, Any]]) -> None:
    names = run(ROOT / "docs" / "use_parts.md")
    assert set(names["terms"]) == {"ce", "head2/ce", "head3/ce", "head4/ce"}


def test_the_python_of_the_page_on_runs(run: Callable[[Path], dict[str, Any]]) -> None:
    found = run(ROOT / "docs" / "running.md")["found"]
    assert (found.verdict, found.stdout) == ("passed", "144\n")


def test_no_python_stands_untested() -> None:
    tested = {"README.md", "use_parts.md", "running.md"}
    assert {path.name for path in DOCUMENTS if blocks(path, "python")} == tested


# --- citation --------------------------------------------------------------------------------


def test_the_citation_names_this_version_and_both_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert f'version = "{citation["version"]}"' in (ROOT / "pyproject.toml").read_text()
    papers = {i["value"] for each in citation["references"] for i in each["identifiers"]}
    assert papers == {"arXiv:2411.02083", "arXiv:2404.19737"}
    for paper in papers:
        assert f"https://arxiv.org/abs/{paper.removeprefix('arXiv:')}" in README
