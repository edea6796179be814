from __future__ import annotations

import pytest
from torch import nn

from beyond_ce.models import evaluating


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_comes_back_also_after_an_error(training: bool) -> None:
    model = nn.Sequential(nn.Dropout()).train(training)
    with evaluating(model):
        assert not model.training and not model[0].training
    assert model.training == model[0].training == training
    with pytest.raises(KeyboardInterrupt), evaluating(model):
        raise KeyboardInterrupt
    assert model.training == model[0].training == training
