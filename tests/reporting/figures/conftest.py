from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest

plt.switch_backend("agg")


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """Closes what a test has drawn: pyplot keeps every figure and warns when there are many."""
    yield
    plt.close("all")
