"""Runs that start from the weights of another run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from beyond_ce.configuration import CONF_DIR, compose
from beyond_ce.errors import RunError, UsageError
from beyond_ce.models import LanguageModel
from beyond_ce.reporting.tables import Job, load_table
from beyond_ce.reproduction.launch import run_local
from beyond_ce.reproduction.plan import Plan
from beyond_ce.reproduction.write import keep_reports
from beyond_ce.runs import experiment
from beyond_ce.runs.assembly import build_model, load_run
from beyond_ce.runs.experiment import run
from beyond_ce.runs.identity import kept_folder, run_folder, run_hash
from beyond_ce.runs.kept import keep_weights
from beyond_ce.runs.preparation import Prepared
from beyond_ce.runs.source import (
    check_source,
    source_folder,
    source_tokenizer,
    start_weights,
    weights_digest,
)
from beyond_ce.runs.start import lacks_source, with_source
from beyond_ce.runs.store import is_done, read_config, read_report

Compose = Callable[..., DictConfig]

MODELS = {
    "T5": [],
    "decoder": ["model=decoder_smallest"],
    "GPT-2": ["model=gpt2_tiny"],
    "XVal": ["model=xval_smallest", "tokenizer=xval", "head=xval", "loss=xval"],
}


@pytest.fixture
def starting(smoke_overrides: list[str]) -> Compose:
    """`starting(source's overrides, overrides of the run that starts from it)`."""
    shared = [o for o in smoke_overrides if not o.startswith(("experiment", "results", "trainer"))]
    shared.append("trainer.max_steps=4")

    def compose_both(source: list[str], *overrides: str) -> DictConfig:
        items = ",".join(f"'{override}'" for override in [*shared, *source])
        start = ["start=run", "start.experiment=ntl/arithmetic/smoke"]
        start.append(f"start.overrides=[{items}]")
        return compose([*smoke_overrides, *source, "trainer.max_steps=4", *start, *overrides])

    return compose_both


def weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def started(config: DictConfig) -> LanguageModel:
    """The model of a config before its first step."""
    config = with_source(config)
    tokenizer = source_tokenizer(config)
    assert tokenizer is not None
    torch.manual_seed(config.seed)
    model = build_model(config, tokenizer)
    start_weights(model, config)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_a_run_starts_with_the_weights_and_the_tokenizer_of_another(
    name: str, starting: Compose
) -> None:
    config = with_source(starting(MODELS[name], "optimizer.lr=0.5"))
    source = run(config.start.source)
    trained, tokenizer, _ = load_run(source, "last")
    model = started(config)
    assert weights(model).keys() == weights(trained).keys()
    for key, tensor in weights(model).items():
        assert torch.equal(tensor, trained.state_dict()[key]), key
    folder = run(config)
    assert read_report(folder)["steps"] == 4  # its own, with an optimizer of its own
    assert tokenizer.fingerprint() == load_run(folder, "last")[1].fingerprint()
    assert folder != source and read_config(folder).start.source.optimizer.lr != 0.5


def test_a_learned_vocabulary_is_the_sources_own(
    starting: Compose, smoke_overrides: list[str], official_data: Path
) -> None:
    """Even where the run's own data would give another."""
    other = official_data.parents[1] / "other_texts"
    if not other.exists():
        shutil.copytree(official_data, other)
        for path in other.glob("train-*/*.txt"):
            path.write_text(path.read_text().replace("What is", "Please compute the value of"))
    subword = ["tokenizer=subword", "tokenizer.vocab_size=300"]
    config = with_source(starting(subword, f"dataset.path={other}"))
    source = run(config.start.source)
    folder = run(config)
    saved = [(f / "tokenizer" / "tokenizer.json").read_text() for f in (source, folder)]
    assert saved[0] == saved[1]
    alone = compose([*smoke_overrides, *subword, "trainer.max_steps=4", f"dataset.path={other}"])
    assert (run(alone) / "tokenizer" / "tokenizer.json").read_text() != saved[0]


