import math

from beyond_ce.reporting.breakdown import COLUMNS, break_down
from beyond_ce.reporting.numbers import write_csv
from beyond_ce.reporting.tables import Job


def test_task_by_task(table, reports, tmp_path):
    table.breakdown = ["accuracy", "mae"]
    for job, value in [(Job("CE", 0, ()), 0.1), (Job("CE", 1, ()), 0.3)]:
        reports[job]["metrics"]["test/accuracy@b"] = value
    reports[Job("CE", 0, ())]["metrics"] |= {"test/accuracy@a": 0.5, "test/mape@a": 9.0}
    reports[Job("NTL λ=0.5", 0, ())]["metrics"]["test/mae@a"] = 2.0
    frame = break_down(table, reports)
    assert tuple(frame.columns) == COLUMNS
    numbers = frame.set_index(["row", "split", "task", "metric"])
    assert numbers.loc[("CE", "test", "b", "accuracy"), "mean"] == 0.2
    assert numbers.loc[("CE", "test", "b", "accuracy"), "n_seeds"] == 2
    assert numbers.loc[("CE", "test", "a", "accuracy"), "mean"] == 0.5
    # No run of this row has the task: empty, never zero.
    assert math.isnan(numbers.loc[("NTL λ=0.5", "test", "a", "accuracy"), "mean"])
    assert set(numbers.index.get_level_values("metric")) == {"accuracy", "mae"}
    write_csv(frame, tmp_path / "toy-tasks.csv")
    lines = (tmp_path / "toy-tasks.csv").read_text().splitlines()
    assert lines[0] == "row,split,task,metric,mean,std,ci_low,ci_high,n_seeds"
    assert "CE,test,a,accuracy,0.5,,,,1" in lines
    assert "xVal,test,a,accuracy,,,,," in lines
