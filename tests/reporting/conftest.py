import pytest

from beyond_ce.reporting import paper
from beyond_ce.reporting.tables import Column, Contrast, Job, Row, Table


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Two rows that run, one that only the paper has, one split, three seeds."""
    monkeypatch.setattr(paper, "PAPER_DIR", tmp_path)
    (tmp_path / "paper.csv").write_text(
        "split,loss,lambda,accuracy,accuracy_std,MAE\n"
        "test,CE,,0.30,0.01,2.0\n"
        "test,NTL,0.5,0.40,0.02,1.0\n"
        "test,xVal,,0.10,,\n"
    )
    return Table(
        id="toy",
        title="A toy",
        source="Paper, table 0",
        paper="paper.csv",
        experiment="toy/sum",
        seeds={"cpu": [0, 1, 2], "gpu": [0]},
        splits=["test"],
        columns=[
            Column("accuracy", "Accuracy", ".2f", "higher", "accuracy"),
            Column("mae", "MAE", ".1f", "lower", "MAE"),
        ],
        checks=[Column("invalid", "Invalid", ".2f")],
        rows=[
            Row("CE", ["loss=ce"], {"loss": "CE"}),
            Row("NTL λ=0.5", ["loss=ntl", "loss.weight=0.5"], {"loss": "NTL", "lambda": 0.5}),
            Row("xVal", None, {"loss": "xVal"}),
        ],
        baseline="CE",
        contrasts=[
            Contrast("gap", {"NTL λ=0.5": 1, "CE": -1}),
            Contrast("half", {"NTL λ=0.5": 0.5, "CE": -0.5}, share_of="gap"),
        ],
        notes={"cpu": "a toy, on the raw scale"},
    )


def report(accuracy, mae=1.0, **changes):
    return {
        "run": f"{accuracy}-{mae}",
        "metrics": {"test/accuracy": accuracy, "test/mae": mae, "test/invalid": 0.0},
        "commit": "0123456789abcdef",
        "dirty": False,
        "hardware": {"cpu": "A CPU", "cores": 2, "gpu": None},
        "parameters": 212_000,
        "steps": 1500,
        "samples": 96_000,
        "wall_clock_s": 30.0,
        **changes,
    }


@pytest.fixture
def reports():
    return {
        Job("CE", 0, ()): report(0.1, 4.0),
        Job("CE", 1, ()): report(0.2, 5.0),
        Job("CE", 2, ()): report(0.3, 3.0),
        Job("NTL λ=0.5", 0, ()): report(0.32, 3.0),
        Job("NTL λ=0.5", 1, ()): report(0.40, 4.5),
        Job("NTL λ=0.5", 2, ()): report(0.51, 1.0),
    }