def test_the_first_steps_differ_only_by_the_weights(starting: Compose) -> None:
    """With a rate of almost 0 it scores as its source does."""
    config = with_source(starting([], "optimizer.lr=1e-12", "seed=0"))
    metrics = read_report(run(config.start.source))["metrics"]
    again = read_report(run(config))["metrics"]
    assert again["validation/loss"] == pytest.approx(metrics["validation/loss"], rel=1e-5)


def test_heads_may_change(starting: Compose) -> None:
    """(4, 4), (4, 1) and (1, 4) of the MTP paper: as many heads as both have are copied."""
    four = ["model=decoder_smallest", "head=multi_token", "model.num_layers=6"]
    trained = run(with_source(starting(four)).start.source)
    source, _, _ = load_run(trained, "last")
    one = started(starting(four, "head=lm", "model.num_layers=3"))
    tokens = torch.arange(8)[None] % 5
    with torch.no_grad():
        expected = source.logits(tokens)[:, :, 0]
        assert torch.equal(one.logits(tokens)[:, :, 0], expected)
        same = started(starting(four))
        assert torch.equal(same.logits(tokens), source.logits(tokens))


def test_a_value_head_starts_from_a_text_model_and_back(starting: Compose) -> None:
    value = ["head=regression", "loss=mse", "trainer.max_steps=4"]
    config = with_source(starting([], *value))
    source, _, _ = load_run(run(config.start.source), "last")
    model = started(config)
    for key, tensor in weights(model).items():
        if key.startswith("encoder"):
            assert torch.equal(tensor, source.state_dict()[key]), key
    back = with_source(starting(value, "head=lm", "loss=ce"))
    run(back.start.source)
    with pytest.raises(UsageError, match=r"has no such weights for decoder\.\S+, the model"):
        run(back)


def test_equal_sources_give_equal_runs_however_they_are_named(starting: Compose) -> None:
    plain = starting([], "loss=ntl_was")
    by_recipe = with_source(plain)
    assert run_hash(by_recipe) != run_hash(OmegaConf.merge(plain, {"start": None}))
    folder = run(by_recipe.start.source)
    by_folder = plain.copy()
    by_folder.start = compose(["start=checkpoint", f"start.path={folder}"]).start
    assert run_hash(with_source(by_folder)) == run_hash(by_recipe)
    # Where the source is, and how it was written, defines nothing.
    reordered = plain.copy()
    reordered.start.overrides = list(reversed(plain.start.overrides))
    assert run_hash(with_source(reordered)) == run_hash(by_recipe)
    for change in ("start.checkpoint=best", "start.weights=bfloat16"):
        key, value = change.split("=")
        other = by_recipe.copy()
        OmegaConf.update(other, key, value)
        assert run_hash(other) != run_hash(by_recipe)
    other = plain.copy()
    other.start.overrides = [*plain.start.overrides, "trainer.max_steps=5"]
    assert run_hash(with_source(other)) != run_hash(by_recipe)


def test_seeds_of_sources_go_round(starting: Compose) -> None:
    seeds = [
        with_source(starting([], f"seed={seed}", "start.seeds=[7,8,9]")).start.source.seed
        for seed in range(5)
    ]
    assert seeds == [7, 8, 9, 7, 8]
    assert with_source(starting([], "seed=3")).start.source.seed == 3


def test_random_is_as_without(smoke_config: Compose) -> None:
    config = smoke_config("start=random")
    assert run_hash(with_source(config)) == run_hash(smoke_config())


