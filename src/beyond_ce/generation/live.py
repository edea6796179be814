"""Showing text while it is generated."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from beyond_ce.tokenizers import Tokenizer

_COLOURS = ("\x1b[36m", "\x1b[33m")  # cyan and yellow
_RESET = "\x1b[0m"
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_MAX_INCOMPLETE = 3  # bytes of a UTF-8 character that is not complete yet


class LiveText:
    """Turns tokens that come piece by piece into text, whole characters only.

    Args:
        context: tokens that the text continues; they decide whether it starts with a space.
    """

    def __init__(self, tokenizer: Tokenizer, context: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self.tokens = list(context)
        self.shown = len(tokenizer.decode(context))

    def add(self, tokens: Sequence[int], last: bool) -> str:
        """The new text that later tokens cannot change; all remaining text if these tokens are
        the `last`."""
        self.tokens += tokens
        text = self.tokenizer.decode(self.tokens)
        if not last:
            # An incomplete character is decoded as unknown, as a whole or byte by byte.
            head, tail = text[:-_MAX_INCOMPLETE], text[-_MAX_INCOMPLETE:]
            text = head + tail.rstrip(_UNKNOWN)
        new = text[self.shown :]
        self.shown += len(new)
        return new


class LivePrinter:
    """Prints continuations to stdout as they come: an `on_tokens` for `generate`.

    Several prompts are decoded side by side but shown in order, each under a line with its text:
    the first unfinished one is printed live, those after it wait.

    Args:
        texts: the prompts.
        contexts: the tokens that each prompt's new text continues; empty if it is a separate text.
        max_new_tokens: as passed to `generate`.
        end_ids: the tokens that end a text; None for the tokenizer's `eos_id`.
        colour: whether the colour alternates from forward to forward.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        texts: Sequence[str],
        contexts: Sequence[Sequence[int]],
        max_new_tokens: int,
        colour: bool,
        end_ids: Collection[int] | None = None,
    ) -> None:
        self.end_ids = (tokenizer.eos_id,) if end_ids is None else end_ids
        self.colour = colour
        self.texts = [LiveText(tokenizer, context) for context in contexts]
        self.left = [max_new_tokens] * len(texts)
        self.forwards = [0] * len(texts)
        self.waiting = [f"==> {text} <==\n" if len(texts) > 1 else "" for text in texts]
        self.current = 0
        self.within_line = False

    def __call__(self, i: int, tokens: list[int]) -> None:
        self.left[i] = 0 if tokens[-1] in self.end_ids else self.left[i] - len(tokens)
        text = self.texts[i].add(tokens, last=self.left[i] == 0)
        if self.colour and text:
            text = _COLOURS[self.forwards[i] % 2] + text + _RESET
        self.forwards[i] += 1
        self.waiting[i] += text
        while self.current < len(self.left):
            self._print(self.waiting[self.current])
            self.waiting[self.current] = ""
            if self.left[self.current] > 0:
                break
            self.end_line()
            self.current += 1

    def end_line(self) -> None:
        """Ends an unfinished line: after a finished prompt, or an interruption."""
        if self.within_line:
            self._print("\n")

    def _print(self, text: str) -> None:
        if text:
            print(text, end="", flush=True)
            self.within_line = not text.removesuffix(_RESET).endswith("\n")
