"""Further heads on models from elsewhere: head 1 stays the source's, the result decodes with all
heads and is exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from real_models import real_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from beyond_ce.checkpoints import PretrainedDecoder, load_decoder
from beyond_ce.configuration import compose
from beyond_ce.errors import RunError, UsageError
from beyond_ce.evaluation.self_speculation import differences
from beyond_ce.generation import generate
from beyond_ce.models import Decoder
from beyond_ce.models.heads import LMHead, MultiTokenHead
from beyond_ce.runs.conversion import convert
from beyond_ce.runs.experiment import run
from beyond_ce.runs.loading import load
from beyond_ce.runs.store import read_report

TEXT = "Once upon a time there was a little fox who liked to count the stars in the sky. "
HEADS = {
    "multi_token": ["head.extra_layers=3"],
    "multi_token_linear": [],
    "multi_token_recurrent": ["head.extra_layers=1"],
}


@pytest.fixture(scope="module", params=["random", "stories260k"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in transformers' layout; the random one has more rows than the tokenizer tokens."""
    if request.param == "stories260k":
        return real_model("stories260k")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=264, hidden_size=32, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        rope_theta=50000.0, eos_token_id=1, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("random")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def overrides(source: Path, tmp_path: Path, head: str) -> list[str]:
    texts = tmp_path / "texts"
    texts.mkdir(exist_ok=True)
    for i in range(40):
        (texts / f"{i}.txt").write_text(TEXT * 2 + f"This was tale {i}.\n")
    tokenizer = ["tokenizer=byte"]
    if (source / "tokenizer.json").exists():
        tokenizer = ["tokenizer=pretrained", f"tokenizer.model={source}"]
    return [
        *("model=decoder_pretrained", f"model.pretrained={source}", *tokenizer),
        *("dataset=text_files", f"dataset.path={texts}", "dataset.sequence_length=32"),
        *("dataset.test_share=0.3", "dataset.validation_share=0.2"),
        *(f"head={head}", *HEADS[head], "+head.draft_vocabulary=60"),
        *("loss=ce", "optimizer.lr=3e-3"),
        *("trainer.max_steps=6", "trainer.batch_size=2", "trainer.progress=false"),
        *("evaluator=held_out", "evaluator.context=32", "evaluator.batch_size=4"),
        *(f"results_dir={tmp_path}", f"cache_dir={tmp_path}/cache", "trainer.accelerator=cpu"),
    ]


@pytest.mark.parametrize("head", HEADS)
def test_head_1_is_the_sources_and_all_heads_decode(
    head: str, source: Path, tmp_path: Path
) -> None:
    folder = run(compose([*overrides(source, tmp_path, head), "objective=further_heads"]))
    loaded, original = load(folder), load_decoder(source, torch.float32)
    model = loaded.model
    assert isinstance(model, Decoder) and isinstance(model.head, MultiTokenHead)
    assert model.head.n == 4 and model.head.token_counts is not None
    assert model.head.token_counts.sum() > 0
    plain = model.next_token_model()
    weights = dict(original.named_parameters())
    assert dict(plain.named_parameters()).keys() == weights.keys()
    assert all(torch.equal(p, weights[name]) for name, p in plain.named_parameters())
    tokens = torch.arange(3, 20)[None]
    with torch.no_grad():
        assert torch.equal(model.logits(tokens)[:, :, 0], original.logits(tokens)[:, :, 0])
    prompts = loaded.encode([TEXT[:30], "The fox"])
    greedy = generate(original, prompts, 24).tokens
    drafted = generate(model, prompts, 24, heads=4)
    assert differences(model, prompts, greedy, drafted.tokens)[1] == 0
    metrics = read_report(folder)["metrics"]
    assert {"validation/loss", "test/accuracy@head4"} <= metrics.keys()
    # The native export has all heads, transformers' that of the next token.
    convert(folder, tmp_path / "native", "native", tell=lambda line: None)
    with torch.no_grad():
        expected = model.logits(tokens)
        native = load_decoder(tmp_path / "native")
        assert torch.equal(native.logits(tokens), expected)
        half = load_decoder(tmp_path / "native", torch.bfloat16)
        for other in (native, half):
            assert isinstance(other.head, MultiTokenHead) and other.head.token_counts is not None
            assert torch.equal(other.head.token_counts, model.head.token_counts)
        file = tmp_path / "native" / "model.safetensors"
        kept = load_file(file)
        del kept["head.token_counts"]
        save_file(kept, file)
        with pytest.raises(RunError, match=r"has no head\.token_counts of shape"):
            load_decoder(tmp_path / "native")
        convert(folder, tmp_path / "hf", "hf", tell=lambda line: None)
        peer = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", trust_remote_code=False)
        torch.testing.assert_close(peer(tokens).logits, expected[:, :, 0], rtol=1e-4, atol=1e-4)


def test_without_the_objective_the_trunk_trains_too(source: Path, tmp_path: Path) -> None:
    folder = run(compose(overrides(source, tmp_path, "multi_token")))
    model, original = load(folder).model, load_decoder(source, torch.float32)
    assert isinstance(model, Decoder)
    weights = dict(original.named_parameters())
    moved = [not torch.equal(p, weights[n]) for n, p in model.next_token_model().named_parameters()]
    assert all(moved)


@pytest.mark.parametrize("tokens", [10_000, 20])
def test_another_vocabulary_is_refused(source: Path, tokens: int) -> None:
    with pytest.raises(
        UsageError, match=rf"a vocabulary of \d+ tokens, the tokenizer {tokens}: ch"
    ):
        PretrainedDecoder(tokens, 0, 1, LMHead, str(source))
