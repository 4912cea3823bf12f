"""The benchmarks: `uv run python benchmarks/run.py` prints one table of them."""