def test_what_cannot_be_started_from_is_one_line(starting: Compose, tmp_path: Path) -> None:
    config = with_source(starting([]))
    with pytest.raises(UsageError, match=r"is not there: make it with `python scripts/train\.py"):
        run(config)
    folder = run_folder(config.start.source)
    command = "experiment=ntl/arithmetic/smoke"
    folder.mkdir(parents=True)
    with pytest.raises(UsageError, match=f"has not finished: make it with .*{command}"):
        run(config)
    assert not run_folder(config).exists()
    folder.rmdir()
    run(config.start.source)
    larger = starting([])
    larger.model.d_model = 128
    with pytest.raises(
        UsageError, match=r"has .* for .*, the model .*: choose a model of its size"
    ) as error:
        run(larger)
    assert "\n" not in str(error.value)
    shallower = with_source(starting(["model.num_layers=2"], "model.num_layers=1"))
    run(shallower.start.source)
    with pytest.raises(UsageError, match="choose a model of its size, or start=random"):
        run(shallower)
    decoder = starting([])
    decoder.model = compose(["model=decoder_smallest"]).model
    with pytest.raises(UsageError, match="has a T5, from which model Decoder cannot start"):
        run(decoder)
    with pytest.raises(UsageError, match=r"tokenizer\._target_=.*choose its tokenizer"):
        run(starting([], "tokenizer=byte"))
    with pytest.raises(UsageError, match="a baseline has no weights"):
        run(starting([], "baseline=mean"))
    with pytest.raises(UsageError, match="needs a value: add start.experiment="):
        compose(["start=run"])
    with pytest.raises(
        UsageError, match=r"start\.overrides: seed=5 has no effect, as a source has"
    ):
        run(starting(["seed=5"]))
    with pytest.raises(UsageError, match=r"start\.checkpoint=foo: give last or best"):
        run(starting([], "start.checkpoint=foo"))


def test_a_checkpoint_is_what_the_model_calls_pretrained(smoke_config: Compose) -> None:
    own = ["start=checkpoint", "start.path=some/model"]
    with pytest.raises(UsageError, match=r"choose it with tokenizer=pretrained tokenizer\.model="):
        with_source(smoke_config(*own))
    tokenizer = ["tokenizer=pretrained", "tokenizer.model=some/model"]
    config = with_source(smoke_config(*own, *tokenizer))
    assert run_hash(config) == run_hash(smoke_config("model.pretrained=some/model", *tokenizer))


def test_a_killed_run_does_not_start_again(
    starting: Compose, run_in_two: Callable[[DictConfig], Path], tmp_path: Path
) -> None:
    changes = ["trainer.max_steps=8", "trainer.checkpoint_every=2", "loss=ntl_was"]
    config = with_source(starting([], *changes))
    run(config.start.source)
    folder = run_in_two(config)
    whole = config.copy()
    whole.results_dir = str(tmp_path / "whole")
    shutil.copytree(folder.parent, tmp_path / "whole" / "runs")
    shutil.rmtree(run_folder(whole))
    whole.start.source.results_dir = whole.results_dir
    assert read_report(run(whole))["metrics"] == read_report(folder)["metrics"]


def test_a_source_that_was_made_again_with_other_weights_is_noticed(starting: Compose) -> None:
    config = with_source(starting([], "loss=ntl_was"))
    source = run(config.start.source)
    folder = run(config)
    assert read_report(folder)["inputs"]["start"]["source"] == f"start, run {source.name}"
    other = config.start.source.copy()
    other.seed, other.results_dir = 9, str(source.parents[2] / "other")
    for name in ("last.ckpt", "DONE"):
        shutil.copyfile(run(other) / name, source / name)
    (source / "DONE").write_text("")
    with pytest.raises(UsageError, match=rf"{folder.name} was run with start, run {source.name}"):
        run(config)


def test_rounded_weights_equal_those_that_git_keeps(starting: Compose) -> None:
    rounded = with_source(starting([], "start.weights=bfloat16"))
    source = run(rounded.start.source)
    before = weights(started(rounded))
    assert any(
        not torch.equal(v, v.bfloat16().float())
        for v in load_run(source, "last")[0].state_dict().values()
    )
    kept = kept_folder(rounded.start.source)
    written = keep_weights(source, kept, "last")
    assert written == [kept / "tokenizer", kept / "weights.safetensors"]
    digest = weights_digest(rounded)
    shutil.rmtree(source)
    after = weights(started(rounded))
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert weights_digest(rounded) == digest
    run(rounded)
    with pytest.raises(UsageError, match=r"or take its rounded weights with start\.weights=bfl"):
        run(with_source(starting([])))
    path = kept / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match="take it from git again"):
        started(rounded)


