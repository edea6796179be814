"""The head of one block: against a plain implementation from the formulas, and its drafts and
caches against forwards over whole texts."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from choices import classes, token_losses
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from beyond_ce.batches.batch import future_labels, packed_batch
from beyond_ce.checkpoints import Checkpoint, copy_weights, load_decoder, write_checkpoint
from beyond_ce.configuration import build, compose
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import check_predicts_ahead
from beyond_ce.evaluation.likelihood import likelihoods
from beyond_ce.evaluation.self_speculation import differences
from beyond_ce.generation.self_speculative import decode_self_speculatively
from beyond_ce.generation.token_by_token import decode_token_by_token
from beyond_ce.models import Decoder
from beyond_ce.models.heads import LMHead, RecurrentMultiTokenHead, SharedUnembedding
from beyond_ce.models.layers import DecoderLayer
from beyond_ce.runs.compatibility import check_parts
from beyond_ce.training.objective import Objective

VOCAB, PAD, EOS = 30, 0, 1
VALUES = torch.full((VOCAB,), torch.nan)
VALUES[3:8] = torch.arange(5.0)


def make(n: int = 4, vocab_size: int = VOCAB, num_layers: int = 3, **keys) -> Decoder:
    parts = {name: keys.pop(name) for name in ("decay", "loss_weights", "extra_layers")
             if name in keys}  # fmt: skip
    unembedding = keys.pop("unembedding", SharedUnembedding)
    head = partial(RecurrentMultiTokenHead, n=n, unembedding=unembedding, **parts)
    sizes = {"dim": 16, "num_heads": 4, "num_kv_heads": 2, "max_length": 48, "multiple_of": 8}
    return Decoder(vocab_size, PAD, EOS, head, num_layers=num_layers, **{**sizes, **keys})


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight


def rotated(x: Tensor) -> Tensor:
    """[T, H, E]: each pair of channels as a complex number, turned by position x speed."""
    length, _, size = x.shape
    speeds = 10000.0 ** (-torch.arange(0, size, 2).double() / size)
    angles = torch.arange(length).double()[:, None] * speeds
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(
        turned * torch.polar(torch.ones_like(angles), angles)[:, None]
    ).flatten(-2)


def layer_of(layer: DecoderLayer, x: Tensor) -> Tensor:
    """A layer on one sequence [T, D], query by query and head by head."""
    attention, heads, groups = layer.attention, 4, 2
    y = norm(x, layer.attention_norm.weight)
    q = rotated((y @ attention.wq.weight.T).unflatten(-1, (heads, -1)))
    k = rotated((y @ attention.wk.weight.T).unflatten(-1, (groups, -1)))
    v = (y @ attention.wv.weight.T).unflatten(-1, (groups, -1))
    rows = []
    for t in range(len(x)):
        mixed = []
        for head in range(heads):
            group = head * groups // heads
            scores = k[: t + 1, group] @ q[t, head] * q.shape[-1] ** -0.5
            mixed.append(scores.softmax(0) @ v[: t + 1, group])
        rows.append(torch.cat(mixed))
    x = x + torch.stack(rows) @ attention.wo.weight.T
    y, ff = norm(x, layer.ffn_norm.weight), layer.feed_forward
    return x + (F.silu(y @ ff.w1.weight.T) * (y @ ff.w3.weight.T)) @ ff.w2.weight.T


def naive(model: Decoder, tokens: list[int]) -> list[Tensor]:
    """Logits [T - i, V] of each offset i at the positions t with a token at t + i, from the
    formulas."""
    embedded = model.embedding.weight[tokens]
    state = embedded
    for layer in model.layers:
        state = layer_of(layer, state)
    head, logits = model.head, []
    for offset in range(head.n):
        if offset:
            block = head.blocks.block
            count = len(tokens) - offset
            joined = [
                torch.cat(
                    [
                        norm(state[t], block.state_norm.weight),
                        norm(embedded[t + offset], block.token_norm.weight),
                    ]
                )
                for t in range(count)
            ]
            if not joined:
                logits.append(torch.zeros(0, VOCAB))
                continue
            state = layer_of(block.layer, torch.stack(joined) @ block.project.weight.T)
        logits.append(norm(state, head.norm.weight) @ head.unembedding(offset).T)
    return logits


@pytest.fixture
def model() -> Decoder:
    torch.manual_seed(0)
    return make().double()


def test_logits_are_those_of_the_formulas(model: Decoder) -> None:
    tokens = torch.randint(2, VOCAB, (9,), generator=torch.Generator().manual_seed(0)).tolist()
    found = model.logits(torch.tensor([tokens]))[0]
    assert found.shape == (9, 4, VOCAB)
    for offset, expected in enumerate(naive(model, tokens)):
        torch.testing.assert_close(found[: 9 - offset, offset], expected)


def test_beyond_the_end_the_drafts_are_read(model: Decoder) -> None:
    tokens = [5, 6, 7, 8]
    found = model.logits(torch.tensor([tokens]))[0]
    for offset in range(1, 4):
        further = [*tokens, *found[-1, :offset].argmax(-1).tolist()]
        whole = naive(model, further)[offset]
        torch.testing.assert_close(found[:, offset], whole[:4])


@pytest.mark.parametrize("loss", token_losses())
def test_loss_and_gradients_are_those_of_the_formulas(loss: str, model: Decoder) -> None:
    """On rows with two documents each, every weight of trunk, head and embedding included."""
    step = Objective(model, build(compose([f"loss={loss}"]).loss, "loss", number_values=VALUES))
    step = step.double()
    draw = torch.Generator().manual_seed(1)
    rows = torch.randint(2, VOCAB, (2, 12), generator=draw)
    rows[0, 5] = rows[1, 8] = EOS
    batch = packed_batch(rows, EOS)
    total, terms = step(batch)
    per_row = [naive(model, row[:-1].tolist()) for row in rows]
    expected = torch.zeros((), dtype=torch.float64)
    for offset, weight in enumerate(model.head.loss_weights):
        labels = future_labels(batch.labels, batch.segments, offset)[:, : 11 - offset]
        logits = torch.stack([row[offset] for row in per_row])
        out = step.loss(logits, labels)
        prefix = f"head{offset + 1}/" if offset else ""
        for name, term in out.terms.items():
            torch.testing.assert_close(terms[prefix + name].double(), term.detach().double())
        expected = expected + weight * out.total
    torch.testing.assert_close(total, expected)
    parameters = dict(model.named_parameters())
    theirs = torch.autograd.grad(expected, list(parameters.values()))
    total.backward()
    for (name, ours), gradient in zip(parameters.items(), theirs, strict=True):
        error = (ours.grad - gradient).abs().max()
        assert error <= 1e-6 * gradient.abs().max(), name  # positions are float32


def test_weights_decay_by_hand() -> None:
    assert make(3, decay=0.5).head.loss_weights == pytest.approx((1, 2 / 3, 1 / 3))
    assert make(1).head.loss_weights == (1.0,)
    assert make(2).head.loss_weights == (1.0, 1.0)
    assert make(2, loss_weights=[0, 3]).head.loss_weights == (0.0, 3.0)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_block_is_one_layer_whatever_n(n: int) -> None:
    torch.manual_seed(0)
    model = make(n)
    ordinary = sum(p.numel() for p in make(1).parameters())
    more = 0 if n == 1 else 2 * 16 * 16 + 2 * 16
    assert sum(p.numel() for p in model.parameters()) == ordinary + more
    assert len(model.layers) == (3 if n == 1 else 2)
    assert len(make(n, extra_layers=1).layers) == (4 if n == 1 else 3)


def test_half_precision_keeps_the_states_precise() -> None:
    model = make()
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model._run_layers(torch.tensor([[5, 6, 7]]))
        assert model.head.advance(hidden, 1).dtype == torch.float32


def test_drafts_are_what_forwards_over_whole_texts_say(model: Decoder) -> None:
    """In rows of different lengths, of which one is shorter than what is computed again; over
    several rounds, whose drafts were accepted in part."""
    model.eval()
    draw = torch.Generator().manual_seed(0)
    prompts = [[5, 6, 7, 9, 11], [8]]
    state, _ = model.prefill(prompts, 24, heads=4)
    texts, places = [list(prompt) for prompt in prompts], [4, 0]
    for _ in range(5):
        following = torch.randint(2, VOCAB, (2,), generator=draw).tolist()
        drafts = state.look_ahead(places, following)
        for row, text in enumerate(texts):
            expected = model.logits(torch.tensor([[*text, following[row]]]))[0, -2]
            found = drafts[row]
            torch.testing.assert_close(found[0], expected[1])
            # The drafts of this place go on from its own, not from those of the token after it.
            own = [*text, following[row]]
            for offset in range(1, 4):
                whole = model.logits(torch.tensor([own]))[0, len(text) - 1]
                torch.testing.assert_close(found[offset - 1], whole[offset])
                own.append(int(found[offset - 1].argmax()))
        # Some of what is read next is not what was drafted.
        read = torch.randint(2, VOCAB, (2, 3), generator=draw)
        read[:, 0] = torch.tensor(following)
        state.read(read)
        places = torch.randint(0, 3, (2,), generator=draw).tolist()
        for row, place in enumerate(places):
            texts[row] += read[row, : place + 1].tolist()
        state.lengths = [len(text) for text in texts]


prompts_of = partial(st.lists, st.lists(st.integers(2, 4), min_size=1, max_size=6), min_size=1)


@settings(deadline=None, max_examples=40)
@given(
    unembedding=st.sampled_from(classes("head/unembedding")),
    n=st.integers(1, 5),
    seed=st.integers(0, 1000),
    prompts=prompts_of(max_size=6),
    max_new_tokens=st.integers(1, 20),
    end_ids=st.sampled_from([(), (1,), (1, 3)]),
    data=st.data(),
)
def test_speculation_equals_greedy(
    unembedding, n, seed, prompts, max_new_tokens, end_ids, data
) -> None:
    torch.manual_seed(seed)
    model = make(n, vocab_size=5, unembedding=unembedding).double().eval()
    torch.nn.init.normal_(model.head.unembedding())
    heads = data.draw(st.integers(1, n))
    tell = lambda row, tokens: None  # noqa: E731
    expected, forwards = decode_token_by_token(model, prompts, max_new_tokens, end_ids, None, tell)
    found, fewer = decode_self_speculatively(model, prompts, max_new_tokens, end_ids, heads)
    assert found == expected
    assert forwards / heads <= fewer <= forwards


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_differs_from_greedy_at_near_ties_only(dtype) -> None:
    """Large enough for packed matrices, and drafts in bfloat16."""
    torch.manual_seed(0)
    model = make(3, vocab_size=400, dim=384, num_heads=6).to(dtype).eval()
    prompts = torch.randint(2, 400, (4, 9)).tolist()
    tell = lambda row, tokens: None  # noqa: E731
    expected, _ = decode_token_by_token(model, prompts, 12, (), None, tell)
    found, _ = decode_self_speculatively(model, prompts, 12, (), 3)
    assert differences(model, prompts, expected, found)[1] == 0


def test_drafts_that_all_hold_need_a_fraction_of_the_forwards() -> None:
    torch.manual_seed(0)
    cycle = [2, 3, 4, 5, 6, 7, 8]
    rows = torch.tensor([(cycle * 6)[i : i + 30] for i in range(len(cycle))])
    model = make(4, num_layers=4)
    step = Objective(model, build(compose(["loss=ce"]).loss, "loss", number_values=VALUES))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        step(packed_batch(rows, EOS))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    found, forwards = decode_self_speculatively(model.double().eval(), [cycle * 2], 21, (), 4)
    assert (found, forwards) == ([cycle * 3], 1 + 5)


def test_the_ordinary_model_is_left_without_the_block(model: Decoder, tmp_path: Path) -> None:
    tokens = torch.tensor([[5, 6, 7]])
    plain = model.next_token_model()
    assert isinstance(plain.head, LMHead) and len(plain.layers) == 2
    assert torch.equal(plain.logits(tokens)[:, :, 0], model.logits(tokens)[:, :, 0])
    config = compose(["head=multi_token_recurrent", "model=decoder_tiny", "head.extra_layers=1"])
    sizes = {"vocab_size": VOCAB, "pad_id": PAD, "eos_id": EOS}
    parts = {part: dict(config[part]) for part in ("model", "head")}
    parts["head"]["unembedding"] = dict(parts["head"]["unembedding"])
    built = build(config.model, "model", head=build(config.head, "head"), **sizes)
    checkpoint = Checkpoint({**sizes, **parts}, built)
    write_checkpoint(checkpoint, tmp_path / "native", "native")
    again = load_decoder(tmp_path / "native")
    assert again.head.loss_weights == built.head.loss_weights
    assert torch.equal(again.logits(tokens), built.logits(tokens))
    with pytest.raises(UsageError, match="the Llama layout has an lm head, or parallel heads"):
        write_checkpoint(checkpoint, tmp_path / "llama", "llama")
    write_checkpoint(checkpoint, tmp_path / "hf", "hf")
    exported = load_decoder(tmp_path / "hf")
    torch.testing.assert_close(exported.logits(tokens)[:, :, 0], built.logits(tokens)[:, :, 0])


def test_starts_from_an_ordinary_model_and_from_its_kind() -> None:
    tokens = torch.tensor([[5, 6, 7]])
    torch.manual_seed(0)
    source = make(1)
    model = make(4, extra_layers=1)
    copy_weights(model, source, "the source")
    assert torch.equal(model.logits(tokens)[:, :, 0], source.logits(tokens)[:, :, 0])
    other = make(3, extra_layers=1)
    copy_weights(other, model, "the source")
    assert torch.equal(other.logits(tokens), model.logits(tokens)[:, :, :3])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"n": 0}, "head.n=0"),
        ({"decay": 0}, "head.decay=0"),
        ({"decay": 1.5}, "head.decay=1.5"),
        ({"loss_weights": [1, 1]}, "give 4 weights"),
        ({"extra_layers": -1}, "head.extra_layers=-1"),
    ],
)
def test_wrong_settings_are_refused(keys: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(**keys)


def test_other_models_and_evaluators_of_later_heads_are_refused(model: Decoder) -> None:
    with pytest.raises(UsageError, match="does not lend: choose head=multi_token_linear or"):
        check_parts(compose(["model=t5_tiny", "head=multi_token_recurrent"]))
    with pytest.raises(UsageError, match="also read the tokens in between"):
        check_predicts_ahead(model)
    with pytest.raises(UsageError, match="also read the tokens in between"):
        likelihoods(model, "cpu", [([5, 6, 7], [8])], 1, head=2)
