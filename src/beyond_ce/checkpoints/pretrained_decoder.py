"""A decoder of a checkpoint's own size, so that a config needs to name nothing but that."""

from __future__ import annotations

from collections.abc import Callable

from beyond_ce.checkpoints.formats import read_checkpoint
from beyond_ce.errors import UsageError
from beyond_ce.models.decoder import Decoder
from beyond_ce.models.heads import Head
from beyond_ce.settings import SOURCE, takes
from beyond_ce.storage.hub import checkpoint_folder


class PretrainedDecoder(Decoder):
    """A `Decoder` with the sizes of a checkpoint: Llama, Mistral, Qwen2 and others like them.

    The constructor reads the sizes and initialises randomly; `build_model` then calls `start_from`.
    A head may be of any kind: layers that it takes should come on top (`head.extra_layers`).

    Args:
        vocab_size, pad_id, eos_id: the tokenizer's. The embedding may have more rows, of padding.
        head: as for `Decoder`.
        pretrained: a folder with a checkpoint in any layout that `read_checkpoint` supports, or its
            name on the Hugging Face hub.

    Raises:
        UsageError: there is no checkpoint, or it has fewer tokens than the tokenizer.
        RunError: a file is missing or damaged.
    """

    @takes("model", pretrained=SOURCE)
    def __init__(
        self,
        vocab_size: int,
        pad_id: int,
        eos_id: int,
        head: Callable[..., Head],
        pretrained: str,
    ) -> None:
        config = read_checkpoint(checkpoint_folder(pretrained, "model.pretrained")).config
        rows = config["vocab_size"]
        # Embeddings are padded by a few hundred rows at most; many more mean another vocabulary.
        if not rows / 2 <= vocab_size <= rows:
            raise UsageError(
                f"model.pretrained={pretrained} has a vocabulary of {rows} tokens, the tokenizer "
                f"{vocab_size}: choose tokenizer=pretrained tokenizer.model={pretrained}"
            )
        sizes = {k: v for k, v in config["model"].items() if k not in ("_target_", "pretrained")}
        super().__init__(rows, pad_id, eos_id, head, **sizes, pretrained=pretrained)
        self.vocab_size = vocab_size
