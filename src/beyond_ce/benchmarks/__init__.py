"""Benchmarks of what the package claims to be fast or small; run by `scripts/benchmark.py`.

Each module is a target and has `main(args: list[str]) -> dict`: options in, JSON values out.
"""
