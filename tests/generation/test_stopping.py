from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.errors import UsageError
from beyond_ce.generation import StopTexts, before, continuation, generate
from beyond_ce.models import Decoder
from beyond_ce.models.heads import LMHead, MultiTokenHead, SharedUnembedding, TransformerBlocks
from beyond_ce.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    PretrainedTokenizer,
    SubwordTokenizer,
    Tokenizer,
)

STOPS = ("\ndef", "\nclass", "\nprint", "\nif")
CODE = [
    "def f(a, b):\n    if a:\n        return  b\n    return a\n\ndef g():\n    pass\n",
    "    x = 1\n\n\nclass A:\n    defined = 'é'\n\n\nprint(A)\n",
    "for i in range(9):\n\tprint(i)\nif i:\n  print ( 'π' )\n#\ndefault = 1\n",
]
NAMES = ["byte", "bpe", "subword"]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    texts = [text * 5 for text in CODE]
    return {
        "byte": ByteTokenizer(),
        "bpe": BPETokenizer(vocab_size=340).fit(texts, folder, "stops"),
        "subword": SubwordTokenizer(vocab_size=330).fit(texts, folder, "stops"),
    }


def test_before_cuts_at_the_first_stop() -> None:
    assert before("a\nif b\ndef c", STOPS) == "a"
    assert before("a\n if b\n  def", STOPS) == "a\n if b\n  def"
    assert before("\ndef", STOPS) == ""
    assert before("a\ndef", ()) == "a\ndef"


@pytest.mark.parametrize("name", ["byte", "bpe"])
@pytest.mark.parametrize("text", CODE)
def test_a_continuation_keeps_its_spaces(
    tokenizers: dict[str, Tokenizer], name: str, text: str
) -> None:
    tokenizer = tokenizers[name]
    ids = tokenizer.encode([text])[0]
    for cut in range(len(ids)):
        start = tokenizer.decode(ids[:cut])
        if text.startswith(start):  # no character is cut
            assert start + continuation(tokenizer, ids[:cut], ids[cut:]) == text


def stopped_at(tokenizer: Tokenizer, prompt: list[int], ids: list[int], stops: tuple[str, ...]):
    """After how many tokens it stops; None for never."""
    stop = StopTexts(tokenizer, [[], prompt], [(), stops])
    lengths = range(1, len(ids) + 1)
    return next((length for length in lengths if stop(1, ids[:length])), None)


def holding(tokenizer: Tokenizer, prompt: list[int], ids: list[int], stops: tuple[str, ...]):
    """The same, by looking at the whole text after every token."""
    lengths = range(1, len(ids) + 1)
    texts = {length: continuation(tokenizer, prompt, ids[:length]) for length in lengths}
    return next((n for n, text in texts.items() if any(stop in text for stop in stops)), None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", CODE)
@pytest.mark.parametrize("stops", [STOPS, ("return", "x"), ("  return", " ("), ("'π'", "é"), ()])
def test_it_stops_as_soon_as_the_text_holds_a_stop(
    tokenizers: dict[str, Tokenizer], name: str, text: str, stops: tuple[str, ...]
) -> None:
    tokenizer = tokenizers[name]
    ids = tokenizer.encode([text])[0]
    for cut in (0, 1, 7):
        expected = holding(tokenizer, ids[:cut], ids[cut:], stops)
        assert stopped_at(tokenizer, ids[:cut], ids[cut:], stops) == expected


@given(st.lists(st.integers(0, 339), max_size=40))
def test_random_tokens_stop_where_their_text_says(
    tokenizers: dict[str, Tokenizer], ids: list[int]
) -> None:
    for tokenizer in tokenizers.values():
        known = [i for i in ids if i < tokenizer.vocab_size]
        prompt = tokenizer.encode(["def f():\n"])[0]
        stops = ("\n", "if", "f(", ":\n    ")
        assert stopped_at(tokenizer, prompt, known, stops) == holding(
            tokenizer, prompt, known, stops
        )


def test_each_prompt_has_its_own_stops(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["byte"]
    stop = StopTexts(tokenizer, [[], [], []], [("ab",), ("b",), ("abc", "xyz")])
    text = tokenizer.encode(["xabc"])[0]
    ends: dict[int, int] = {}
    for length in range(1, 5):  # side by side, as in a batch
        for i in range(3):
            if i not in ends and stop(i, text[:length]):
                ends[i] = length
    assert ends == {0: 3, 1: 3, 2: 4}


def model(head: partial) -> Decoder:
    torch.manual_seed(0)
    made = Decoder(
        260, 256, 257, head, dim=16, num_layers=4, num_heads=2, max_length=128, multiple_of=8
    ).double()
    torch.nn.init.normal_(made.head.unembedding())
    return made


HEADS = partial(
    MultiTokenHead, n=3, block=TransformerBlocks, unembedding=SharedUnembedding
)  # fmt: skip


@pytest.mark.parametrize(
    "keys", [{}, {"temperature": 0.8}, {"temperature": 1.0, "batch_size": 3}, {"heads": 3}]
)
def test_generation_ends_with_the_token_that_completes_a_stop(keys: dict) -> None:
    decoder, tokenizer = model(HEADS), ByteTokenizer()
    prompts = tokenizer.encode(["def", "x", "yz", "#", "0", "def"])
    free = generate(decoder, prompts, 60, **keys)
    texts = [[*row] for row in free.tokens]
    # Two bytes that come somewhere in the middle of each text.
    stops = [(bytes(row[20:22]).decode("latin-1"), "no text has this") for row in texts]

    class Latin(ByteTokenizer):
        """Every byte is a character."""

        def decode(self, ids) -> str:
            return bytes(i for i in ids if i < 256).decode("latin-1")

    stop = StopTexts(Latin(), prompts, stops)
    found = generate(decoder, prompts, 60, **keys, stop=stop)
    for row, full, (text, _) in zip(found.tokens, texts, stops, strict=True):
        whole = Latin().decode(full)
        ends = whole.index(text) + 2
        assert Latin().decode(row) == whole[:ends]
    assert any(len(row) < 60 for row in found.tokens)
    if "heads" not in keys:
        assert found.tokens_per_forward == 1


def test_beam_search_does_not_stop_at_texts() -> None:
    decoder = model(partial(LMHead))
    with pytest.raises(UsageError, match="num_beams=2 with stop"):
        generate(decoder, [[5]], 3, num_beams=2, stop=lambda i, tokens: False)


def test_a_real_vocabulary() -> None:
    folder = Path(os.environ.get("BEYOND_CE_DATA", "")) / "tokenizers" / "gpt2"
    if not folder.is_dir():
        pytest.skip("needs tokenizers/gpt2 in BEYOND_CE_DATA")
    tokenizer = PretrainedTokenizer(str(folder))
    for text in CODE:
        ids = tokenizer.encode([text])[0]
        for stops in (STOPS, ("  return",), ("é", "π")):
            for cut in (0, 1, 7):
                expected = holding(tokenizer, ids[:cut], ids[cut:], stops)
                assert stopped_at(tokenizer, ids[:cut], ids[cut:], stops) == expected
