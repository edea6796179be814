"""Fixed encodings that a model adds to its embedding."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from omegaconf import DictConfig
from transformers import T5Config, T5ForConditionalGeneration

from beyond_ce.generation import generate
from beyond_ce.losses import CrossEntropy
from beyond_ce.models import T5, Decoder, LanguageModel
from beyond_ce.models.heads import LMHead
from beyond_ce.runs.assembly import build_model
from beyond_ce.tokenizers import DigitTokenizer, RegressionTransformerTokenizer
from beyond_ce.training import load_checkpoint
from beyond_ce.training.objective import Objective

PAD, EOS, VOCAB, DIM = 0, 1, 40, 16
PROMPTS = [[5, 6, 7, 8, 9], [10], [11, 12, 13]]
ANSWERS = [[20, EOS], [21, 22, 23, EOS], [24, 25, EOS]]


def make_t5(vocab_size: int = VOCAB, pretrained: Path | None = None) -> T5:
    return T5(
        vocab_size, PAD, EOS, partial(LMHead), d_model=DIM, d_ff=32, d_kv=8, num_heads=2,
        num_layers=2, dropout=0.0, pretrained=pretrained and str(pretrained),
    )  # fmt: skip


def make_decoder() -> Decoder:
    return Decoder(
        VOCAB, PAD, EOS, partial(LMHead), dim=DIM, num_layers=2, num_heads=2, max_length=32,
        multiple_of=8,
    )  # fmt: skip


@pytest.fixture(params=[make_t5, make_decoder])
def plain(request: pytest.FixtureRequest) -> LanguageModel:
    torch.manual_seed(0)
    return request.param()


@pytest.fixture
def table() -> torch.Tensor:
    return torch.randn(VOCAB, DIM, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def encoded(plain: LanguageModel, table: torch.Tensor) -> LanguageModel:
    model = copy.deepcopy(plain)
    model.add_encodings(table)
    return model


def test_embeddings_differ_by_the_table(
    plain: LanguageModel, encoded: LanguageModel, table: torch.Tensor
) -> None:
    tokens = torch.tensor(PROMPTS[0])
    assert torch.equal(encoded.embedding(tokens), plain.embedding(tokens) + table[tokens])


def test_zeros_change_nothing(plain: LanguageModel) -> None:
    model = copy.deepcopy(plain)
    model.add_encodings(torch.zeros(VOCAB, DIM))
    batch = plain.make_batch(PROMPTS, ANSWERS)
    assert torch.equal(model.trunk(batch), plain.trunk(batch))


def test_the_trunk_reads_the_encodings(
    plain: LanguageModel, encoded: LanguageModel, table: torch.Tensor
) -> None:
    """As if they had been added to the weights, save that the unembedding is the raw weight."""
    batch = plain.make_batch(PROMPTS, ANSWERS)
    shifted = copy.deepcopy(plain)
    with torch.no_grad():
        shifted.embedding.weight += table
    torch.testing.assert_close(encoded.trunk(batch), shifted.trunk(batch))
    assert not torch.allclose(encoded.trunk(batch), plain.trunk(batch))
    hidden = torch.randn(2, 3, DIM)
    assert torch.equal(encoded.head.logits(hidden), plain.head.logits(hidden))


def test_the_unembedding_stays_tied() -> None:
    model = make_t5()
    weight = model.embedding.weight
    model.add_encodings(torch.ones(VOCAB, DIM))
    assert model.embedding.weight is weight
    assert model.head.unembedding() is weight
    assert sum(p.shape == (VOCAB, DIM) for p in model.parameters()) == 1


def test_the_state_dict_is_that_of_a_model_without(
    plain: LanguageModel, encoded: LanguageModel
) -> None:
    assert list(encoded.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(encoded.state_dict())


def test_the_encodings_are_not_trained(encoded: LanguageModel, table: torch.Tensor) -> None:
    encoded.trunk(encoded.make_batch(PROMPTS, ANSWERS)).sum().backward()
    assert encoded.embedding.weight.grad is not None
    assert torch.equal(encoded.embedding.encodings, table)
    assert not encoded.embedding.encodings.requires_grad


def test_generation_equals_teacher_forcing(encoded: LanguageModel) -> None:
    encoded.eval()
    answers = generate(encoded, PROMPTS, max_new_tokens=5).tokens
    assert {len(answer) for answer in answers} == {5}
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        batch = encoded.make_batch([prompt], [answer])
        best = encoded.head.logits(encoded.trunk(batch)).argmax(-1)
        assert best[batch.labels >= 0].tolist() == answer


def test_a_checkpoint_comes_back(plain, encoded: LanguageModel, table, tmp_path: Path) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    path = tmp_path / "last.ckpt"
    with torch.no_grad():
        encoded.embedding.weight += 1
    objective = Objective(encoded, CrossEntropy(torch.zeros(VOCAB)))
    fabric.save(path, {"module": objective, "progress": {"step": 1}})
    model = copy.deepcopy(plain)
    model.add_encodings(table)
    load_checkpoint(fabric, path, {"module": Objective(model, CrossEntropy(torch.zeros(VOCAB)))})
    batch = plain.make_batch(PROMPTS, ANSWERS)
    assert torch.equal(model.trunk(batch), encoded.trunk(batch))


def test_a_pretrained_vocabulary_grows_by_the_place_tokens(tmp_path: Path) -> None:
    config = T5Config(
        vocab_size=VOCAB, d_model=DIM, d_ff=32, d_kv=8, num_heads=2, num_layers=2,
        decoder_start_token_id=PAD,
    )  # fmt: skip
    theirs = T5ForConditionalGeneration(config)
    theirs.save_pretrained(tmp_path)
    model = make_t5(VOCAB + 6, tmp_path)
    model.add_encodings(torch.ones(VOCAB + 6, DIM))
    assert torch.equal(model.embedding.weight[:VOCAB], theirs.shared.weight)
    assert model.embedding(torch.tensor([VOCAB + 5])).shape == (1, DIM)
    assert model.head.unembedding() is model.embedding.weight


@pytest.mark.parametrize("name", ["t5_tiny", "decoder_tiny"])
def test_the_application_adds_the_tokenizers_encodings(name: str, smoke_config) -> None:
    config: DictConfig = smoke_config(f"model={name}", "tokenizer=regression_transformer")
    texts = ["What is 1 + 2?", "-12.5"]
    tokenizer = RegressionTransformerTokenizer(vocab_size=400)
    tokenizer.train(texts)
    model = build_model(config, tokenizer)
    table = tokenizer.number_encodings(64)
    tokens = torch.tensor(tokenizer.encode(texts)[0])
    expected = model.embedding.weight[tokens] + table[tokens]
    assert table[tokens].any()
    assert torch.equal(model.embedding(tokens), expected)
    digit = DigitTokenizer(vocab_size=400)
    digit.train(texts)
    assert type(build_model(config, digit).embedding) is torch.nn.Embedding
