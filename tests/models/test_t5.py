from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from beyond_ce.errors import UsageError
from beyond_ce.models import T5
from beyond_ce.models.heads import LMHead

PAD, EOS, VOCAB = 0, 1, 40
PROMPTS = [[5, 6, 7, 8, 9], [10], [11, 12, 13]]
ANSWERS = [[20, EOS], [21, 22, 23, EOS], [24, 25, EOS]]


def make(vocab_size: int = VOCAB, pretrained: Path | None = None, dropout: float = 0.0) -> T5:
    return T5(
        vocab_size, PAD, EOS, partial(LMHead), d_model=16, d_ff=32, d_kv=8, num_heads=2,
        num_layers=2, dropout=dropout, pretrained=pretrained and str(pretrained),
    )  # fmt: skip


def checkpoint(folder: Path, vocab_size: int = VOCAB, v1_1: bool = False) -> Path:
    """A random T5 as transformers saves it; v1.1 has gated activations, no tying, no scaling."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=vocab_size, d_model=16, d_ff=32, d_kv=8, num_heads=2, num_layers=2,
        decoder_start_token_id=PAD, feed_forward_proj="gated-gelu" if v1_1 else "relu",
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    if v1_1:
        model.all_tied_weights_keys.pop("lm_head.weight")
        model.lm_head.weight = torch.nn.Parameter(torch.randn(vocab_size, 16))
    model.save_pretrained(folder)
    if v1_1:
        saved = json.loads((folder / "config.json").read_text())
        saved.pop("scale_decoder_outputs", None)
        (folder / "config.json").write_text(json.dumps(saved | {"tie_word_embeddings": False}))
    return folder


def reference(folder: Path) -> T5ForConditionalGeneration:
    return T5ForConditionalGeneration.from_pretrained(folder).eval()


@pytest.mark.parametrize("v1_1", [False, True])
@pytest.mark.parametrize("spare_rows", [0, 8])
def test_equals_transformers(tmp_path: Path, v1_1: bool, spare_rows: int) -> None:
    folder = checkpoint(tmp_path, VOCAB + spare_rows, v1_1)
    model, theirs = make(pretrained=folder), reference(folder)
    batch = model.make_batch(PROMPTS, ANSWERS)
    hidden = model.trunk(batch)
    expected = theirs(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        decoder_input_ids=batch.decoder_input_ids,
        labels=batch.labels,
    )
    logits = hidden @ model.head.unembedding().T
    assert logits.shape == (3, 4, VOCAB + spare_rows)
    torch.testing.assert_close(logits, expected.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.head.logits(hidden), logits)
    loss = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten())
    torch.testing.assert_close(loss, expected.loss)
    loss.backward()
    expected.loss.backward()
    for name, parameter in theirs.named_parameters():
        if name.startswith(("encoder.block", "decoder.block")):
            ours = model.get_parameter(name)
            torch.testing.assert_close(ours.grad, parameter.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.embedding.weight.grad, theirs.shared.weight.grad)


def test_random_weights_are_those_of_transformers() -> None:
    torch.manual_seed(3)
    model = make()
    torch.manual_seed(3)
    theirs = T5ForConditionalGeneration(
        T5Config(vocab_size=VOCAB, d_model=16, d_ff=32, d_kv=8, num_heads=2, num_layers=2)
    )
    assert torch.equal(model.embedding.weight, theirs.shared.weight)
    name = "decoder.block.1.layer.1.EncDecAttention.q.weight"
    assert torch.equal(model.get_parameter(name), theirs.get_parameter(name))


def test_unembedding_is_held_once() -> None:
    model = make()
    assert model.head.unembedding() is model.embedding.weight
    sizes = [p.numel() for p in model.parameters() if p.shape == (VOCAB, 16)]
    assert sizes == [VOCAB * 16]
    assert [name for name, p in model.state_dict().items() if p.shape == (VOCAB, 16)] == [
        "embedding.weight",
        "head.weight",
    ]


def test_untied_checkpoint_keeps_its_own_unembedding(tmp_path: Path) -> None:
    model = make(pretrained=checkpoint(tmp_path, v1_1=True))
    assert model.head.unembedding() is not model.embedding.weight
    assert torch.equal(model.head.unembedding(), reference(tmp_path).lm_head.weight)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model = make()
    batch = model.make_batch(PROMPTS, ANSWERS)
    logits = model.head.logits(model.trunk(batch))
    F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = make()
    together = model.trunk(model.make_batch(PROMPTS, ANSWERS))
    for row, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        alone = model.trunk(model.make_batch([prompt], [answer]))
        torch.testing.assert_close(together[row, : len(answer)], alone[0])


def test_decoding_equals_teacher_forcing() -> None:
    torch.manual_seed(0)
    model = make().eval()
    answers = [[20, 21, 22], [23, 24, 25], [26, 27, 28]]
    expected = model.head.logits(model.trunk(model.make_batch(PROMPTS, answers)))
    state, logits = model.prefill(PROMPTS, max_new_tokens=3)
    torch.testing.assert_close(logits, expected[:, 0])
    torch.testing.assert_close(
        model.step(state, torch.tensor([row[0] for row in answers])), expected[:, 1]
    )
    rows = torch.tensor([2, 0])
    state.select(rows)
    torch.testing.assert_close(
        model.step(state, torch.tensor([row[1] for row in answers])[rows]), expected[rows, 2]
    )


@pytest.mark.parametrize("v1_1", [False, True])
def test_decoding_equals_transformers(tmp_path: Path, v1_1: bool) -> None:
    folder = checkpoint(tmp_path, v1_1=v1_1)
    model, theirs = make(pretrained=folder).eval(), reference(folder)
    theirs.generation_config.eos_token_id = None  # so that no answer ends early
    batch = model.make_batch(PROMPTS, ANSWERS)
    expected = theirs.generate(
        batch.input_ids,
        attention_mask=batch.attention_mask,
        max_new_tokens=4,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    with torch.no_grad():
        state, logits = model.prefill(PROMPTS, max_new_tokens=4)
        for step, theirs_logits in enumerate(expected.logits):
            torch.testing.assert_close(logits, theirs_logits, rtol=1e-5, atol=1e-5)
            if step < 3:
                logits = model.step(state, expected.sequences[:, step + 1])


def test_decoding_yields_no_padded_token(tmp_path: Path) -> None:
    model = make(pretrained=checkpoint(tmp_path, VOCAB + 8))
    _, logits = model.prefill(PROMPTS, max_new_tokens=1)
    assert logits.shape == (3, VOCAB)


def test_dropout_comes_from_the_configuration(tmp_path: Path) -> None:
    model = make(pretrained=checkpoint(tmp_path), dropout=0.5)
    assert all(module.training for module in model.modules())
    batch = model.make_batch(PROMPTS, ANSWERS)
    assert not torch.equal(model.train().trunk(batch), model.trunk(batch))
    assert torch.equal(model.eval().trunk(batch), model.trunk(batch))


def test_larger_tokenizer_adds_rows(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    model = make(VOCAB + 5, pretrained=folder)
    assert model.head.unembedding() is model.embedding.weight
    assert model.embedding.weight.shape == (VOCAB + 5, 16)
    assert torch.equal(model.embedding.weight[:VOCAB], reference(folder).shared.weight)


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


def test_checkpoint_that_cannot_be_loaded_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = checkpoint(tmp_path / "truncated")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    gpt2 = tmp_path / "gpt2"
    GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=9)).save_pretrained(gpt2)
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "missing", tmp_path / "empty", folder, gpt2):
        with pytest.raises(UsageError, match=f"model.pretrained={path}") as error:
            make(pretrained=path)
        assert "\n" not in str(error.value)
