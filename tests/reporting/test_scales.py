"""What a table has at some scales only."""

from __future__ import annotations

from beyond_ce.configuration import CONF_DIR
from beyond_ce.reporting.scales import table_at
from beyond_ce.reporting.tables import Table, jobs, load_table


def real(table_id: str) -> Table:
    return load_table(CONF_DIR / "table" / f"{table_id}.yaml")


def test_rows_and_metrics_of_one_scale_leave_no_trace_at_others() -> None:
    table = real("ntl-3")
    there, here = table_at(table, "paper"), table_at(table, "cpu")
    assert {row.label for row in there.rows} - {row.label for row in here.rows} == {
        *("GCE σ=2", "GCE σ=2 + NTL-WAS λ=0.3")
    }
    more = {column.metric for column in there.checks} - {column.metric for column in here.checks}
    assert more == {"reference_accuracy", "reference_mae", "reference_r2"}
    assert "GCE σ=2" in {job.row for job in jobs(table, "paper")}
    assert "GCE σ=2" not in {job.row for job in jobs(table, "cpu")}
    assert table_at(there, "paper") == there


def test_another_experiment_takes_the_place_of_the_tables() -> None:
    table = real("ntl-6")
    found = {scale: {job.overrides[0] for job in jobs(table, scale)} for scale in ("cpu", "paper")}
    assert found["cpu"] == {"experiment=ntl/arithmetic/cpu", "experiment=ntl/rjokes/cpu"}
    assert found["paper"] == {"experiment=ntl/mathematics/paper", "experiment=ntl/rjokes/paper"}


def test_a_further_experiment_and_variants_of_one_scale() -> None:
    table = real("mtp-s2")
    paper, cpu = table_at(table, "paper"), table_at(table, "cpu")
    assert [part.experiment for part in paper.parts] == ["mtp/code", "mtp/prose", "mtp/books"]
    assert [part.experiment for part in cpu.parts] == ["mtp/code", "mtp/prose"]
    assert [row.variant for row in paper.rows] == ["k1b42", "k2b42", "k3b42", "k4b42"]
    assert [row.variant for row in cpu.rows] == ["k1", "k2", "k3", "k4"]


def test_contrasts_of_rows_that_are_not_there_are_not_there_either() -> None:
    table = real("mtp-s7")
    cpu, gpu = ({c.label for c in table.at(scale).contrasts} for scale in ("cpu", "gpu"))
    sizes = {f"{size}, n = 4 − n = 1" for size in ("2.1M", "10M", "13B")}
    assert sizes & cpu == {"2.1M, n = 4 − n = 1"}
    assert sizes & gpu == {"10M, n = 4 − n = 1", "13B, n = 4 − n = 1"}  # one is the paper's only
