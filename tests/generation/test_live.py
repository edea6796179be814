from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.generation.live import LivePrinter, LiveText
from beyond_ce.tokenizers import BPETokenizer, ByteTokenizer, Tokenizer

BYTES = ByteTokenizer()


@pytest.fixture(scope="module")
def pieces() -> BPETokenizer:
    tokenizer = BPETokenizer(vocab_size=300)
    tokenizer.train(["def main(args):", "    return 0"] * 20)
    return tokenizer


def shown(tokenizer: Tokenizer, tokens: list[int], cuts: list[int]) -> list[str]:
    """What is shown of tokens that come in parts."""
    live = LiveText(tokenizer, [])
    ends = sorted({min(cut, len(tokens)) for cut in cuts} | {len(tokens)})
    starts = [0, *ends[:-1]]
    return [live.add(tokens[a:b], last=b == ends[-1]) for a, b in zip(starts, ends, strict=True)]


@given(st.text(max_size=12), st.lists(st.integers(0, 40)))
def test_bytes_are_shown_as_whole_characters(text: str, cuts: list[int]) -> None:
    tokens = BYTES.encode([text])[0]
    parts = shown(BYTES, tokens, cuts)
    assert "".join(parts) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in part for part in parts)


@given(st.binary(max_size=20), st.lists(st.integers(0, 20)))
def test_bytes_of_no_text_are_shown_as_they_are_decoded(data: bytes, cuts: list[int]) -> None:
    assert "".join(shown(BYTES, list(data), cuts)) == data.decode("utf-8", "replace")


def test_pieces_and_byte_tokens(pieces: BPETokenizer) -> None:
    text = "def main(über, 🎉):\n    return '日本'"
    tokens = pieces.encode([text])[0]
    parts = shown(pieces, tokens, list(range(len(tokens))))
    assert "".join(parts) == text and not any("\ufffd" in part for part in parts)
    assert sum(map(bool, parts)) > 20, "and all the time, not at the end"


def test_a_text_goes_on_without_its_start(pieces: BPETokenizer) -> None:
    live = LiveText(pieces, pieces.encode(["def"])[0])
    assert live.add(pieces.encode([" main"])[0], last=True) == " main"


def printer(texts: list[str], length: int = 5, colour: bool = False) -> LivePrinter:
    return LivePrinter(BYTES, texts, BYTES.encode(texts), length, colour)


def test_one_prompt_is_printed_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    live = printer(["go"])
    for tokens, expected in ((list(b"a\xc3"), "a"), ([0xBC], "ü"), ([BYTES.eos_id], "\n")):
        live(0, tokens)
        assert capsys.readouterr().out == expected
    live.end_line()
    assert capsys.readouterr().out == ""


def test_prompts_are_printed_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    live = printer(["one", "two", "three"])
    live(1, list(b"b1"))
    assert capsys.readouterr().out == "==> one <==\n"
    live(2, list(b"c1234"))
    live(0, list(b"a1"))
    assert capsys.readouterr().out == "a1"
    live(0, [ord("\n"), BYTES.eos_id])
    assert capsys.readouterr().out == "\n==> two <==\nb1"
    live(1, list(b"234"))
    assert capsys.readouterr().out == "234\n==> three <==\nc1234\n"


def test_colours_alternate_with_forwards(capsys: pytest.CaptureFixture[str]) -> None:
    live = printer(["go"], colour=True)
    for tokens in (b"ab", b"c", b"\xc3", b"\xbc"):
        live(0, list(tokens))
    cyan, yellow, end = "\x1b[36m", "\x1b[33m", "\x1b[0m"
    assert capsys.readouterr().out == f"{cyan}ab{end}{yellow}c{end}{yellow}ü{end}\n"


def test_an_interruption_ends_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    live = printer(["go"])
    live(0, list(b"ab"))
    live.end_line()
    assert capsys.readouterr().out == "ab\n"
