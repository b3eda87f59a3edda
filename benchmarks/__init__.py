"""Comparisons with plain implementations; run as `python -m benchmarks.NAME`."""
