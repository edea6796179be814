"""Ending a continuation at a text, such as the beginning of the next function."""

from __future__ import annotations

from collections.abc import Sequence

from beyond_ce.tokenizers import Tokenizer


def continuation(tokenizer: Tokenizer, prompt: Sequence[int], tokens: Sequence[int]) -> str:
    """The text that `tokens` add to a prompt.

    Some tokenizers leave out the first space of a text, so the tokens alone may give another one.
    """
    return tokenizer.decode([*prompt, *tokens])[len(tokenizer.decode(prompt)) :]


def before(text: str, stops: Sequence[str]) -> str:
    """The text before the first place where one of `stops` begins."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places, default=len(text))]


class StopTexts:
    """Ends a continuation as soon as its text holds one of some texts: a `stop` for `generate`.

    The text that stops it is part of the continuation; `before` cuts it off.

    Looking for the texts in all of a continuation after every token would take longer than a small
    model. So each token's own text is looked up in a table, and the continuation is decoded only
    where these texts make one of the stops.

    Args:
        prompts: the tokens that each continuation follows, without special tokens.
        stops: of each prompt.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompts: Sequence[Sequence[int]],
        stops: Sequence[Sequence[str]],
    ) -> None:
        self.tokenizer = tokenizer
        self.prompts = prompts
        self.stops = stops
        self._tails = [""] * len(prompts)
        self._kept = [max(map(len, texts), default=1) - 1 for texts in stops]
        self._pieces: dict[int, str] = {}
        # A token's text within a text, its leading space included, shows after another token.
        self._anchor = next(iter(tokenizer.encode(["a"])), [])

    def __call__(self, i: int, tokens: list[int]) -> bool:
        piece = self._piece(tokens[-1])
        text = self._tails[i] + piece
        self._tails[i] = text[-self._kept[i] :] if self._kept[i] else ""
        # Other characters than those of ASCII may be spelled by several tokens.
        if not any(stop in text or not stop.isascii() for stop in self.stops[i]):
            return False
        whole = continuation(self.tokenizer, self.prompts[i], tokens)
        return any(stop in whole for stop in self.stops[i])

    def _piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = continuation(self.tokenizer, self._anchor, [token])
        return self._pieces[token]
