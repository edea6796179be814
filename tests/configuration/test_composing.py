from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from beyond_ce.configuration import build, choices, compose, experiments
from beyond_ce.errors import UsageError
from beyond_ce.runs.identity import run_hash

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = [(name, each) for name, scales in experiments().items() for each in scales]
SCALES = sorted(path.stem for path in (ROOT / "conf/scale").glob("*.yaml"))
ARITHMETIC = (
    "choose one of experiment=ntl/arithmetic/cpu, .../gpu, .../paper, .../smoke, without scale="
)
MANDATORY = {
    "tokenizer=pretrained": "tokenizer.model=gpt2",
    "dataset=hub_corpus": "dataset.hub=roneneldan/TinyStories",
    "dataset=own_text": "dataset.writer.model=my-model",
    "start=run": "start.experiment=ntl/arithmetic/cpu",
    "start=checkpoint": "start.path=my-run",
    "model=decoder_pretrained": "model.pretrained=my-model",
}
WITHOUT_CLASS = {"scale", "hydra/launcher"}


@pytest.mark.parametrize(("experiment", "scale"), EXPERIMENTS)
def test_every_experiment_composes_at_every_scale(experiment: str, scale: str) -> None:
    config = compose([f"experiment={experiment}/{scale}"])
    assert config.scale == scale


@pytest.mark.parametrize(
    "choice",
    [f"{group}={option}" for group, options in choices().items() for option in options],
)
def test_every_choice_composes_and_names_a_target(choice: str) -> None:
    needed = [MANDATORY[choice]] if choice in MANDATORY else []
    group = choice.split("=")[0]
    if group.startswith("head/"):
        needed = ["head=multi_token"]
    config = compose([choice, *needed])
    if group not in WITHOUT_CLASS:
        chosen = OmegaConf.select(config, group.replace("/", "."))
        assert chosen._target_.startswith("beyond_ce.")


def test_all_files_are_choices_but_those_of_tables_and_claims() -> None:
    chosen = {f"{group}/{option}" for group, options in choices().items() for option in options}
    for name, scales in experiments().items():
        chosen |= {f"experiment/{name}/{each}" for each in ["recipe", *scales]}
    conf = ROOT / "conf"
    files = {p.relative_to(conf).with_suffix("").as_posix() for p in conf.rglob("*.yaml")}
    others = {file for file in files if file.split("/")[0] in ("table", "claims", "train")}
    assert chosen == files - others


@pytest.mark.parametrize("choice", MANDATORY)
def test_a_key_without_a_default_is_named(choice: str) -> None:
    key = MANDATORY[choice].split("=")[0]
    with pytest.raises(UsageError, match=f"'{key}' needs a value"):
        compose([choice])


def test_every_yaml_says_what_it_is() -> None:
    for path in (ROOT / "conf").rglob("*.yaml"):
        lines = [line for line in path.read_text().splitlines() if "@package" not in line]
        assert lines[0].startswith("# "), f"{path} has no header comment"


