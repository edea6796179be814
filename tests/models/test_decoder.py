from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from beyond_ce.errors import UsageError
from beyond_ce.models import Decoder
from beyond_ce.models.heads import LMHead
from beyond_ce.models.layers import rotary_table, rotate

PAD, EOS, VOCAB = 0, 1, 30
PROMPTS = [[5, 6, 7, 8, 9], [10], [11, 12, 13]]
ANSWERS = [[20, EOS], [21, 22, 23, EOS], [24, 25, EOS]]


@pytest.fixture(scope="module")
def model() -> Decoder:
    torch.manual_seed(0)
    return make()


def make(max_length: int = 16) -> Decoder:
    return Decoder(
        VOCAB, PAD, EOS, partial(LMHead), dim=16, num_layers=2, num_heads=2,
        max_length=max_length, multiple_of=8,
    )  # fmt: skip


def llama(model: Decoder) -> LlamaForCausalLM:
    """transformers' Llama with the weights of `model`.

    transformers rotates channel i with i + E / 2, Meta's code 2 i with 2 i + 1: the rows of the
    query and key projections are put in the other order.
    """
    layer = model.layers[0]
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB, hidden_size=16, intermediate_size=layer.feed_forward.w1.out_features,
            num_hidden_layers=2, num_attention_heads=2, rms_norm_eps=1e-5,
            max_position_embeddings=16, tie_word_embeddings=False,
        )
    ).eval()  # fmt: skip

    def halves(weight: torch.Tensor) -> torch.Tensor:
        return weight.unflatten(0, (2, 4, 2)).transpose(1, 2).flatten(0, 2)

    state = {
        "model.embed_tokens.weight": model.embedding.weight,
        "model.norm.weight": model.norm.weight,
        "lm_head.weight": model.head.unembedding(),
    }
    for i, layer in enumerate(model.layers):
        state |= {
            f"model.layers.{i}.self_attn.q_proj.weight": halves(layer.attention.wq.weight),
            f"model.layers.{i}.self_attn.k_proj.weight": halves(layer.attention.wk.weight),
            f"model.layers.{i}.self_attn.v_proj.weight": layer.attention.wv.weight,
            f"model.layers.{i}.self_attn.o_proj.weight": layer.attention.wo.weight,
            f"model.layers.{i}.mlp.gate_proj.weight": layer.feed_forward.w1.weight,
            f"model.layers.{i}.mlp.down_proj.weight": layer.feed_forward.w2.weight,
            f"model.layers.{i}.mlp.up_proj.weight": layer.feed_forward.w3.weight,
            f"model.layers.{i}.input_layernorm.weight": layer.attention_norm.weight,
            f"model.layers.{i}.post_attention_layernorm.weight": layer.ffn_norm.weight,
        }
    theirs.load_state_dict(state)
    return theirs


def test_equals_transformers_llama(model: Decoder) -> None:
    batch = model.make_batch(PROMPTS, ANSWERS)
    theirs = llama(model)
    with torch.no_grad():
        expected = theirs(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        logits = model.head.logits(model.trunk(batch))
    mask = batch.attention_mask
    torch.testing.assert_close(logits[mask], expected[mask], rtol=1e-5, atol=1e-5)
    # transformers shifts labels itself: there a label stands at its own token.
    full = [prompt + answer for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    losses = [
        theirs(
            input_ids=torch.tensor([ids]),
            labels=torch.tensor([[-100] * len(prompt) + ids[len(prompt) :]]),
        ).loss * len(ids[len(prompt) :])
        for prompt, ids in zip(PROMPTS, full, strict=True)
    ]  # fmt: skip
    loss = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten())
    torch.testing.assert_close(loss, sum(losses) / sum(map(len, ANSWERS)))


def test_feed_forward_size_is_llamas() -> None:
    head = partial(LMHead)
    with torch.device("meta"):
        model = Decoder(9, PAD, EOS, head, dim=4096, num_layers=1, num_heads=32, max_length=8)
    assert model.layers[0].feed_forward.w1.weight.shape == (11008, 4096)


def test_rotation_depends_on_distance_only() -> None:
    torch.manual_seed(0)
    table = rotary_table(10, 6, 10000.0)[:, None]
    query, key = torch.randn(2, 1, 1, 1, 6)
    at = rotate(query.expand(1, 10, 1, 6), table) @ rotate(key.expand(1, 10, 1, 6), table).mT
    assert at.shape == (1, 10, 1, 1)
    torch.testing.assert_close(at, (query @ key.mT).expand_as(at))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(2, VOCAB - 1), min_size=2, max_size=8), st.data())
