import numpy as np
import pandas as pd
import pytest

from beyond_ce.reporting.claims import Claim, Condition
from beyond_ce.reporting.figures import overview
from beyond_ce.reporting.verdicts import judge


def findings_of(table, reports, **weights):
    claims = [
        Claim(name, "A sentence.", "Paper", "better", "toy", [Condition("test/accuracy", each)])
        for name, each in weights.items()
    ]
    return [judge(claim, table, "cpu", reports) for claim in claims]


@pytest.fixture
def figure(table, reports):
    better, worse = {"NTL λ=0.5": 1.0, "CE": -1.0}, {"NTL λ=0.5": -1.0, "CE": 1.0}
    ntl = findings_of(table, reports, wins=better, loses=worse, wins_too=better)
    mtp = findings_of(table, {}, unrun=better)
    speeds = pd.DataFrame(
        {
            "row": [
                *("batch 1, k = 1", "batch 1, k = 2", "batch 8, k = 2"),
                *("recurrent, batch 1, k = 1", "recurrent, batch 1, k = 2"),
            ],
            "metric": "code/speedup",
            "mean": [1.0, 1.5, 1.2, 1.0, float("nan")],
            "ci_low": float("nan"),
            "ci_high": float("nan"),
            "paper": float("nan"),
        }
    )
    return overview({"ntl": ntl, "mtp": mtp}, {"mtp-decoding": speeds}, "cpu")


def test_claims_are_counted_by_verdict(figure):
    ntl, mtp = figure.axes[2:]
    assert [text.get_text() for text in ntl.texts] == ["2 reproduced", "1 contradicted"]
    assert [text.get_text() for text in mtp.texts] == ["1 not testable here"]
    assert ntl.get_title() == "The paper's 3 claims, tested at scale cpu"
    # The axis at zero, then interval, mean and paper of every claim, those for the claim first.
    means = [line.get_xdata()[0] for line in ntl.lines[2::3]]
    assert means[0] == means[1] > 0 > means[2]


def test_the_speed_is_that_of_one_text_at_a_time(figure):
    ours = figure.axes[1].lines[1]  # after the line of one head
    assert list(ours.get_xdata()) == [1, 2]
    assert list(ours.get_ydata()) == [1.0, 1.5]
    assert "linear heads" in figure.axes[1].texts[0].get_text()
    assert figure.axes[1].texts[0].get_position() == (2.2, 1.5), "beside its last point"


def test_the_losses_are_those_of_half_the_mass_on_a_wrong_digit(figure):
    was, ce = figure.axes[0].lines[:2]
    assert was.get_ydata()[[0, 3, 9]] == pytest.approx([2.0, 0.5, 2.5])  # half the distance to 4
    assert ce.get_ydata()[[0, 3, 9]] == pytest.approx(np.log(2))
