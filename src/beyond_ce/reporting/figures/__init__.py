"""Figures of the notebooks and of results/figures.

Every function draws tables, reports or closed-form losses and returns a matplotlib figure, but for
`colored_text` and `judged_samples`, which return HTML.
"""

from beyond_ce.reporting.figures.arithmetic import loss_landscape, losses_at, table2_figure
from beyond_ce.reporting.figures.claims import claims_figure
from beyond_ce.reporting.figures.contrasts import contrast_plot
from beyond_ce.reporting.figures.digits import digit_grid, digit_grids, paper_digit_grids
from beyond_ce.reporting.figures.heads import colored_text, head_curves, tokens_of_each_head
from beyond_ce.reporting.figures.operations import accuracy_by_operations
from beyond_ce.reporting.figures.overview import OVERVIEW_TABLES, overview
from beyond_ce.reporting.figures.pass_at_k import (
    pass_at_k_by_temperature,
    pass_at_k_curves,
    pass_at_k_over_temperature,
)
from beyond_ce.reporting.figures.predictions import number_mass, predicted_against_true
from beyond_ce.reporting.figures.samples import judged_samples
from beyond_ce.reporting.figures.sizes import size_curves
from beyond_ce.reporting.figures.style import COLORS
from beyond_ce.reporting.figures.tables import dot_plot, task_map

__all__ = [
    "COLORS",
    "OVERVIEW_TABLES",
    "accuracy_by_operations",
    "claims_figure",
    "colored_text",
    "contrast_plot",
    "digit_grid",
    "digit_grids",
    "dot_plot",
    "head_curves",
    "judged_samples",
    "loss_landscape",
    "losses_at",
    "number_mass",
    "overview",
    "paper_digit_grids",
    "pass_at_k_by_temperature",
    "pass_at_k_curves",
    "pass_at_k_over_temperature",
    "predicted_against_true",
    "size_curves",
    "table2_figure",
    "task_map",
    "tokens_of_each_head",
]
