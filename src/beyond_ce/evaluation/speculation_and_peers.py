"""Self-speculative decoding beside other programs with the same weights, all in turns."""

from __future__ import annotations

import copy
import random
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from beyond_ce.errors import UsageError
from beyond_ce.evaluation.decoding_peers import PEERS, is_there
from beyond_ce.evaluation.evaluator import shared_start
from beyond_ce.evaluation.self_speculation import SelfSpeculation, Tokens, differences
from beyond_ce.generation import generate
from beyond_ce.models import Decoder
from beyond_ce.models.base import DTYPES, LanguageModel
from beyond_ce.profiling import Step, in_turns, median_ratio
from beyond_ce.settings import each, one_of, optional, takes


class SpeculationAndPeers(SelfSpeculation):
    """`SelfSpeculation` one prompt at a time, in several precisions, and other programs beside it.

    Every way to decode takes its turn in each repeat. `@k2_bfloat16` stands for two heads with
    weights in bfloat16, `@transformers_bfloat16` for a peer.

    - `tokens_per_second`, `tokens_per_forward`, `different`, `unexplained`: as there; of the ways
      with heads, compared with the text of one head in the same precision.
    - `speedup@k2_bfloat16`: time with one head / time with two, in the same precision.
    - `of_plain@..`: tokens per second over those of one head in float32, median over the repeats.
    - `same@..`: share of a peer's tokens up to the first that differs from ours with one head in
      float32.

    Peers whose packages are missing are left out.

    Args:
        peers: names of `PEERS`; None for none.
        dtypes: float32, and bfloat16 or not.
        settings: as for `SelfSpeculation`.
    """

    @takes("evaluator", peers=optional(each(one_of(*PEERS))), dtypes=each(one_of(*DTYPES)))
    def __init__(self, peers: Sequence[str] | None, dtypes: Sequence[str], **settings: Any) -> None:
        super().__init__(**settings)
        if self.batch_sizes != [1] or "float32" not in dtypes:
            raise UsageError(
                f"evaluator.batch_sizes={self.batch_sizes}, evaluator.dtypes={list(dtypes)}: "
                "set batch_sizes=[1], as peers take one prompt at a time, and have float32"
            )
        self.peers = None if peers is None else list(peers)
        self.dtypes = list(dtypes)

    def _compare(
        self,
        model: LanguageModel,
        prompts: Tokens,
        heads: Sequence[int],
        batch_size: int,
        device: torch.device,
    ) -> dict[str, float]:
        if not isinstance(model, Decoder) or device.type != "cpu":
            raise UsageError(
                "evaluator SpeculationAndPeers compares decoders on a CPU: set "
                "trainer.accelerator=cpu, or choose evaluator=self_speculation"
            )
        models = {
            name: model if name == "float32" else copy.deepcopy(model).to(DTYPES[name])
            for name in self.dtypes
        }
        texts: dict[str, Tokens] = {}
        forwards: dict[str, float] = {}

        def ours(way: str, model: Decoder, k: int) -> None:
            found = generate(model, prompts, self.max_new_tokens, heads=k, batch_size=1)
            texts[way], forwards[way] = found.tokens, found.tokens_per_forward

        steps: dict[str, Step] = {
            f"k{k}_{name}": partial(ours, f"k{k}_{name}", own, k)
            for name, own in models.items()
            for k in heads
        }
        with tempfile.TemporaryDirectory() as folder:
            for name in filter(is_there, self.peers or ()):
                go_on = PEERS[name](model, Path(folder))

                def theirs(name: str = name, go_on: object = go_on) -> None:
                    assert callable(go_on)
                    texts[name] = [go_on(prompt, self.max_new_tokens) for prompt in prompts]

                steps[name] = theirs
            in_turns(steps, 1, random.Random(0), device)  # a warm-up
            seconds = in_turns(steps, self.repeats, random.Random(1), device)
        count = len(prompts) * self.max_new_tokens
        metrics: dict[str, float] = {}
        for way, times in seconds.items():
            metrics[f"tokens_per_second@{way}"] = count / statistics.median(times)
            metrics[f"of_plain@{way}"] = median_ratio(seconds["k1_float32"], times)
        for name, own in models.items():
            for k in heads:
                way, plain = f"k{k}_{name}", f"k1_{name}"
                metrics[f"tokens_per_forward@{way}"] = forwards[way]
                metrics[f"speedup@{way}"] = median_ratio(seconds[plain], seconds[way])
                found = differences(own, prompts, texts[plain], texts[way])
                metrics[f"different@{way}"], metrics[f"unexplained@{way}"] = found
        for name in texts.keys() & set(self.peers or ()):
            pairs = zip(texts[name], texts["k1_float32"], strict=True)
            same = sum(shared_start(*pair) for pair in pairs)
            metrics[f"same@{name}"] = same / count
        return metrics