def test_is_causal(model: Decoder, tokens: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(1, len(tokens) - 1))
    other = [*tokens]
    other[place] = (tokens[place] + 1) % VOCAB
    hidden = model.trunk(model.make_batch([tokens, other], [[EOS], [EOS]]))
    torch.testing.assert_close(hidden[0, :place], hidden[1, :place])
    assert not torch.allclose(hidden[0, place], hidden[1, place])


token_lists = st.lists(st.integers(2, VOCAB - 1), min_size=1, max_size=5)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(token_lists, token_lists), min_size=1, max_size=4))
def test_padding_changes_neither_logits_nor_loss(model: Decoder, pairs: list) -> None:
    prompts, answers = (list(side) for side in zip(*pairs, strict=True))
    batch = model.make_batch(prompts, answers)
    logits = model.head.logits(model.trunk(batch))
    losses = []
    for row, (prompt, answer) in enumerate(pairs):
        alone = model.make_batch([prompt], [answer])
        expected = model.head.logits(model.trunk(alone))
        torch.testing.assert_close(logits[row, : expected.shape[1]], expected[0])
        losses.append(F.cross_entropy(expected[0], alone.labels[0], reduction="sum"))
    loss = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), reduction="sum")
    torch.testing.assert_close(loss, sum(losses))


def test_gradients_reach_every_parameter() -> None:
    model = make()
    batch = model.make_batch(PROMPTS, ANSWERS)
    logits = model.head.logits(model.trunk(batch))
    F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_cached_decoding_equals_recomputation(model: Decoder) -> None:
    rows = [[*prompt] for prompt in PROMPTS]
    state, logits = model.prefill(PROMPTS, max_new_tokens=4)
    for step, order in enumerate([[0, 1, 2], [2, 0, 1], [1, 1]]):
        for row, ids in zip(logits, rows, strict=True):
            expected = model.head.logits(model.trunk(model.make_batch([ids], [[EOS]])))
            torch.testing.assert_close(row, expected[0, -1])
        tokens = torch.arange(len(rows)) + 10 * (step + 1)
        tokens = tokens % VOCAB
        state.select(torch.tensor(order))
        rows = [rows[i] + [int(tokens[i])] for i in order]
        logits = model.step(state, tokens[order])


def test_bfloat16_stays_close() -> None:
    torch.manual_seed(0)
    model = make().eval()
    batch = model.make_batch(PROMPTS, ANSWERS)
    expected = model.trunk(batch)
    tolerance = 0.05 * float(expected.detach().abs().max())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.trunk(batch), expected, atol=tolerance, rtol=0)
        model.step(model.prefill(PROMPTS, 2)[0], torch.tensor([5, 6, 7]))
    model.bfloat16()
    torch.testing.assert_close(model.trunk(batch).float(), expected, atol=tolerance, rtol=0)
    model.step(model.prefill(PROMPTS, 2)[0], torch.tensor([5, 6, 7]))


def test_context_is_checked() -> None:
    model = make(max_length=6)
    model.make_batch([[5] * 4], [[6, 7, EOS]])
    model.prefill([[5] * 4], max_new_tokens=3)
    with pytest.raises(UsageError, match=r"7 tokens.*context of 6"):
        model.make_batch([[5] * 5], [[6, 7, EOS]])
    with pytest.raises(UsageError, match=r"7 tokens.*context of 6"):
        model.prefill([[5] * 5], max_new_tokens=3)
    with pytest.raises(UsageError, match="empty prompt"):
        model.prefill([[5], []], max_new_tokens=1)


def test_heads_must_have_an_even_size() -> None:
    with pytest.raises(UsageError, match=r"model\.dim=20"):
        Decoder(VOCAB, PAD, EOS, partial(LMHead), dim=20, num_layers=1, num_heads=4, max_length=8)
