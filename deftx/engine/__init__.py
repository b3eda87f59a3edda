"""The training engine: what docs/engine.md explains."""
