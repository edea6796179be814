"""A run is skipped, resumed or averaged only with the data and weights that it read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from transformers import T5Config, T5ForConditionalGeneration

from beyond_ce.configuration import compose
from beyond_ce.data import files
from beyond_ce.errors import RunError, UsageError
from beyond_ce.reproduction.plan import Plan, plan
from beyond_ce.runs import experiment, inputs
from beyond_ce.runs.experiment import run
from beyond_ce.runs.identity import run_folder
from beyond_ce.runs.inputs import check_same_inputs, current_inputs
from beyond_ce.runs.scoring import score_again
from beyond_ce.runs.store import read_report
from beyond_ce.training import Stopped, Trainer

SIZES = [f"model.{key}" for key in ("dim=16", "num_layers=1", "num_heads=2", "max_length=16")]


def corpus(folder: Path, word: str) -> Path:
    folder.mkdir(parents=True)
    for i in range(40):
        (folder / f"{i}.txt").write_text(f"{word} {i} " * 8)
    return folder


@pytest.fixture
def on(tmp_path: Path) -> Callable[..., DictConfig]:
    """`on(folder, ...)`: two steps of a decoder of no size on the texts in a folder."""

    def config(folder: Path | str, *overrides: str) -> DictConfig:
        return compose(
            [
                *("dataset=text_files", f"dataset.path={folder}", "dataset.sequence_length=16"),
                *("dataset.validation_share=0.2", "dataset.test_share=0.2"),
                *("tokenizer=byte", "model=decoder_tiny", "head=lm", *SIZES),
                *("evaluator=held_out", "evaluator.context=16", "trainer.accelerator=cpu"),
                *("trainer.max_steps=2", "trainer.evaluate_every=1", "trainer.checkpoint_every=1"),
                *("trainer.batch_size=2", "trainer.progress=false", "trainer.num_threads=1"),
                *(f"results_dir={tmp_path / 'results'}", f"cache_dir={tmp_path / 'cache'}"),
                *overrides,
            ]
        )

    return config


def stopped_at(step: int, monkeypatch: pytest.MonkeyPatch, config: DictConfig) -> None:
    ordinary = Trainer._step

    def one(self: Trainer, session: Any) -> None:
        if session.progress.step == step:
            raise Stopped("killed")
        ordinary(self, session)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Trainer, "_step", one)
        run(config)


def refused(config: DictConfig, *names: object) -> None:
    """The run is refused in one line that has these names."""
    with pytest.raises(UsageError, match="put the former back, set another results_dir") as error:
        run(config)
    assert "\n" not in str(error.value)
    for name in names:
        assert str(name) in str(error.value)


def test_other_text_under_the_same_last_name_is_refused(
    on: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = corpus(tmp_path / "a/corpus", "one"), corpus(tmp_path / "b/corpus", "other")
    folder = run(on(one))
    report = read_report(folder)
    entry = report["inputs"]["dataset"]
    assert entry == {"source": f"dataset text_files in {one}", "digest": report["data"]}
    refused(on(other), folder, one, other, entry["digest"][:12])
    same = tmp_path / "c/corpus"
    shutil.copytree(one, same)
    monkeypatch.setattr(experiment, "prepare", lambda _: pytest.fail("prepared"))
    assert run(on(one)) == run(on(same)) == folder


def test_a_stopped_run_goes_on_with_its_own_corpus_only(
    on: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = corpus(tmp_path / "a/corpus", "one"), corpus(tmp_path / "b/corpus", "other")
    stopped_at(1, monkeypatch, on(one))
    folder = run_folder(on(one))
    before = {path: path.read_bytes() for path in folder.glob("*.*")}
    refused(on(other), folder, one, other)
    state = folder / "state.json"  # says why, and goes when the run is finished
    assert str(other) in json.loads(state.read_text())["failed"]
    after = {path: path.read_bytes() for path in folder.glob("*.*") if path != state}
    assert after == before
    report = read_report(run(on(one)))
    assert not state.exists()
    assert report["inputs"]["dataset"]["digest"] == report["data"]
    (folder / "inputs.json").write_text("[]")
    (folder / "DONE").unlink()
    (folder / "report.json").unlink()
    with pytest.raises(RunError, match=r"inputs\.json has damaged inputs: delete its folder"):
        run(on(one))


def test_what_was_stopped_before_its_first_checkpoint_may_change(
    on: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = corpus(tmp_path / "a/corpus", "one"), corpus(tmp_path / "b/corpus", "other")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(experiment, "prepare", lambda _: (_ for _ in ()).throw(Stopped("killed")))
        run(on(one))
    report = read_report(run(on(other)))
    assert report["inputs"]["dataset"]["source"].endswith(str(other))


def test_a_run_whose_data_are_gone_is_skipped_with_a_word(
    on: Callable[..., DictConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = corpus(tmp_path / "a/corpus", "one")
    folder = run(on(one))
    shutil.rmtree(one)
    inputs._warn.cache_clear()
    assert run(on(one)) == folder
    assert f"not compared with what they read: dataset.path={one}" in caplog.text


def test_data_that_change_while_they_are_read_are_noticed(
    on: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = corpus(tmp_path / "a/corpus", "one")
    prepare = experiment.prepare

    def late(config: DictConfig) -> Any:
        (one / "0.txt").write_text("something else\n")
        return prepare(config)

    monkeypatch.setattr(experiment, "prepare", late)
    with pytest.raises(RunError, match="the data changed while they were read"):
        run(on(one))


def test_a_run_is_scored_again_on_its_own_data(
    on: Callable[..., DictConfig], tmp_path: Path
) -> None:
    one, other = corpus(tmp_path / "a/corpus", "one"), corpus(tmp_path / "b/corpus", "other")
    folder = run(on(one))
    assert score_again(folder, "last", [], [])
    with pytest.raises(UsageError, match=r"was trained with dataset .*give its place with"):
        score_again(folder, "last", [], [f"dataset.path={other}"])


def test_a_file_added_to_the_data_root_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEYOND_CE_DATA", str(tmp_path))
    (tmp_path / "rjokes").mkdir()
    for stem in ("dev", "test"):
        rows = "".join(f"{i % 5}\t{stem} joke {i}\n" for i in range(60))
        (tmp_path / "rjokes" / f"{stem}.tsv").write_text(rows)
    config = compose(
        [
            *("experiment=ntl/rjokes/smoke", "baseline=mean", "dataset.validation_size=9"),
            *(f"results_dir={tmp_path / 'results'}", f"cache_dir={tmp_path / 'cache'}"),
        ]
    )
    folder = run(config)
    assert list(read_report(folder)["inputs"]) == ["dataset"]
    assert run(config) == folder
    (tmp_path / "rjokes" / "train.tsv").write_text("3\tanother joke\n")
    refused(config, "dataset rjokes")
    (tmp_path / "rjokes" / "train.tsv").unlink()
    assert run(config) == folder


def weights(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    sizes = {"d_model": 8, "d_ff": 16, "d_kv": 4, "num_heads": 2, "num_layers": 1}
    T5ForConditionalGeneration(T5Config(vocab_size=99, **sizes)).save_pretrained(folder)


def test_other_weights_under_the_same_path_are_refused(
    smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    place = tmp_path / "weights"
    weights(place, 0)
    config = smoke_config("trainer.max_steps=1", f"model.pretrained={place}")
    folder = run(config)
    assert set(read_report(folder)["inputs"]) == {"dataset", "model.pretrained"}
    (place / "notes.md").write_text("what is not read may change")
    assert run(config) == folder
    weights(place, 1)
    refused(config, folder, f"model.pretrained={place}")
    weights(place, 0)
    assert run(config) == folder


def test_a_vocabulary_counts_by_its_content(tmp_path: Path) -> None:
    folder = tmp_path / "release" / "model"
    folder.mkdir(parents=True)
    (folder / "params.json").write_text("{}")
    file = folder.parent / "tokenizer.model"
    found = set()
    for text in ("one", "two"):
        file.write_text(text)
        for name in (file, folder, folder.parent):  # the release's lies one folder up
            config = compose(["tokenizer=sentencepiece", f"tokenizer.model={name}"])
            entry = current_inputs(config)["tokenizer.model"]
            assert entry["source"] == f"tokenizer.model={name}"
            found.add((text, entry["digest"]))
    assert len(found) == len(dict(found)) == 2


def test_reports_of_one_table_agree_on_their_data() -> None:
    config = compose(["experiment=ntl/arithmetic/smoke"])
    other = compose(["experiment=ntl/arithmetic/smoke", "dataset.seed=5"])

    def report(digest: str, **more: Any) -> dict[str, Any]:
        return {"inputs": {"dataset": {"source": f"data {digest}", "digest": digest}}, **more}

    check_same_inputs([("a", config, report("1")), ("b", config, report("1"))])
    check_same_inputs([("a", config, report("1")), ("b", other, report("2"))])
    check_same_inputs([("a", config, report("1")), ("b", config, {})])
    message = r"b read data 2 \(content 2\), and a data 1 \(content 1\): delete"
    with pytest.raises(UsageError, match=message):
        check_same_inputs([("a", config, report("1")), ("b", config, report("2"))])
    with pytest.raises(UsageError, match="b read"):
        check_same_inputs([("a", config, {"data": "1"}), ("b", config, report("2"))])
    with pytest.raises(RunError, match="has damaged inputs"):
        check_same_inputs([("a", config, {"run": "x", "inputs": {"dataset": "1"}})])


def finish(made: Plan, digests: dict[int, str]) -> None:
    """Reports of all runs, whose data have a digest by seed."""
    for job in made.configs:
        folder = made.folder(job)
        folder.mkdir(parents=True)
        entry = {"source": "dataset arithmetic", "digest": digests[job.seed]}
        report = {"run": folder.name, "metrics": {"x": 1.0}, "inputs": {"dataset": entry}}
        (folder / "report.json").write_text(json.dumps(report))


def test_a_row_of_seeds_on_different_data_is_refused(tmp_path: Path) -> None:
    made = plan("ntl-efficiency", "smoke", [0, 1], [f"results_dir={tmp_path}"])
    finish(made, {0: "1", 1: "2"})
    message = r"ntl-efficiency, .*, seed 1 .* read dataset arithmetic \(content 2\)"
    with pytest.raises(UsageError, match=message):
        made.reports(list(made.configs))


def test_a_finished_row_is_compared_with_the_data_that_there_are(tmp_path: Path) -> None:
    made = plan("ntl-efficiency", "smoke", [0], [f"results_dir={tmp_path}"])
    digest = current_inputs(next(iter(made.configs.values())))["dataset"]["digest"]
    finish(made, {0: digest})
    for job in made.configs:
        (made.folder(job) / "DONE").touch()
    assert not made.missing() and made.any_done()
    job = next(iter(made.configs))
    report = json.loads((made.folder(job) / "report.json").read_text())
    report["inputs"]["dataset"]["digest"] = "0"
    (made.folder(job) / "report.json").write_text(json.dumps(report))
    with pytest.raises(UsageError, match="put the former back"):
        made.missing()


def test_measurements_read_no_data(tmp_path: Path) -> None:
    for job, config in plan("mtp-s13", "smoke").configs.items():
        assert current_inputs(config) == {}, job


def test_what_the_hub_holds_counts_by_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BEYOND_CE_DATA", raising=False)
    commits: dict[tuple[str, str], str] = {}

    def fake(name: str, kind: str) -> str | None:
        return commits.get((name, kind))

    for module in (files, inputs):
        monkeypatch.setattr(module, "hub_revision", fake)
    config = compose(
        [
            *("experiment=ntl/gsm8k/smoke", "model=t5_tiny", "model.pretrained=google/t5"),
            *("tokenizer=subword", "tokenizer.model=google/t5", f"cache_dir={tmp_path}"),
        ]
    )
    assert current_inputs(config) == {}
    commits = {("openai/gsm8k", "dataset"): "1" * 40, ("google/t5", "model"): "2" * 40}
    first = current_inputs(config)
    assert set(first) == {"dataset", "model.pretrained", "tokenizer.model"}
    assert first["dataset"]["source"] == f"dataset gsm8k from the hub, openai/gsm8k at {'1' * 12}"
    assert first["model.pretrained"] == {"source": "model.pretrained=google/t5", "digest": "2" * 40}
    commits["openai/gsm8k", "dataset"] = "3" * 40
    second = current_inputs(config)
    assert second["dataset"]["digest"] != first["dataset"]["digest"]
    assert {**second, "dataset": 0} == {**first, "dataset": 0}
