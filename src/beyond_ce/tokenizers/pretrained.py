"""The unchanged tokenizer of any pretrained model in transformers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from beyond_ce.errors import UsageError
from beyond_ce.settings import FLAG, NO_LIMIT, SOURCE, takes
from beyond_ce.tokenizers.base import Tokenizer

_SPACES = "Ġ▁ "
"""How a token writes its leading space: byte-level BPE, SentencePiece, plain."""

_DIGITS = "0123456789"
_SAMPLE = "1 23.4"

_FOLDER = "pretrained"  # transformers' own tokenizer.json would overwrite our settings


class PretrainedTokenizer(Tokenizer):
    """A tokenizer as transformers loads it; text, numbers included, is split in its own way.

    Tokens of decimal digits, "12" as well as " 12", are numbers with that value. Their length
    depends on the tokenizer: GPT-2 has many tokens of 3 and more digits, Granite and Qwen only
    single digits. We add no beginning-of-sequence token. A tokenizer without a padding token pads
    with its end token: batches mark padding by length, and `decode` stops at the first end token.

    transformers turns "<|endoftext|>" in a text into the end token. Here no text gives a special
    token, except for the unknown token, in place of what the vocabulary cannot encode.

    Args:
        model: a folder, or a model's name on the Hugging Face hub; read on first use.
        digits_only: whether only single digits count as numbers. If the tokenizer has longer
            numbers, few labels are numbers then.
        split_digits: whether every digit is a token of its own, by which longer numbers are split
            before anything else, and only "0" to "9" are numbers. A digit that the vocabulary lacks
            is added to it. For byte-level vocabularies such as GPT-2's.
        vocab_size: ignored, as by all tokenizers with a `model`; experiments set it for those that
            learn their vocabulary.
    """

    encoding = 2  # 1 gave special tokens for their spellings

    @takes(
        "tokenizer",
        model=SOURCE,
        digits_only=FLAG,
        split_digits=FLAG,
        vocab_size=NO_LIMIT,
    )
    def __init__(
        self,
        model: str,
        digits_only: bool = False,
        vocab_size: int | None = None,
        split_digits: bool = False,
    ) -> None:
        self.model = model
        self.digits_only = digits_only
        self.split_digits = split_digits
        self._loaded: PreTrainedTokenizerFast | None = None
        self._spelled: dict[int, list[int]] = {}

    @property
    def _tokenizer(self) -> PreTrainedTokenizerFast:
        if self._loaded is None:
            self.fit((), Path(), "")  # only loads the tokenizer; it learns and caches nothing
        assert self._loaded is not None
        return self._loaded

    def _set_tokenizer(self, tokenizer: Any) -> None:
        if not tokenizer.is_fast:
            raise UsageError(
                f"tokenizer.model={self.model}: {type(tokenizer).__name__} has no fast version in "
                "transformers: choose another model"
            )
        if tokenizer.eos_token_id is None:
            raise UsageError(
                f"tokenizer.model={self.model} has no end token, which answers need: "
                "choose another model"
            )

        def or_end(token_id: int | None) -> int:
            return tokenizer.eos_token_id if token_id is None else token_id

        if self.split_digits:  # added tokens are found before text is split into others
            tokenizer.add_tokens(list(_DIGITS))
        # A file may switch these on. Encoding would switch them off and change the fingerprint.
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        self._loaded = tokenizer
        # Not the number of tokens, which is smaller if some ids are unused. Kept, because every
        # `decode` needs it and listing the vocabulary takes longer than decoding a text.
        self._vocab_size = 1 + max(tokenizer.get_vocab().values())
        self.eos_id = tokenizer.eos_token_id
        self.pad_id = or_end(tokenizer.pad_token_id)
        self.unk_id = or_end(tokenizer.unk_token_id)
        self.bos_id = or_end(tokenizer.bos_token_id)
        self._spelled = self._spell_special(tokenizer)
        if self.split_digits and self.decode(*self.encode([_SAMPLE])) != _SAMPLE:
            raise UsageError(
                f"tokenizer.split_digits=true: that of {self.model} would add spaces to a text "
                "around its digits: choose tokenizer=digit"
            )

    def _spell_special(self, tokenizer: PreTrainedTokenizerFast) -> dict[int, list[int]]:
        """The ids of each special token's spelling, character by character.

        Characters without a token of their own are the unknown token; if that has another role
        as well, such as GPT-2's, they are left out.
        """
        roles = {self.eos_id, self.pad_id, self.bos_id}
        added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        special = roles | added | set(tokenizer.all_special_ids)
        if tokenizer.unk_token_id not in roles:
            special.discard(tokenizer.unk_token_id)
        model = tokenizer.backend_tokenizer.model
        return {
            i: [
                token.id
                for character in str(tokenizer.convert_ids_to_tokens(i))
                for token in model.tokenize(character)
                if token.id not in special
            ]
            for i in special
        }

    @property
    def vocab_size(self) -> int:
        assert self._tokenizer  # loads it, if need be
        return self._vocab_size

    @property
    def start_ids(self) -> list[int]:
        """The special tokens with which transformers begins every text, such as Llama's <s>."""
        plain = self._tokenizer("1", add_special_tokens=False)["input_ids"]
        whole = self._tokenizer("1")["input_ids"]
        places = range(len(whole) - len(plain) + 1)
        start = next((i for i in places if whole[i : i + len(plain)] == plain), 0)
        return list(whole[:start])

    def fit(self, texts: Iterable[str], cache_dir: Path, key: str) -> PretrainedTokenizer:
        # Each file format raises its own errors; for the user they all mean the same.
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.model, trust_remote_code=False)
            self._set_tokenizer(tokenizer)
        except UsageError:
            raise
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise UsageError(
                f"tokenizer.model={self.model} cannot be loaded; give a folder with a tokenizer "
                "of transformers or, with network, a model's name on the Hugging Face hub "
                f"({reason})"
            ) from error
        return self

    def encode(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        batch = self._tokenizer(
            texts,
            add_special_tokens=False,
            return_attention_mask=False,
            split_special_tokens=True,
        )["input_ids"]
        # Some vocabularies have special tokens among their ordinary pieces and still find them.
        spelled = self._spelled
        return [
            ids
            if spelled.keys().isdisjoint(ids)
            else [j for i in ids for j in spelled.get(i, (i,))]
            for ids in batch
        ]

    def decode(self, ids: Iterable[int]) -> str:
        known = range(self.vocab_size)
        answer = takewhile(lambda i: i != self.eos_id, map(int, ids))
        kept = [i for i in answer if i in known and i != self.pad_id]
        return str(self._tokenizer.decode(kept, clean_up_tokenization_spaces=False))

    def number_values(self) -> torch.Tensor:
        values = torch.full((self.vocab_size,), torch.nan)
        if self.split_digits:
            values[self._tokenizer.convert_tokens_to_ids(list(_DIGITS))] = torch.arange(10.0)
            return values
        for i, text in enumerate(self._texts()):
            if text.isascii() and text.isdecimal() and (len(text) == 1 or not self.digits_only):
                values[i] = float(text)
        return values

    def _texts(self) -> list[str]:
        """Each token's text without leading spaces; empty for added tokens."""
        texts = [""] * self.vocab_size
        for token, i in self._tokenizer.get_vocab().items():
            if i not in self._tokenizer.added_tokens_decoder:
                texts[i] = token.lstrip(_SPACES)
        return texts

    def fingerprint(self) -> str:
        content = [
            type(self).__name__,
            self._tokenizer.backend_tokenizer.to_str(),
            self.eos_id,
            self.pad_id,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _settings(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "digits_only": self.digits_only,
            "split_digits": self.split_digits,
        }

    def _save_vocabulary(self, folder: Path) -> None:
        self._tokenizer.save_pretrained(folder / _FOLDER)

    def _load_vocabulary(self, folder: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder / _FOLDER, trust_remote_code=False)
        self._set_tokenizer(tokenizer)
