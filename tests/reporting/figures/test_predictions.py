import numpy as np
import pandas as pd
import pytest

from beyond_ce.reporting.figures import COLORS, number_mass, predicted_against_true
from beyond_ce.reporting.tables import Job


def test_predictions_that_cannot_be_shown_are_counted(tmp_path):
    frame = pd.DataFrame(
        {"target_number": [1.0, -20.0, 300.0], "predicted_number": [1.0, np.nan, 1e10]}
    )
    figure = predicted_against_true({"CE": frame, "NTL-WAS": frame.iloc[:1]})
    figure.savefig(tmp_path / "scatter.png")
    ours = figure.axes[0]
    assert ours.get_title() == "CE\n(1 without a number, 1 off the picture)"
    assert figure.axes[1].get_title() == "NTL-WAS"
    assert ours.get_xscale() == "symlog"
    assert ours.get_ylim()[1] < 1e5


def test_positive_targets_have_a_plain_logarithm(tmp_path):
    frame = pd.DataFrame({"target_number": [1e4, 1e5], "predicted_number": [9e3, -1e5]})
    figure = predicted_against_true({f"model {i} CE": frame for i in range(3)})
    figure.savefig(tmp_path / "scatter.png")
    ax = figure.axes[0]
    assert ax.get_title() == "model 0 CE\n(1 off the picture)"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlim()[0] > 1e3
    assert [each.axison for each in figure.axes] == [True, True, True, False]


def test_number_mass_is_a_panel_per_model_and_a_line_per_loss(tmp_path):
    def mass(*values):
        return {"metrics": {f"test/mass_at_{d}": v for d, v in enumerate(np.tile(values, 10))}}

    reports = {
        Job("T5 CE", 0, ()): mass(0.1),
        Job("T5 CE", 1, ()): mass(0.3),
        Job("T5 NTL-WAS λ=0.3", 0, ()): mass(0.2),
        Job("GPT-2 CE", 0, ()): mass(0.4),
        Job("RT CE", 0, ()): {"metrics": {"test/accuracy": 1.0}},
    }
    figure = number_mass(reports, "test")
    figure.savefig(tmp_path / "mass.png")
    assert [ax.get_title() for ax in figure.axes] == ["T5", "GPT-2"]
    ce, was = figure.axes[0].lines
    assert [ce.get_label(), was.get_label()] == ["CE", "NTL-WAS"]
    assert [ce.get_color(), was.get_color()] == [COLORS["CE"], COLORS["NTL-WAS"]]
    assert ce.get_ydata() == pytest.approx(np.full(10, 0.2))
    assert not number_mass({}, "test").axes[0].lines