def test_a_table_makes_the_runs_that_its_rows_start_from_first(
    starting: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, in order, also those that they start from themselves; then git can keep them."""
    table = load_table(CONF_DIR / "table" / "ntl-2.yaml")
    rows: dict[str, list[str]] = {"CE": [], "NTL-WAS": ["loss=ntl_was"]}
    configs = {
        Job(row, seed, tuple(overrides)): with_source(
            starting([], f"seed={seed}", "start.seeds=[5]", "start.weights=bfloat16", *overrides)
        )
        for row, overrides in rows.items()
        for seed in (0, 1)
    }
    plan = Plan(table, "smoke", configs, "make reproduce-table-ntl-2 SCALE=smoke")
    (first,) = plan.sources()
    assert first.table.id == "ntl-2, starts"
    ((job, source),) = first.configs.items()
    assert job.row.startswith("start experiment=ntl/arithmetic/smoke ") and job.seed == 5
    # A run on several devices is a command: its overrides must name the same run and place.
    again = compose([*job.overrides, f"seed={job.seed}"])
    assert run_folder(again) == run_folder(source)
    assert again.cache_dir == source.cache_dir
    assert run_local(first, run, max_jobs=1) == []
    assert plan.sources() == []
    assert run_local(plan, run, max_jobs=1) == []
    assert is_done(run_folder(source)) and len(plan.missing()) == 0
    kept = {path.parent.name for path in keep_reports(plan) if path.name == "weights.safetensors"}
    assert kept == {run_folder(source).name}
    for folder in [run_folder(source), *(plan.folder(job) for job in configs)]:
        shutil.rmtree(folder)
    assert len(plan.missing()) == 4 and plan.sources() == []  # the kept weights do

    chain = next(iter(configs.values())).copy()
    again = OmegaConf.merge(chain.start, {"weights": "float32", "source": {"seed": 6}})
    OmegaConf.update(chain, "start.weights", "float32")
    OmegaConf.update(chain, "start.source.start", again, force_add=True)
    levels = Plan(table, "smoke", {job: chain}, "").sources()
    assert [[c.seed for c in level.configs.values()] for level in levels] == [[6], [5]]


@pytest.mark.parametrize("tokenizer", ["digit", "subword"])
def test_kept_starts_are_found_from_any_results_dir(tmp_path: Path, tokenizer: str) -> None:
    """So that a recipe with such a start trains everywhere, without making the start again."""
    changes = [f"tokenizer={tokenizer}", "tokenizer.vocab_size=320"]
    start = f"start.overrides={changes}"
    for seed in range(3):
        config = compose(
            [
                *("experiment=ntl/arithmetic/cpu", f"seed={seed}", start, *changes),
                *(f"results_dir={tmp_path}", f"cache_dir={tmp_path}"),
            ]
        )
        config = with_source(config)
        assert not lacks_source(config)
        check_source(config)
        assert source_folder(config) == CONF_DIR.parent / "results" / "reports" / run_hash(
            config.start.source
        )


def test_data_that_draw_random_numbers_leave_the_initial_weights_as_they_are(
    smoke_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As data that a model writes do, when they are made and not found in the cache."""
    prepare = experiment.prepare

    def draws(config: DictConfig) -> Prepared:
        torch.rand(3)
        return prepare(config)

    def trained(name: str) -> dict[str, torch.Tensor]:
        folder = run(smoke_config("trainer.max_steps=1", f"results_dir={tmp_path / name}"))
        return load_run(folder, "last")[0].state_dict()

    first = trained("a")
    monkeypatch.setattr(experiment, "prepare", draws)
    again = trained("b")
    assert all(torch.equal(value, again[name]) for name, value in first.items())
