from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.batches.batch import (
    IGNORED,
    decoder_only_batch,
    encoder_decoder_batch,
    value_batch,
)
from beyond_ce.errors import UsageError

PAD, EOS = 0, 1
token_lists = st.lists(st.integers(2, 9), min_size=1, max_size=6)
pairs = st.lists(st.tuples(token_lists, token_lists), min_size=1, max_size=5)


def test_encoder_decoder_by_hand() -> None:
    batch = encoder_decoder_batch([[5, 6, 7], [8]], [[2, EOS], [3, 4, EOS]], PAD, start_id=9)
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, PAD, PAD]]
    assert batch.attention_mask.tolist() == [[True] * 3, [True, False, False]]
    assert batch.labels.tolist() == [[2, EOS, -100], [3, 4, EOS]]
    assert batch.decoder_input_ids is not None
    assert batch.decoder_input_ids.tolist() == [[9, 2, PAD], [9, 3, 4]]


def test_decoder_only_by_hand() -> None:
    batch = decoder_only_batch([[5, 6, 7], [8]], [[2, EOS], [3, 4, EOS]], PAD)
    assert batch.input_ids.tolist() == [[5, 6, 7, 2], [8, 3, 4, PAD]]
    assert batch.attention_mask.tolist() == [[True] * 4, [True, True, True, False]]
    assert batch.labels.tolist() == [[-100, -100, 2, EOS], [3, 4, EOS, -100]]
    assert batch.decoder_input_ids is None


@given(pairs)
def test_decoder_only_labels_are_the_next_inputs(pairs: list) -> None:
    prompts, answers = zip(*pairs, strict=True)
    answers = [[*answer, EOS] for answer in answers]
    batch = decoder_only_batch(list(prompts), answers, PAD)
    assert batch.input_ids.shape == batch.labels.shape == batch.attention_mask.shape
    for ids, labels, answer in zip(batch.input_ids, batch.labels, answers, strict=True):
        assert labels[labels != -100].tolist() == answer
        known = labels[:-1] != -100
        inside = known & (labels[:-1] != EOS)
        assert torch.equal(ids[1:][inside], labels[:-1][inside])


@given(pairs)
def test_masks_count_the_tokens(pairs: list) -> None:
    prompts, answers = (list(side) for side in zip(*pairs, strict=True))
    encoder_decoder = encoder_decoder_batch(prompts, answers, PAD, PAD)
    decoder_only = decoder_only_batch(prompts, answers, PAD)
    tokens = sum(map(len, prompts))
    assert encoder_decoder.attention_mask.sum() == tokens
    assert decoder_only.attention_mask.sum() == tokens + sum(len(a) - 1 for a in answers)


def test_to_keeps_every_field() -> None:
    batch = encoder_decoder_batch([[5]], [[2, EOS]], PAD, PAD).to("meta")
    assert batch.decoder_input_ids is not None
    tensors = (batch.input_ids, batch.attention_mask, batch.labels, batch.decoder_input_ids)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert decoder_only_batch([[5]], [[EOS]], PAD).to("cpu").decoder_input_ids is None


def test_without_labels_nothing_is_predicted() -> None:
    tokens = decoder_only_batch([[5]], [[2, EOS]], PAD)
    value = value_batch([[5]], torch.tensor([2.5]), PAD)
    assert (tokens.without_labels().labels == IGNORED).all()
    assert value.without_labels().labels.isnan().all()
    assert torch.equal(value.without_labels().input_ids, value.input_ids)


def test_empty_prompt_is_refused_by_decoder_only_batches() -> None:
    with pytest.raises(UsageError, match="empty prompt"):
        decoder_only_batch([[5], []], [[EOS], [EOS]], PAD)
