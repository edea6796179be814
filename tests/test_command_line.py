"""What all scripts share: the choices in --help, and what a wrong choice of an experiment tells."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from beyond_ce.command_line import command
from beyond_ce.configuration import choices, experiments
from beyond_ce.errors import RunError, UsageError

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
OPTIONS = (
    "choose one of experiment=ntl/arithmetic/cpu, .../gpu, .../paper, .../smoke, without scale="
)
LOCAL = ["hydra/launcher=local"]
MIXTURE = "/cpu with scale=gpu mixes two scales: use experiment=ntl/arithmetic/gpu"


def call(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / script), *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("script", ["train.py", "prepare_data.py"])
def test_help_lists_the_choices_of_a_run_and_nothing_else(script: str, tmp_path: Path) -> None:
    text = call(script, "--help", cwd=tmp_path).stdout
    before, listed, after = re.split("\n\n(?=experiment: |Change any key)", text)
    assert "group=option" in before and "--cfg job" in after
    listing = " ".join(listed.split("\n  ")).splitlines()
    lines = [line.split(": ") for line in listing]
    shown = [options.split(", each with ") for group, options in lines if group == "experiment"]
    # Experiments with the same scales share a line.
    assert len({scales for _, scales in shown}) == len(shown)
    assert experiments() == {
        name: scales.replace("/", "").split(", ")
        for names, scales in shown
        for name in names.split(", ")
    }
    groups = dict(line for line in lines if line[0] != "experiment")
    assert len(groups) == len(listing) - len(shown)
    assert {group: options.split(", ") for group, options in groups.items()} == choices()
    assert not {"table", "claims"} & groups.keys() and "recipe" not in text


def test_hydras_own_flags_go_on_working(tmp_path: Path) -> None:
    assert "== Flags ==" in call("train.py", "--hydra-help", cwd=tmp_path).stdout
    shown = call("train.py", "--cfg", "all", "--resolve", "experiment=mtp/code/gpu", cwd=tmp_path)
    assert "scale: gpu" in shown.stdout and "${choices:}" not in shown.stdout


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("name", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_a_reader_that_leaves_is_no_error(name: str, buffered: bool, tmp_path: Path) -> None:
    """As in `train.py --help | head -1`: here the reader is gone before anything is written."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / name), "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) in (0, -signal.SIGPIPE)  # argparse catches the error itself


def test_another_pipe_that_breaks_is_an_error() -> None:
    @command()
    def main() -> None:
        raise BrokenPipeError("of a worker")

    with pytest.raises(BrokenPipeError, match="of a worker"):
        main()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["experiment=ntl/arithmetic"],
            f"experiment=ntl/arithmetic is a folder of scales: {OPTIONS}",
        ),
        (["experiment=ntl/arithmetic", "scale=gpu"], f"is a folder of scales: {OPTIONS}"),
        (["experiment=ntl"], "experiment=ntl is a folder of experiments: choose one of ntl/"),
        (
            ["experiment=ntl/arithmetic/recipe"],
            f"is only what its scales have in common: {OPTIONS}",
        ),
        (["experiment=ntl/arithmetic/cpu", "scale=gpu"], MIXTURE),
        (["-m", "experiment=ntl/arithmetic,ntl/rjokes/cpu"], f"is a folder of scales: {OPTIONS}"),
        (["-m", "experiment=ntl/arithmetic/cpu", "scale=gpu", "seed=0,1"], MIXTURE),
        (["-m", "experiment=ntl/arithmetic/cpu", "scale=gpu", "seed=0,1", *LOCAL], MIXTURE),
    ],
    ids=" ".join,
)
def test_an_experiment_without_its_scale_is_one_line(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = call("train.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line and "Traceback" not in done.stderr
    # At the end of a sweep, Hydra tells the overrides of the first job that failed; we name all.
    failed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    if "seed=0,1" in arguments:
        assert [f"seed={i}" in line for i, line in enumerate(failed)] == [True, True]
        assert all(message in line for line in failed)
        assert not list((tmp_path / "multirun").glob("failed*"))
    assert len(done.stderr.splitlines()) == (4 if failed else 1)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("kind", "code"), [(UsageError, 2), (RunError, 1)])
def test_a_commands_error_is_one_line(
    kind: type[Exception], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    @command()
    def main() -> None:
        raise kind("this is wrong:\n  do that")

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == code
    assert capsys.readouterr().err == "error: this is wrong: do that\n"


def test_ctrl_c_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    @command()
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code, capsys.readouterr().err) == (130, "interrupted\n")


def test_a_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    @command()
    def main() -> None:
        raise UsageError("wrong")

    monkeypatch.setenv("BEYOND_CE_TRACEBACK", "1")
    with pytest.raises(UsageError, match="wrong"):
        main()


def test_a_locale_without_utf_8_ends_nothing(tmp_path: Path) -> None:
    program = """
from beyond_ce.command_line import command

@command()
def main():
    print("a → b")

main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (0, b"a ? b\n"), done.stderr


FAULT = """
from beyond_ce.command_line import command
from beyond_ce.errors import keeping

@command(config="train")
def main(config):
    with keeping("it keeps the work"), keeping(f"the folder of seed {config.seed} is kept"):
        raise KeyError("ours")

main()
"""
PLEASE = "error: this is a fault of beyond-ce: please report it with the lines above, see "


def test_a_fault_of_ours_says_where_to_report_it(capsys: pytest.CaptureFixture[str]) -> None:
    @command()
    def main() -> None:
        raise KeyError("ours")

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    errors = capsys.readouterr().err
    assert errors.count("Traceback") == 1 and "KeyError: 'ours'" in errors
    line = errors.splitlines()[-1]
    assert line.startswith(PLEASE)
    section = re.findall("'(.*?)' in README.md", line)
    readme = (SCRIPTS.parent / "README.md").read_text(encoding="utf-8")
    assert section and f"\n## {section[0]}\n" in readme


@pytest.mark.parametrize("sweep", [[], ["-m"], ["-m", *LOCAL]], ids=["run", "sweep", "local"])
def test_a_fault_of_a_run_says_what_is_kept(sweep: list[str], tmp_path: Path) -> None:
    (tmp_path / "fault.py").write_text(FAULT)
    arguments = [*sweep, "experiment=ntl/arithmetic/smoke", "seed=3,4" if sweep else "seed=3"]
    done = call(str(tmp_path / "fault.py"), *arguments, cwd=tmp_path)
    assert done.returncode == 1
    pleas = [line for line in done.stderr.splitlines() if line.startswith(PLEASE)]
    kept = [line.partition("; ")[2] for line in pleas]
    seeds = "34" if sweep else "3"
    assert sorted(kept) == [f"the folder of seed {seed} is kept" for seed in seeds], done.stderr
    assert done.stderr.count("main(config)") == len(seeds)  # a traceback for each
    failed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failed) == (2 if sweep else 0)