def test_scale_sets_the_model_and_the_command_line_wins() -> None:
    assert compose(["experiment=ntl/arithmetic/gpu"]).model.d_model == 512
    chosen = compose(["experiment=ntl/arithmetic/gpu", "model=t5_tiny"])
    assert chosen.model.d_model == compose().model.d_model


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiment=ntl/arithmetic"], f"=ntl/arithmetic is a folder of scales: {ARITHMETIC}"),
        (["experiment=ntl/arithmetic", "scale=gpu"], f"is a folder of scales: {ARITHMETIC}"),
        (
            ["experiment=ntl/arithmetic/recipe"],
            f"is only what its scales have in common: {ARITHMETIC}",
        ),
        (["experiment=ntl/arithmetic/nope"], f"no experiment=ntl/arithmetic/nope: {ARITHMETIC}"),
        (
            ["experiment=ntl/arithmetic/cpu", "scale=gpu"],
            "/cpu with scale=gpu mixes two scales: use experiment=ntl/arithmetic/gpu",
        ),
        (["experiment=ntl"], "=ntl is a folder of experiments: choose one of ntl/arithmetic, "),
        (["experiment=ntl"], " and its scale, such as experiment=ntl/arithmetic/cpu"),
    ],
)
def test_an_experiment_is_chosen_with_its_scale(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        compose(overrides)
    assert "\n" not in str(error.value)


def test_the_last_experiment_brings_its_own_scale() -> None:
    config = compose(["experiment=ntl/arithmetic/smoke", "experiment=mtp/code/paper"])
    assert config.scale == "paper" and config == compose(["experiment=mtp/code/paper"])


@pytest.fixture
def own_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of conf/ to add to."""
    copy = tmp_path / "conf"
    shutil.copytree(ROOT / "conf", copy)
    monkeypatch.setattr("beyond_ce.configuration.composing.CONF_DIR", copy)
    return copy


def test_an_experiment_of_one_file_goes_with_any_scale(own_conf: Path) -> None:
    (own_conf / "experiment/mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /loss: ntl_was\nseed: 7\n"
    )
    assert experiments()["mine"] == []
    for scale in SCALES:
        config = compose(["experiment=mine", f"scale={scale}"])
        assert (config.scale, config.seed, config.loss.weight) == (scale, 7, 0.3)


def test_an_experiment_may_lack_scales_but_not_leave_its_own_out(own_conf: Path) -> None:
    folder = own_conf / "experiment/mine"
    folder.mkdir()
    (folder / "gpu.yaml").write_text("# @package _global_\nseed: 7\n")
    assert experiments()["mine"] == ["gpu"]
    with pytest.raises(
        UsageError, match=r"mine/gpu.yaml is composed with scale=cpu: add `override /scale: gpu`"
    ):
        compose(["experiment=mine/gpu"])
    (folder / "gpu.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /scale: gpu\n  - _self_\nseed: 7\n"
    )
    assert compose(["experiment=mine/gpu"]).seed == 7
    with pytest.raises(UsageError, match="mixes two scales: choose one of experiment=mine/gpu, "):
        compose(["experiment=mine/gpu", "scale=smoke"])


@pytest.mark.parametrize(
    "override", ["loss=nope", "nope=1", "trainer.nope=1", "experiment=nope", "scale=nope"]
)
def test_unknown_choices_and_keys_are_refused(override: str) -> None:
    with pytest.raises((HydraException, UsageError), match="nope"):
        compose([override])


def test_an_added_key_that_nothing_reads_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown config key 'nope'"):
        compose(["+nope=1"])
    with pytest.raises(UsageError, match="nope"):
        build(compose(["+trainer.nope=1"]).trainer, "trainer")


@pytest.mark.parametrize(
    "override",
    [
        "results_dir=/elsewhere",
        "cache_dir=/elsewhere",
        "logger=wandb",
        "dataset.num_workers=7",
        "trainer.devices=2",
        "trainer.strategy=ddp",
        "trainer.num_threads=2",
        "trainer.checkpoint_every=3",
        "trainer.progress=false",
    ],
)
def test_where_and_how_fast_does_not_rename_a_run(override: str) -> None:
    assert run_hash(compose([override])) == run_hash(compose())


def test_the_place_of_data_within_data_does_not_rename_a_run() -> None:
    packed = ["dataset=code_tasks_packed"]
    assert run_hash(compose([*packed, "cache_dir=/elsewhere"])) == run_hash(compose(packed))


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "loss=ntl_was",
        "trainer.max_steps=7",
        "trainer.batch_size=32",
        "trainer.precision=bf16-mixed",
        "optimizer.lr=0.1",
        "dataset.seed=1",
        "dataset.path=/data/mathematics_dataset-v1.0",
        "model.d_ff=100",
        "evaluator.num_beams=4",
    ],
)
def test_what_defines_the_numbers_renames_a_run(override: str) -> None:
    assert run_hash(compose([override])) != run_hash(compose())


def test_the_same_files_elsewhere_are_the_same_run() -> None:
    here, there = (
        run_hash(compose([f"dataset.path={place}/mathematics_dataset-v1.0"]))
        for place in ("/a", "/b/c")
    )
    assert here == there


def test_a_saved_config_names_the_same_run(tmp_path: Path) -> None:
    config = compose(["loss=ntl_was"])
    OmegaConf.save(config, tmp_path / "config.yaml", resolve=True)
    assert run_hash(OmegaConf.load(tmp_path / "config.yaml")) == run_hash(config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("los=ntl_was", "unknown config key 'los'; known: .*loss"),
        ("tokeniser.vocab_size=3", "unknown config key 'tokeniser'; known: .*tokenizer"),
        ("experiment=ntl/arithmetik/smoke", "no experiment=.*choose one of ntl/arithmetic/smoke"),
        ("experiment=zzz", "no experiment=zzz: choose one of mtp/architectures, "),
    ],
)
def test_a_misspelled_name_is_told_what_there_is(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compose([override])
