"""The trainer's batches over a corpus, and runs on one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
import torch
from omegaconf import DictConfig

from beyond_ce.batches.batch import IGNORED
from beyond_ce.batches.packed import PackedBatches, pack_tokens
from beyond_ce.batches.packed_tokens import PackedTokens
from beyond_ce.configuration import compose
from beyond_ce.errors import RunError, UsageError
from beyond_ce.models import CausalLM, Decoder
from beyond_ce.models.heads import LMHead
from beyond_ce.runs.experiment import run
from beyond_ce.runs.preparation import prepare
from beyond_ce.tokenizers import ByteTokenizer

TEXTS = [f"Document {i} says {i * i}.\n" * (1 + i % 5) for i in range(40)]


def decoder(max_length: int = 16) -> Decoder:
    ids = ByteTokenizer()
    return Decoder(ids.vocab_size, ids.pad_id, ids.eos_id, LMHead, 8, 1, 1, max_length=max_length)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> PackedTokens:
    split = datasets.Dataset.from_dict({"text": TEXTS})
    return pack_tokens(split, ByteTokenizer(), 16, tmp_path_factory.mktemp("cache"), "key")


def batches(
    tokens: PackedTokens, seed: int = 0, batch_size: int = 8, **options: int
) -> PackedBatches:
    options = {"validation_batch_size": 4, **options}
    return PackedBatches(decoder(), tokens, tokens, batch_size, seed, **options)


def inputs(parts: list) -> torch.Tensor:
    return torch.cat([part.input_ids for part in parts])


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(tokens: PackedTokens) -> None:
    made = batches(tokens)
    epochs = []
    for epoch in range(2):
        steps = range(
            epoch * made.order.batches_per_epoch, (epoch + 1) * made.order.batches_per_epoch
        )
        rows = torch.cat([torch.from_numpy(made.order[step]) for step in steps]).tolist()
        assert len(set(rows)) == len(rows) == len(tokens) // 8 * 8
        epochs.append(rows)
    assert epochs[0] != epochs[1]


def test_a_step_is_a_function_of_seed_and_step(tokens: PackedTokens) -> None:
    made = batches(tokens)
    last = 2 * made.order.batches_per_epoch + 1
    later = inputs(made.train(last, 0, 1, 1))
    assert torch.equal(later, inputs(batches(tokens).train(last, 0, 1, 1)))
    made.train(0, 0, 1, 1)
    assert torch.equal(later, inputs(made.train(last, 0, 1, 1)))
    assert not torch.equal(later, inputs(batches(tokens, seed=1).train(last, 0, 1, 1)))


def test_ranks_and_parts_share_a_step(tokens: PackedTokens) -> None:
    made = batches(tokens)
    whole = inputs(made.train(3, 0, 1, 1)).tolist()
    shares = [made.train(3, rank, 2, 2) for rank in range(2)]
    assert [len(part.input_ids) for share in shares for part in share] == [2] * 4
    assert sorted(inputs([*shares[0], *shares[1]]).tolist()) == sorted(whole)


def test_validation_is_spread_over_the_split(tokens: PackedTokens) -> None:
    made = batches(tokens, most_validation_rows=11)
    parts = made.validation(0, 1)
    assert [len(part.input_ids) for part in parts] == [4, 4, 3]
    rows = inputs(parts).tolist()
    assert rows[0] == tokens.rows([0])[0, :-1].tolist()
    assert rows[-1] == tokens.rows([len(tokens) - 1])[0, :-1].tolist()
    whole = inputs(batches(tokens, most_validation_rows=10**6).validation(0, 1))
    assert len(whole) == len(tokens)


@pytest.mark.parametrize(("rows", "ranks"), [(11, 2), (9, 2), (10, 3), (8, 2), (2, 4)])
def test_ranks_validate_on_all_rows_in_as_many_batches(
    tokens: PackedTokens, rows: int, ranks: int
) -> None:
    made = batches(tokens, most_validation_rows=rows)
    shares = [made.validation(rank, ranks) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    parts = [part for share in shares for part in share if (part.labels != IGNORED).any()]
    whole = inputs(made.validation(0, 1)).tolist()
    assert sorted(inputs(parts).tolist()) == sorted(whole)


def test_labels_are_the_next_bytes_of_the_same_document(tokens: PackedTokens) -> None:
    part = batches(tokens).train(0, 0, 1, 1)[0]
    known = part.labels != IGNORED
    assert torch.equal(known, part.input_ids != ByteTokenizer.eos_id)
    follows = part.labels[:, :-1] == part.input_ids[:, 1:]
    assert follows[known[:, :-1]].all()


def test_a_step_is_described_by_its_rows(tokens: PackedTokens) -> None:
    made = batches(tokens)
    rows = ", ".join(map(str, sorted(made.order[2].tolist())))
    assert made.describe(2) == (
        f"rows {rows} of the training split, counted from 0, of 16 tokens each"
    )


def test_what_does_not_fit_is_refused_at_once(tokens: PackedTokens) -> None:
    with pytest.raises(UsageError, match=r"batch_size is 9999 but the training split has only"):
        batches(tokens, batch_size=9999)
    with pytest.raises(UsageError, match=r"sequence_length=16 exceeds .* context of 15 tokens"):
        PackedBatches(decoder(max_length=15), tokens, tokens, 4, 0, 4)


def test_models_of_transformers_read_rows_as_well(tokens: PackedTokens) -> None:
    ids = ByteTokenizer()
    shape = {"n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 16}
    model = CausalLM(
        ids.vocab_size, ids.pad_id, ids.eos_id, LMHead, {"model_type": "gpt2", **shape}
    )
    part = PackedBatches(model, tokens, tokens, 4, 0, 4).train(0, 0, 1, 1)[0]
    assert torch.equal(part.labels, batches(tokens, batch_size=4).train(0, 0, 1, 1)[0].labels)
    assert model.trunk(part).shape == (4, 16, 8)
    with pytest.raises(UsageError, match=r"sequence_length=17 exceeds .* context of 16 tokens"):
        model.packed_batch(torch.zeros(1, 18, dtype=torch.long))


@pytest.fixture
def corpus_config(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> Callable[..., DictConfig]:
    """The real config on a corpus of no size."""
    folder = tmp_path_factory.mktemp("texts")
    for i, text in enumerate(TEXTS):
        (folder / f"{i}.txt").write_text(text)
    overrides = [
        *("scale=smoke", "dataset=text_files", f"dataset.path={folder}"),
        *("dataset.sequence_length=16", "dataset.test_share=0.2", "dataset.validation_share=0.2"),
        *("tokenizer=byte", "model=decoder_smallest", "evaluator=held_out"),
        *("evaluator.context=16", "trainer.max_steps=6", "trainer.batch_size=4"),
        *("trainer.progress=false", "trainer.checkpoint_every=2"),
        *(f"results_dir={tmp_path / 'results'}", f"cache_dir={tmp_path / 'cache'}"),
    ]
    return lambda *more: compose([*overrides, *more])


def test_a_run_on_a_corpus_ends_with_a_report(corpus_config: Callable[..., DictConfig]) -> None:
    report = json.loads((run(corpus_config()) / "report.json").read_text())
    assert (report["steps"], report["samples"]) == (6, 24)
    assert 0 < report["metrics"]["test/bits_per_byte"] < 16
    assert math.isfinite(report["metrics"]["validation/loss"])


def test_an_interrupted_run_ends_as_if_it_had_not_been(
    corpus_config: Callable[..., DictConfig],
    run_in_two: Callable[[DictConfig], Path],
    tmp_path: Path,
) -> None:
    whole = run(corpus_config("trainer.accumulate=2"))
    resumed = run_in_two(
        corpus_config("trainer.accumulate=2", f"results_dir={tmp_path / 'second'}")
    )
    metrics = [
        json.loads((folder / "report.json").read_text())["metrics"] for folder in (whole, resumed)
    ]
    assert metrics[0] == metrics[1]


def test_tokenizers_learn_from_the_training_documents(
    corpus_config: Callable[..., DictConfig],
) -> None:
    prepared = prepare(corpus_config("tokenizer=digit", "tokenizer.vocab_size=320"))
    ids = prepared.tokenizer.encode(["Document 12 says"])[0]
    assert len(ids) < len("Document 12 says")
    assert prepared.train.bytes == sum(len(text) for text in prepared.splits["train"]["text"])


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (["model=t5_tiny"], r"model T5 answers prompts.*choose model=decoder_tiny"),
        (["head=regression", "loss=mse"], r"head RegressionHead predicts no tokens.*head=lm"),
        (["evaluator=number_answers"], r"NumberAnswers reads 'prompt'.*evaluator=held_out"),
        (["evaluator=number_answers_and_mass"], r"Evaluators reads 'prompt'"),
        (["evaluator=number_answers", "baseline=mean"], r"NumberAnswers reads 'prompt'"),
    ],
)
def test_what_is_not_for_a_corpus_is_one_line(
    corpus_config: Callable[..., DictConfig], choices: list[str], message: str
) -> None:
    config = corpus_config(*(each for each in choices if not each.startswith("evaluator")))
    if choices[0].startswith("evaluator"):  # the others' settings are not for it
        config.evaluator = compose(choices[:1]).evaluator
    with pytest.raises(UsageError, match=message) as error:
        run(config)
    assert "\n" not in str(error.value)


def test_prompts_are_not_for_an_evaluator_of_documents(
    smoke_config: Callable[..., DictConfig],
) -> None:
    config = smoke_config()
    config.evaluator = compose(["evaluator=held_out"]).evaluator
    with pytest.raises(UsageError, match=r"HeldOut reads 'text', which dataset Arithmetic does"):
        run(config)


def test_a_truncated_cache_is_one_line(corpus_config: Callable[..., DictConfig]) -> None:
    config = corpus_config()
    prepare(config)
    for path in (Path(config.cache_dir) / "tokens").glob("*/tokens.bin"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"token cache .*tokens\.bin is damaged") as error:
        run(config)
    assert "\n" not in str(error.value)
