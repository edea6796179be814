from __future__ import annotations

from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from beyond_ce.configuration import build, compose
from beyond_ce.errors import UsageError
from beyond_ce.runs.identity import run_hash

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = sorted(
    str(path.relative_to(ROOT / "conf/experiment").with_suffix(""))
    for path in (ROOT / "conf/experiment").rglob("*.yaml")
)
SCALES = sorted(path.stem for path in (ROOT / "conf/scale").glob("*.yaml"))
MANDATORY = {
    "tokenizer=pretrained": "tokenizer.model=gpt2",
    "dataset=hub_corpus": "dataset.hub=roneneldan/TinyStories",
}
GROUPS = ["dataset", "tokenizer", "head", "loss", "optimizer", "scheduler", "trainer", "logger"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("scale", SCALES)
def test_every_experiment_composes_at_every_scale(experiment: str, scale: str) -> None:
    assert (ROOT / "conf/at_scale" / experiment / f"{scale}.yaml").exists()
    config = compose([f"experiment={experiment}", f"scale={scale}"])
    assert config.scale == scale


@pytest.mark.parametrize(
    "choice",
    [
        f"{path.relative_to(ROOT / 'conf').parent}={path.stem}"
        for group in GROUPS
        for path in sorted((ROOT / "conf" / group).glob("*.yaml"))
    ],
)
def test_every_choice_composes_and_names_a_target(choice: str) -> None:
    needed = [MANDATORY[choice]] if choice in MANDATORY else []
    config = compose([choice, *needed])
    assert config[choice.split("=")[0]]._target_.startswith("beyond_ce.")


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
    assert compose(["experiment=ntl/arithmetic", "scale=gpu"]).model.d_model == 512
    chosen = compose(["experiment=ntl/arithmetic", "scale=gpu", "model=t5_tiny"])
    assert chosen.model.d_model == compose().model.d_model


@pytest.mark.parametrize(
    "override", ["loss=nope", "nope=1", "trainer.nope=1", "experiment=nope", "scale=nope"]
)
def test_unknown_choices_and_keys_are_refused(override: str) -> None:
    with pytest.raises(HydraException):
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
