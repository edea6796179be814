"""Continue a text with a model, and print the new text as it comes.

    python scripts/generate.py results/runs/0123456789abcdef "def main("
    python scripts/generate.py results/runs/0123456789abcdef --temperature 0.8 < start.py
    python scripts/generate.py results/runs/0123456789abcdef --prompts questions.txt --heads 1
    python scripts/generate.py 7B_1T_4 "def main(" --colour

MODEL is a run's folder, or a checkpoint in the layout of Llama, Hugging Face or this repository.
Without a temperature, a model with several heads uses all of them: the text is the same as with one
head, in fewer forwards.
"""

import argparse
import sys
import time
from pathlib import Path

from beyond_ce.command_line import command
from beyond_ce.errors import UsageError, check_no_device

DEFAULT_LENGTH = 256


@command()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="folder of a run or of a checkpoint"
    )
    parser.add_argument(
        "prompt",
        nargs="?",
        metavar="PROMPT",
        help="default: all of stdin, without its last newline",
    )
    parser.add_argument("--prompts", type=Path, help="a UTF-8 file with a prompt in each line")
    parser.add_argument(
        "--max-new-tokens", type=int, help=f"default: {DEFAULT_LENGTH}, or what the context holds"
    )
    parser.add_argument("--heads", type=int, help="default: all, or 1 with a temperature")
    parser.add_argument("--temperature", type=float, default=0.0, help="default: 0, greedy")
    parser.add_argument("--top-p", type=float, default=1.0, help="default: 1")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--batch-size", type=int, help="prompts at a time; default: 256")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="of the weights; default: the file's"
    )
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="of a run")
    parser.add_argument(
        "--tokenizer", type=Path, help="tokenizer.model or its folder, or a run's; default: MODEL's"
    )
    parser.add_argument("--colour", action="store_true", help="change colour with every forward")
    args = parser.parse_args()
    texts = read_prompts(args.prompt, args.prompts)

    import torch

    from beyond_ce.generation import LivePrinter, generate, longest_continuation
    from beyond_ce.runs.loading import load

    loaded = load(args.model, args.checkpoint, args.tokenizer)
    model, tokenizer = loaded.model, loaded.tokenizer
    dtype = getattr(torch, args.dtype) if args.dtype else None
    model.to("cuda" if torch.cuda.is_available() else "cpu", dtype)
    prompts = loaded.encode(texts)
    length = args.max_new_tokens
    if length is None:
        limits = [longest_continuation(model, prompt) for prompt in prompts]
        length = max(1, min([DEFAULT_LENGTH, *(limit for limit in limits if limit is not None)]))
    contexts = prompts if model.needs_prompt else [[]] * len(prompts)
    printer = LivePrinter(tokenizer, texts, contexts, length, args.colour, loaded.end_ids)
    heads = args.heads
    if heads is None:
        heads = model.head.n if model.drafts and not args.temperature else 1
    start = time.perf_counter()
    try:
        generation = generate(
            model,
            prompts,
            length,
            eos_id=loaded.end_ids,
            heads=heads,
            batch_size=args.batch_size,
            temperature=args.temperature,
            top_p=args.top_p,
            seed=args.seed,
            on_tokens=printer,
        )
    finally:
        printer.end_line()
    seconds = time.perf_counter() - start
    count = sum(map(len, generation.tokens))
    print(
        f"{count} tokens in {seconds:.2f} s: {count / seconds:.1f} tokens/s, "
        f"{generation.tokens_per_forward:.2f} tokens/forward",
        file=sys.stderr,
    )


def read_prompts(prompt: str | None, file: Path | None) -> list[str]:
    """The prompt, or the lines of the file, or all of stdin."""
    if prompt is not None and file is not None:
        raise UsageError("a prompt and --prompts were given: give only one of them")
    try:
        if prompt is not None:
            prompt.encode()  # fails on bytes that are no UTF-8, which arrive as lone surrogates
            return [prompt]
        if file is not None:
            check_no_device(file)
            return file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        return [sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"cannot read {file or 'the prompt'}: {error}") from error


if __name__ == "__main__":
    main()
