import numpy as np
import pandas as pd

from beyond_ce.reporting.figures import digit_grid, digit_grids, paper_digit_grids


def test_digit_grids_join_the_splits_and_keep_gaps():
    lines = [
        ("CE", "interpolate", "2x1", "mape", 1.5),
        ("CE", "extrapolate", "1x10", "mape", 4.0),
        ("CE", "interpolate", "2x1", "accuracy", 0.5),
        ("GPT-2 large CE", "interpolate", "2x1", "mape", np.nan),
    ]
    tasks = pd.DataFrame(lines, columns=["row", "split", "task", "metric", "mean"])
    grids = digit_grids(tasks, "mape")
    assert set(grids) == {"CE"}
    grid = grids["CE"]
    assert list(grid.index) == [1, 2]
    assert list(grid.columns) == [1, 10]
    assert (grid.loc[2, 1], grid.loc[1, 10]) == (1.5, 4.0)
    assert np.isnan(grid.loc[1, 1])


def test_digit_grid_draws_ours_beside_the_papers(tmp_path):
    paper = paper_digit_grids()
    assert set(paper) == {"CE, paper", "NTL, paper"}
    assert all(grid.shape == (6, 6) for grid in paper.values())
    assert paper["CE, paper"].loc[2, 6] == 4.0
    ours = pd.DataFrame([[1.0, np.nan], [2.0, 3.0]], index=[1, 2], columns=[1, 2])
    figure = digit_grid({"CE": ours, **paper}, "epochs until MAPE < 0.5", columns=2)
    figure.savefig(tmp_path / "grid.png")
    assert [ax.get_title() for ax in figure.axes[:3]] == ["CE", *paper]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2", "3"]
    assert {ax.images[0].get_clim() for ax in figure.axes[:3]} == {(0.0, 5.4)}
