"""Head by head with sharded parameters: two ranks under FSDP compute what one process does.

Lightning Fabric offers FSDP on GPUs only; torch's own runs on CPUs too. Run as a script, this file
is one of the ranks.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.distributed.fsdp import FullyShardedDataParallel

from beyond_ce.configuration import build, compose
from beyond_ce.models import Decoder
from beyond_ce.training.objective import Objective

VOCAB, PAD, EOS = 30, 0, 1
PROMPTS = [[5, 6, 7, 8], [10, 11, 2]]
ANSWERS = [[20, 3, 4, 5, 6, EOS], [21, 22, 23, 4, 5, EOS]]


def make(head: str) -> Objective:
    torch.manual_seed(0)
    config = compose([f"head={head}", "loss=ce"])
    model = Decoder(
        VOCAB, PAD, EOS, build(config.head, "head"), dim=16, num_layers=6, num_heads=2,
        max_length=16, multiple_of=8,
    )  # fmt: skip
    values = torch.full((VOCAB,), torch.nan)
    return Objective(model, build(config.loss, "loss", number_values=values))


def losses(objective: Objective, module: torch.nn.Module) -> list[float]:
    """Of four steps; all ranks see the same batch."""
    batch = objective.model.make_batch(PROMPTS, ANSWERS)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    found = []
    for _ in range(4):
        total, _ = module(batch)
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(total.item())
    return found


def test_two_ranks_compute_what_one_process_does(tmp_path: Path) -> None:
    head = "multi_token_causal"
    store = f"file://{tmp_path / 'store'}"
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, head, str(rank), store],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    objective = make(head)
    expected = losses(objective, objective)
    for process in ranks:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert [float(each) for each in output.split()] == pytest.approx(expected, rel=1e-5)


if __name__ == "__main__":
    name, rank, store = sys.argv[1:]
    distributed.init_process_group("gloo", store, rank=int(rank), world_size=2)
    whole = make(name)
    cpu = torch.device("cpu")
    sharded = FullyShardedDataParallel(whole, use_orig_params=True, device_id=cpu)
    print(*losses(whole, sharded))
    distributed.destroy_process_group()
