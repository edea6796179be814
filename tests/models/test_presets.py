"""The sizes of MTP table S14: all parameters are there whatever the number of heads."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from beyond_ce.configuration import CONF_DIR, build
from beyond_ce.errors import UsageError
from beyond_ce.models import Decoder
from beyond_ce.reporting.paper import PAPER_DIR

VOCAB = 32000
SIZES = [line.split(",")[0] for line in (PAPER_DIR / "mtp/table_s14.csv").read_text().split()[1:]]
WITHOUT_EMBEDDINGS = ("1M", "3M", "10M", "30M", "100M", "300M", "1B")
HEADS = (1, 2, 4, 6, 8, 16, 32)  # all that the paper trains


@cache
def choice(group: str, name: str) -> DictConfig:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose(overrides=[f"+{group}={name}"])[group]


def preset(size: str) -> DictConfig:
    return choice("model", f"decoder_{size.lower().replace('.', '_')}")


def make(size: str, head: DictConfig) -> Decoder:
    sizes = {"vocab_size": VOCAB, "pad_id": 0, "eos_id": 1}
    with torch.device("meta"):
        return build(preset(size), "model", **sizes, head=build(head, "head"))


def parameters(model: Decoder) -> int:
    return sum(each.numel() for each in model.parameters())


@cache
def ordinary(size: str) -> int:
    return parameters(make(size, choice("head", "lm")))


@pytest.mark.parametrize("size", SIZES)
def test_parameters_do_not_depend_on_the_number_of_heads(size: str) -> None:
    for n in HEADS:
        head = OmegaConf.merge(choice("head", "multi_token"), {"n": n})
        if n > preset(size).num_layers:
            with pytest.raises(UsageError, match=f"head.n={n} takes"):
                make(size, head)
            continue
        model = make(size, head)
        assert model.head.n == n
        assert parameters(model) == ordinary(size)


@pytest.mark.parametrize("size", SIZES)
def test_the_name_is_the_number_of_parameters(size: str) -> None:
    """Two families: from 1M to 1B without embeddings, from 0.3B to 13B with them."""
    millions = float(size[:-1]) * {"M": 1, "B": 1000}[size[-1]]
    left_out = 2 * VOCAB * preset(size).dim if size in WITHOUT_EMBEDDINGS else 0
    assert (ordinary(size) - left_out) / 1e6 == pytest.approx(millions, rel=0.35)


def test_the_largest_but_one_is_llama_2_7b() -> None:
    assert ordinary("6.7B") == 6_738_415_616
