"""Real checkpoints of Llama's family, read in every way there is: what transformers computes.

Weights are in the precision of their files; everything is computed in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from real_models import NAMES, real_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from beyond_ce.checkpoints import load_decoder, read_checkpoint, start_from, write_checkpoint
from beyond_ce.generation import generate
from beyond_ce.models import CausalLM, Decoder, LanguageModel
from beyond_ce.models.heads import LMHead, MultiTokenHead, SharedUnembedding, TransformerBlocks
from beyond_ce.runs.loading import Loaded, load

TEXTS = [
    "Once upon a time there was a little girl named Lily. She had 12 red apples and",
    "The cat sat on the mat. The cat sat on the mat. The cat sat on the",
    "My dog",
]
LENGTH = 30


@pytest.fixture(scope="module", params=NAMES)
def folder(request: pytest.FixtureRequest) -> Path:
    return real_model(request.param)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return load(folder)


@pytest.fixture(scope="module")
def prompts(loaded: Loaded, folder: Path) -> list[list[int]]:
    ids = loaded.encode(TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert ids == [
        [*loaded.start, *tokenizer(text, add_special_tokens=False).input_ids] for text in TEXTS
    ]
    return ids


@pytest.fixture(scope="module")
def expected(theirs: PreTrainedModel, prompts: list[list[int]]) -> list[tuple[Tensor, list[int]]]:
    """Logits [T, V] and the greedy continuation of each prompt, an end token included."""
    found = []
    for prompt in prompts:
        row = torch.tensor([prompt])
        new = theirs.generate(row, max_new_tokens=LENGTH, do_sample=False, pad_token_id=0)
        with torch.no_grad():
            found.append((theirs(new).logits[0], new[0, len(prompt) :].tolist()))
    return found


def from_scratch(folder: Path, head: Callable[..., torch.nn.Module] = LMHead) -> Decoder:
    """A new model that starts from the checkpoint, as `model.pretrained` does in a run."""
    source = load_decoder(folder)
    layers = len(source.layers)
    model = Decoder(
        source.vocab_size, source.pad_id, source.eos_id, head, num_layers=layers, **source.settings
    )
    start_from(model, folder)
    return model


def converted(folder: Path, to: str, target: Path) -> LanguageModel:
    write_checkpoint(read_checkpoint(folder), target / to, to)
    return load_decoder(target / to)


def of_transformers(folder: Path) -> LanguageModel:
    source = load_decoder(folder)
    return CausalLM(source.vocab_size, source.pad_id, source.eos_id, LMHead, {}, str(folder))


LOADERS: dict[str, Callable[[Path, Path], LanguageModel]] = {
    "load_decoder": lambda folder, target: load_decoder(folder),
    "model=decoder": lambda folder, target: from_scratch(folder),
    "model=causal_lm": lambda folder, target: of_transformers(folder),
    "to native": lambda folder, target: converted(folder, "native", target),
    "to llama": lambda folder, target: converted(folder, "llama", target),
    "to hf": lambda folder, target: converted(folder, "hf", target),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_logits_and_greedy_texts_are_those_of_transformers(
    loader: str,
    folder: Path,
    prompts: list[list[int]],
    expected: list[tuple[Tensor, list[int]]],
    loaded: Loaded,
    tmp_path: Path,
) -> None:
    model = LOADERS[loader](folder, tmp_path).float().eval()
    for prompt, (logits, new) in zip(prompts, expected, strict=True):
        # 1e-5 of the largest logit, 20 to 37: one rounding of float32 is 6e-8 of it, and layers
        # add up. Measured: 1.0e-6 and 1.4e-6.
        atol = 1e-5 * float(logits.abs().max())
        row = model.packed_batch(torch.tensor([[*prompt, *new, 0]]))  # the last is a label
        with torch.no_grad():
            found = model.head.logits(model.trunk(row))[0, :, : logits.shape[-1]]
        torch.testing.assert_close(found, logits, rtol=0, atol=atol)
    assert generate(model, prompts, LENGTH, eos_id=loaded.end_ids).tokens == [
        new for _, new in expected
    ]


def test_speculative_texts_are_the_greedy_ones(
    folder: Path,
    prompts: list[list[int]],
    expected: list[tuple[Tensor, list[int]]],
    loaded: Loaded,
) -> None:
    """Further heads that say what the first says are right where a text repeats a token."""
    head = partial(
        MultiTokenHead, n=3, block=TransformerBlocks, unembedding=SharedUnembedding, extra_layers=2
    )
    model = from_scratch(folder, head).float().eval()
    for block in list(model.head.blocks)[1:]:
        block.load_state_dict(copy.deepcopy(model.head.blocks[0].state_dict()))
    again = [*prompts, [*prompts[2], *[prompts[2][-1]] * 20]]
    one, several = (
        generate(model, again, LENGTH, eos_id=loaded.end_ids, heads=heads) for heads in (1, 3)
    )
    assert one.tokens == several.tokens
    assert one.tokens[:3] == [new for _, new in expected]
    assert several.tokens_per_forward > one.tokens_per_forward == 1


def test_the_scripts_write_what_transformers_does(
    folder: Path,
    prompts: list[list[int]],
    loaded: Loaded,
    call: Callable[..., CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    own = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()  # as the script does
    new = own.generate(
        torch.tensor(prompts[:1]), max_new_tokens=LENGTH, do_sample=False, pad_token_id=0
    )[0, len(prompts[0]) :]
    whole = [*prompts[0][len(loaded.start) :], *new.tolist()]
    text = loaded.tokenizer.decode(whole).removeprefix(TEXTS[0])
    done = call("generate.py", folder, TEXTS[0], "--max-new-tokens", LENGTH)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{text}\n"
    for source, target, to in ((folder, "native", "native"), (tmp_path / "native", "hf", "hf")):
        done = call("convert_checkpoint.py", source, tmp_path / target, "--to", to)
        assert done.returncode == 0, done.stderr
    before, after = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "hf"))
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    again = call("generate.py", tmp_path / "hf", TEXTS[0], "--max-new-tokens", LENGTH)
    assert again.stdout == f"{text}\n"
