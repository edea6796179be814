"""What T5 and the decoder give a head that predicts one value per prompt."""

from __future__ import annotations

from functools import partial
from math import nan

import pytest
import torch
from transformers import T5Config, T5ForSequenceClassification

from beyond_ce.batches.batch import Numbers
from beyond_ce.errors import UsageError
from beyond_ce.losses import MeanSquaredError
from beyond_ce.models import T5, Decoder, LanguageModel
from beyond_ce.models.base import last_state, mean_state
from beyond_ce.models.heads import DecoderRegressionHead, RegressionHead
from beyond_ce.training.objective import Objective

PAD, EOS, VOCAB = 0, 1, 40
PROMPTS = [[5, 6, 7, 8, 9], [10], [11, 12, 13]]
NUMBERS = Numbers([4.0, nan, -2.0])


@pytest.fixture(params=["t5", "t5 with its decoder", "decoder"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    torch.manual_seed(0)
    head = partial(DecoderRegressionHead if "with" in request.param else RegressionHead)
    if request.param == "decoder":
        return Decoder(VOCAB, PAD, EOS, head, dim=16, num_layers=2, num_heads=2, max_length=16)
    return T5(
        VOCAB, PAD, EOS, head, d_model=16, d_ff=32, d_kv=8, num_heads=2, num_layers=2, dropout=0.0
    )


def test_one_state_and_one_label_per_prompt(model: LanguageModel) -> None:
    batch = model.make_batch(PROMPTS, [[3, EOS]] * 3, NUMBERS)
    assert batch.labels.shape == (3, 1) and batch.decoder_input_ids is None
    assert batch.labels[[0, 2]].tolist() == [[4.0], [-2.0]] and batch.labels[1].isnan()
    hidden = model.trunk(batch)
    assert hidden.shape == (3, 1, 16)
    for prompt, state in zip(PROMPTS, hidden, strict=True):
        alone = model.trunk(model.make_batch([prompt], [[]], Numbers([nan])))
        torch.testing.assert_close(alone[0], state)


def test_the_answer_cannot_be_seen(model: LanguageModel) -> None:
    """The same input whatever the answer: neither its tokens nor its value nor its length."""
    first = model.make_batch(PROMPTS, [[3, EOS]] * 3, NUMBERS)
    second = model.make_batch(PROMPTS, [[4, 4, 4, EOS]] * 3, Numbers([7.0] * 3))
    assert torch.equal(first.input_ids, second.input_ids)
    assert torch.equal(model.trunk(first), model.trunk(second))


def test_every_parameter_is_trained(model: LanguageModel) -> None:
    objective = Objective(model, MeanSquaredError(torch.full((VOCAB,), nan)))
    total, terms = objective(model.make_batch(PROMPTS, [[EOS]] * 3, NUMBERS))
    total.backward()
    assert set(terms) == {"mse"}
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_it_learns_a_batch_by_heart(model: LanguageModel) -> None:
    objective = Objective(model, MeanSquaredError(torch.full((VOCAB,), nan)))
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    batch = model.make_batch(PROMPTS, [[EOS]] * 3, Numbers([4.0, 1.5, -2.0]))
    for _ in range(60):
        total, _ = objective(batch)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert total.item() < 0.05


def test_numbers_are_needed(model: LanguageModel) -> None:
    with pytest.raises(ValueError, match="numbers"):
        model.make_batch(PROMPTS, [[EOS]] * 3)


def test_t5_pools_the_mean_and_the_decoder_the_last_state() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [50.0]], [[2.0], [4.0], [9.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert mean_state(hidden, mask).tolist() == [[[2.0]], [[5.0]]]
    assert last_state(hidden, mask).tolist() == [[[3.0]], [[9.0]]]


def test_the_decoder_refuses_an_empty_prompt() -> None:
    model = Decoder(
        VOCAB, PAD, EOS, partial(RegressionHead), dim=16, num_layers=1, num_heads=2, max_length=9
    )
    with pytest.raises(UsageError, match="empty prompt"):
        model.make_batch([[]], [[EOS]], Numbers([1.0]))


def test_the_decoder_reads_the_prompt_as_in_transformers() -> None:
    """The same value as T5ForSequenceClassification with the same weights."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCAB, d_model=16, d_ff=32, d_kv=8, num_heads=2, num_layers=2, dropout_rate=0.0,
        num_labels=1, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD,
    )  # fmt: skip
    theirs = T5ForSequenceClassification(config).eval()
    head = partial(DecoderRegressionHead)
    ours = T5(
        VOCAB, PAD, EOS, head, d_model=16, d_ff=32, d_kv=8, num_heads=2, num_layers=2, dropout=0.0
    )
    transformer, top = theirs.transformer, theirs.classification_head
    ours.embedding.load_state_dict(transformer.shared.state_dict())
    for mine, other in ((ours.encoder, transformer.encoder), (ours.decoder, transformer.decoder)):
        mine.load_state_dict(other.state_dict(), strict=False)
    ours.head.dense.load_state_dict(top.dense.state_dict())
    ours.head.linear.load_state_dict(top.out_proj.state_dict())
    batch = ours.make_batch(PROMPTS, [[EOS]] * 3, NUMBERS)
    expected = theirs(input_ids=batch.input_ids, attention_mask=batch.attention_mask.long()).logits
    torch.testing.assert_close(ours.head.logits(ours.trunk(batch)), expected)
