"""Convert a decoder between the layouts of Meta's Llama, Hugging Face and this repository.

    python scripts/convert_checkpoint.py 7B_1T_4 mtp-7b --to native
    python scripts/convert_checkpoint.py 7B_1T_4 mtp-7b-hf --to hf --dtype bfloat16
    python scripts/convert_checkpoint.py results/runs/0123456789abcdef small --to llama

SOURCE is recognised by its files: params.json and consolidated.pth or consolidated.*.pth (Llama and
the released multi-token models), config.json and safetensors or torch files (Hugging Face, or
converted here), or a run's folder. In Hugging Face's layout only the next-token head is written, as
an ordinary Llama; the other layouts hold all heads.
"""

import argparse
from pathlib import Path

from beyond_ce.command_line import command

DTYPES = ("float32", "bfloat16", "float16", "float64")


@command()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder to read")
    parser.add_argument("target", type=Path, metavar="TARGET", help="new folder to write")
    parser.add_argument("--to", choices=("hf", "llama", "native"), required=True)
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights; default: unchanged")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="of a run")
    args = parser.parse_args()

    import torch

    from beyond_ce.checkpoints import load_decoder
    from beyond_ce.runs.conversion import convert

    dtype = getattr(torch, args.dtype) if args.dtype else None
    source = convert(args.source, args.target, args.to, dtype, args.checkpoint).model
    for path in sorted(path for path in args.target.iterdir() if path.is_file()):
        print(f"{path}: {path.stat().st_size:,} bytes")
    written = load_decoder(args.target)
    for name, model in (("read", source), ("written", written)):
        count = sum(value.numel() for value in model.parameters())
        print(f"{name}: {count:,} parameters, {model.head.n} head(s)")


if __name__ == "__main__":
    main()
