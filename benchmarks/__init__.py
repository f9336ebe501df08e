"""Benchmarks against what people use instead: `python -m benchmarks.write`."""
