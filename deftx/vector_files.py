"""The files that a vector lies in, ours and those of the public LT-SFT code. Free of torch."""

from pathlib import Path

SFT_STAGES = ("sparse", "convert")
"""Stages whose artefact is a sparse vector in an SFT file."""

OURS, PUBLIC = "sft_model.safetensors", "pytorch_diff.bin"

VECTOR_FILES = (OURS, f"{OURS}.json", "sft_config.json", "README.md", PUBLIC)
"""What belongs to a vector in a folder or on the hub; every other file there is left alone."""


def vector_file(path: Path) -> Path | None:
    """The file that holds the vector: the path itself, or the one of these names in a folder, ours
    first; None if there is none."""
    candidates = [path / OURS, path / PUBLIC] if path.is_dir() else [path]
    return next((candidate for candidate in candidates if candidate.is_file()), None)
