"""Measurements against a plain implementation; run as `python -m benchmarks.NAME`."""
