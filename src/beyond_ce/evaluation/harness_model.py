"""A model here as EleutherAI's lm-evaluation-harness sees one: likelihoods and generated texts.

The package `lm_eval` takes seconds to import, so this module is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from beyond_ce.errors import UsageError
from beyond_ce.evaluation.likelihood import likelihoods
from beyond_ce.generation import generate
from beyond_ce.generation.stopping import StopTexts, before, continuation
from beyond_ce.models.base import CausalModel

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from beyond_ce.evaluation.evaluator import Subject

_CONTEXT = 2048  # tokens of a window, of models without a limit
_KEPT = 64  # contexts whose tokens are kept: the choices of a question have one


class HarnessModel(TemplateLM):
    """Answers the harness's requests, as its own `hf` model does.

    Contexts that are too long lose their beginning. Texts begin with the subject's start tokens; an
    empty context is its last start token, or its first end token if it has none.

    Args:
        batch_size: requests answered together; changes speed and memory only.
        max_new_tokens: longest generated answer, where a task does not say.
        head: the head that predicts continuations, 1 for that of the next token (see
            `likelihoods`).
    """

    def __init__(
        self, subject: Subject, batch_size: int, max_new_tokens: int, head: int = 1
    ) -> None:
        super().__init__()
        self.subject = subject
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self.head = head
        self.backend = "causal" if isinstance(subject.model, CausalModel) else "seq2seq"
        self.truncated = 0
        self._encoded = lru_cache(_KEPT)(self._encode)

    @property
    def eot_token_id(self) -> int:
        return self.subject.ends[0]

    @property
    def prefix_token_id(self) -> int:
        return self.subject.start[-1] if self.subject.start else self.eot_token_id

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        tokens = self._encoded(string)
        return tokens if add_special_tokens is False else [*self.subject.start, *tokens]

    def _encode(self, text: str) -> list[int]:
        return self.subject.tokenizer.encode([text])[0]

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm)
        return found

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        **kwargs: Any,
    ) -> list[tuple[float, bool]]:
        """Log-likelihood, and whether greedy decoding would give it, of continuations by tokens.

        A continuation without tokens is certain.
        """
        pairs = [(context, answer) for _, context, answer in requests if answer]
        found = iter(self._likelihoods(pairs))
        return [next(found) if answer else (0.0, True) for _, _, answer in requests]

    def _likelihoods(self, pairs: list[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        model = self.subject.model
        if model.max_length is not None:
            self.truncated += sum(len(c) + len(a) - 1 > model.max_length for c, a in pairs)
        scores = likelihoods(model, self.subject.device, pairs, self.batch_size, self.head)
        return [(score.nats, score.greedy) for score in scores]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """Log-likelihood of whole texts, in windows of the model's context that do not overlap."""
        windows, owners = [], []
        for i, request in enumerate(requests):
            parts = get_rolling_token_windows(
                token_list=self.tok_encode(*request.args),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.subject.model.max_length or _CONTEXT,
                context_len=1,
            )
            for part in map(make_disjoint_window, parts):
                windows.append(part)
                owners.append(i)
        totals = [0.0] * len(requests)
        for i, (nats, _) in zip(owners, self._likelihoods(windows), strict=True):
            totals[i] += nats
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Each context's continuation up to the first of its stop texts.

        Raises:
            UsageError: a head other than that of the next token is chosen, or the answers do not
                fit the model.
        """
        if self.head != 1:
            raise UsageError(
                f"evaluator.head={self.head}: answers are generated from the next token's head, so "
                "choose tasks with choices only, or evaluator.head=1"
            )
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(self._sampling(request.args[1]), []).append(i)
        texts = [""] * len(requests)
        for sampling, members in groups.items():
            contexts = [requests[i].args[0] for i in members]
            stops = [_stops(requests[i].args[1]) for i in members]
            for i, text in zip(members, self._generate(contexts, stops, *sampling), strict=True):
                texts[i] = text
        return texts

    def _sampling(self, settings: Mapping[str, Any]) -> tuple[int, float, float]:
        """Longest answer, temperature and top_p of a request."""
        most = settings.get("max_gen_toks", self.max_new_tokens)
        temperature = settings.get("temperature", 1.0) if settings.get("do_sample") else 0.0
        return int(most), float(temperature), float(settings.get("top_p", 1.0))

    def _generate(
        self,
        texts: Sequence[str],
        stops: Sequence[Sequence[str]],
        most: int,
        temperature: float,
        top_p: float,
    ) -> list[str]:
        model, tokenizer = self.subject.model.to(self.subject.device), self.subject.tokenizer
        prompts = [self.tok_encode(text) or [self.prefix_token_id] for text in texts]
        if model.max_length is not None and self.backend == "causal":
            room = model.max_length - most
            if room < 1:
                raise UsageError(
                    f"evaluator.max_new_tokens={most} leaves no room for a question in the model's "
                    f"context of {model.max_length} tokens: lower it"
                )
            self.truncated += sum(len(prompt) > room for prompt in prompts)
            prompts = [prompt[-room:] for prompt in prompts]
        plain = [_without(self.subject.start, prompt) for prompt in prompts]
        made = generate(
            model,
            prompts,
            max_new_tokens=most,
            eos_id=self.subject.ends,
            batch_size=self.batch_size,
            temperature=temperature,
            top_p=top_p,
            stop=StopTexts(tokenizer, plain, stops),
        )
        answers = zip(plain, made.tokens, stops, strict=True)
        return [before(continuation(tokenizer, *pair), stop) for *pair, stop in answers]


def _stops(settings: Mapping[str, Any]) -> list[str]:
    until = settings.get("until") or []
    return [text for text in ([until] if isinstance(until, str) else until) if text]


def _without(start: Sequence[int], prompt: list[int]) -> list[int]:
    """A prompt without the special tokens that it begins with."""
    return prompt[len(start) :] if prompt[: len(start)] == list(start) else prompt
