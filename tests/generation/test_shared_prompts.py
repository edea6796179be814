"""Several samples of a prompt: it is read once, and nothing but the time changes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from beyond_ce.generation import generate
from beyond_ce.models import T5, CausalLM, Decoder, LanguageModel
from beyond_ce.models.heads import LMHead

PAD, EOS, VOCAB = 0, 1, 30
PROMPTS = [[5, 6, 7, 8, 9, 5, 6], [5, 6, 7], [10], [11, 12, 13, 10, 11]]
LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
GPT2 = {
    "model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64,
    "tie_word_embeddings": False,
}  # fmt: skip
SLIDING = {**LLAMA, "model_type": "mistral", "sliding_window": 4}


def make(kind: str) -> LanguageModel:
    torch.manual_seed(0)
    if kind == "t5":
        sizes = {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_heads": 2, "num_layers": 2}
        t5 = T5(VOCAB, PAD, EOS, partial(LMHead), dropout=0.0, **sizes).double()
        for weight in t5.parameters():  # otherwise it repeats one token, whatever the prompt
            torch.nn.init.normal_(weight, std=0.5)
        return t5
    if kind in ("decoder", "grouped"):
        model: LanguageModel = Decoder(
            VOCAB, PAD, EOS, partial(LMHead), dim=16, num_layers=2, num_heads=2, max_length=48,
            multiple_of=8, num_kv_heads=1 if kind == "grouped" else None,
        )  # fmt: skip
    else:
        config: dict[str, Any] = {"gpt2": GPT2, "llama": LLAMA, "sliding": SLIDING}[kind]
        model = CausalLM(VOCAB, PAD, EOS, partial(LMHead), config)
    torch.nn.init.normal_(model.head.unembedding())
    return model.double()  # rounding cannot change a token


KINDS = ["decoder", "grouped", "gpt2", "llama", "sliding", "t5"]


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_copies_are_as_the_prompt_alone(kind: str) -> None:
    model = make(kind)
    alone = [generate(model, [prompt], 20).tokens[0] for prompt in PROMPTS]
    copies = [i % 4 for i in range(12)] + [2, 2, 0]
    found = generate(model, [PROMPTS[i] for i in copies], 20)
    assert found.tokens == [alone[i] for i in copies]
    assert found.tokens_per_forward == 1
    assert len({tuple(row) for row in alone}) >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_those_of_prompts_read_one_by_one(kind: str) -> None:
    model = make(kind)
    prompts = [prompt for prompt in PROMPTS for _ in range(6)]
    sample = partial(generate, model, prompts, 20, EOS, temperature=2.0, top_p=0.95)
    together = sample().tokens
    assert together == sample(batch_size=1).tokens
    assert together == sample(batch_size=5).tokens
    assert len({tuple(row) for row in together}) > 15
    assert len({len(row) for row in together}) > 5, "some should end early"


def test_each_batch_reads_a_prompt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("decoder")
    read: list[list[list[int]]] = []
    prefill = Decoder.prefill

    def counted(self: Decoder, prompts: list[list[int]], max_new_tokens: int) -> Any:
        read.append(prompts)
        return prefill(self, prompts, max_new_tokens)

    monkeypatch.setattr(Decoder, "prefill", counted)
    generate(model, [PROMPTS[2], PROMPTS[0], PROMPTS[2], PROMPTS[0], PROMPTS[0]], 3)
    assert read == [[PROMPTS[0], PROMPTS[2]]]
    read.clear()
    generate(model, [PROMPTS[1]] * 7, 3, batch_size=3)
    assert read == [[PROMPTS[1]]] * 3


def test_a_stream_makes_a_sample_the_same_wherever_it_stands() -> None:
    model = make("decoder")
    sample = partial(generate, model, max_new_tokens=12, temperature=1.2, seed=3)
    streams = [2**95 + 7, 0, 5, 2**40]
    prompts = [PROMPTS[0], PROMPTS[0], PROMPTS[1], PROMPTS[2]]
    every = sample(prompts, streams=streams).tokens
    some = sample([prompts[3], prompts[0]], streams=[streams[3], streams[0]]).tokens
    assert some == [every[3], every[0]]
    assert sample(prompts).tokens == sample(prompts, streams=[0, 1, 2, 3]).tokens
    assert every[0] != every[1]
    other = partial(generate, model, max_new_tokens=12, temperature=1.2, seed=4)
    assert other(prompts, streams=streams).tokens != every
