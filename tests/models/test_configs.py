"""Every model and head of conf/ can be built as the application builds them."""

from __future__ import annotations

from math import nan
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from beyond_ce.batches.batch import Numbers
from beyond_ce.models import LanguageModel

CONF = Path(__file__).parents[2] / "conf"
MODELS = sorted(
    str(path.relative_to(CONF / "model").with_suffix(""))
    for path in (CONF / "model").rglob("*.yaml")
    if path.stem != "decoder_pretrained"  # of the size of its checkpoint: see test_further_heads
)


@pytest.mark.parametrize("name", MODELS)
def test_model_is_built(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        head = "xval" if "xval" in name else "lm"
        config = compose(overrides=[f"+model={name}", f"+head={head}"])
    if config.model.get("pretrained"):
        config.model.pretrained = None  # the same architecture without a download
    # transformers' masks look at values, which the meta device has not.
    device = "cpu" if config.model._target_.endswith("CausalLM") else "meta"
    with torch.device(device):
        model = instantiate(
            config.model, vocab_size=32100, pad_id=0, eos_id=1, head=instantiate(config.head)
        )
    assert isinstance(model, LanguageModel)
    numbers = Numbers([4.0], [[nan, 3.0]], [[4.0, nan]])
    hidden = model.trunk(model.make_batch([[5, 6]], [[7, 1]], numbers).to(device))
    assert model.head.logits(hidden).shape[-1] == 32100 + (head == "xval")


@pytest.mark.parametrize(
    ("name", "millions"), [("t5_small", 60.5), ("t5_base", 222.9), ("t5_3b", 2851.6)]
)
def test_published_sizes(name: str, millions: float) -> None:
    """With the published vocabulary of 32,128 rows, padding included."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=[f"+model={name}", "+head=lm"])
    with torch.device("meta"):
        model = instantiate(
            config.model, vocab_size=32128, pad_id=0, eos_id=1, head=instantiate(config.head)
        )
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
