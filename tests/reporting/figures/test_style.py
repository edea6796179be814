import numpy as np
import pytest
from matplotlib.colors import LogNorm

from beyond_ce.reporting.figures.style import COLORS, OTHER, color_of, norm_of, split_loss


@pytest.mark.parametrize(
    ("label", "rest", "loss"),
    [
        ("CE", "", "CE"),
        ("T5 NTL-WAS λ=0.3", "T5", "NTL-WAS"),
        ("GPT-2 medium CE", "GPT-2 medium", "CE"),
        ("NTL-WAS, digit", "digit", "NTL-WAS"),
        ("NTL-WAS-CDF", "NTL-WAS-CDF", None),
        ("GCE", "GCE", None),
        ("Ridge on TF-IDF", "Ridge on TF-IDF", None),
    ],
)
def test_a_label_is_a_loss_and_the_rest(label, rest, loss):
    assert split_loss(label) == (rest, loss)
    assert color_of(label) == (COLORS[loss] if loss else OTHER)


def test_colours_are_logarithmic_over_orders_of_magnitude():
    assert not isinstance(norm_of(np.array([0.1, 1.0, np.nan])), LogNorm)
    assert isinstance(norm_of(np.array([0.1, 100.0])), LogNorm)
    assert not isinstance(norm_of(np.array([0.0, 100.0])), LogNorm)
    assert norm_of(np.array([np.nan]))(0.5) == 0.5
