"""From arguments to the config of every run."""

import pytest

from beyond_ce.configuration import CONF_DIR
from beyond_ce.errors import UsageError
from beyond_ce.reproduction.plan import argument_parser, plan, plans, table_ids


def test_a_bare_number_means_both_papers(capsys):
    assert table_ids("2") == (["ntl-2"], ["mtp-2"])
    assert table_ids("1") == (["ntl-1", "mtp-1"], [])
    assert table_ids("ntl-6") == (["ntl-6"], [])
    with pytest.raises(UsageError, match="no table '99'; known: .*ntl-1, "):
        table_ids("99")


def test_arguments_name_tables_scale_seeds_and_overrides(monkeypatch, capsys):
    planned = []
    monkeypatch.setattr(
        "beyond_ce.reproduction.plan.plan", lambda *arguments: planned.append(arguments)
    )
    arguments = ["2", "ntl-2", "--scale", "gpu", "--seeds", "4,5", "a.b=3", "ntl-1"]
    plans(argument_parser("").parse_intermixed_args(arguments))
    assert planned == [(each, "gpu", [4, 5], ["a.b=3"]) for each in ("ntl-2", "ntl-1")]
    assert "no table mtp-2" in capsys.readouterr().out
    plans(argument_parser("").parse_intermixed_args(["ntl-2", "--seeds", "auto"]))
    assert planned[-1] == ("ntl-2", "cpu", None, [])
    for wrong in (["a.b=3"], ["ntl-2", "--seeds", "a"]):
        with pytest.raises(UsageError):
            plans(argument_parser("").parse_intermixed_args(wrong))


def test_a_plan_composes_every_run_and_tells_its_command(tmp_path):
    overrides = ["trainer.max_steps=7", f"results_dir={tmp_path}"]
    made = plan("ntl-6", "smoke", [3, 4], overrides)
    assert len(made.configs) == 2 * 4 * 2  # two experiments
    assert {config.seed for config in made.configs.values()} == {3, 4}
    assert {config.trainer.max_steps for config in made.configs.values()} == {7}
    assert made.results == tmp_path
    assert made.command == (
        'make reproduce-table-ntl-6 SCALE=smoke ARGS="--seeds 3,4 trainer.max_steps=7"'
    )
    # The 2x2 takes its digit runs on arithmetic from table 2.
    other = plan("ntl-2", "smoke", [3, 4], overrides)
    assert len(made.missing().keys() & other.missing().keys()) == 4


def test_tables_of_programs_share_their_runs():
    made = {name: plan(name, "smoke") for name in ("mtp-1", "mtp-s12", "mtp-s7", "mtp-s4")}
    runs = {name: set(map(each.folder, each.configs)) for name, each in made.items()}
    assert len(runs["mtp-1"]) == 8 and runs["mtp-s12"] == runs["mtp-1"]
    assert len(runs["mtp-s7"]) == 3 and runs["mtp-s7"] < runs["mtp-1"]
    of = {job.row: made["mtp-s4"].folder(job) for job in list(made["mtp-s4"].configs)[6:]}
    assert {row for row, folder in of.items() if folder in runs["mtp-1"]} == {
        *("Next token, n = 1", "Parallel")
    }


@pytest.mark.parametrize(("scale", "size"), [("smoke", "Smaller"), ("paper", "Larger")])
def test_tables_of_polynomials_share_their_runs(scale, size):
    made = {name: plan(name, scale, [0]) for name in ("mtp-fig8", "mtp-figs15", "mtp-figs16")}
    runs = set(map(made["mtp-fig8"].folder, made["mtp-fig8"].configs))
    assert len(runs) == 3
    for name, shared in (("mtp-figs15", "0 pause tokens"), ("mtp-figs16", size)):
        of = {job.row: made[name].folder(job) for job in made[name].configs}
        assert {row for row, folder in of.items() if folder in runs} == {
            f"{shared}, n = {n}" for n in (1, 2, 4)
        }
        assert len(set(of.values())) == len(of)


TABLES = sorted(path.stem for path in (CONF_DIR / "table").glob("*.yaml"))


@pytest.mark.parametrize("table_id", TABLES)
def test_every_row_of_every_table_composes(table_id):
    assert plan(table_id, "cpu", [0]).configs


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["smoke", "gpu", "paper"])
@pytest.mark.parametrize("table_id", TABLES)
def test_every_row_of_every_table_composes_at_every_scale(table_id, scale):
    assert plan(table_id, scale, [0]).configs


@pytest.mark.parametrize("override", ["seed=3", "scale=gpu", "+experiment=x"])
def test_an_override_that_would_blur_the_rows_is_refused(override):
    with pytest.raises(UsageError, match="a table sets this itself"):
        plan("ntl-2", "smoke", None, [override])
