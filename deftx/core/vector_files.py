"""The files that hold a vector: ours and those of the public LT-SFT code. Free of torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deftx.store.artefact import write_json

SFT_STAGES = ("sparse", "convert")
"""Stages whose artefact is a sparse vector in an SFT file."""

OURS, PUBLIC = "sft_model.safetensors", "pytorch_diff.bin"

VECTOR_FILES = (OURS, f"{OURS}.json", "sft_config.json", "README.md", PUBLIC)
"""What belongs to a vector in a folder or on the hub; every other file there is left alone."""


def write_sft_config(
    folder: Path,
    identity: Mapping[str, Any],
    classes: list[str] | None,
    task_type: str,
    **facts: Any,
) -> None:
    """Write `sft_config.json`: what a reader needs to use a vector of a base of this identity,
    under the names that PEFT gives such facts; so `task_type` is PEFT's name. The folder is made if
    there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "sft_config.json",
        {
            "format": 1,
            "base_model_name_or_path": identity["id"],
            "revision": identity["revision"],
            "base_hash": identity["hash"],
            "task_type": task_type,
            "labels": classes,
            **facts,
        },
    )


def vector_file(path: Path) -> Path | None:
    """The file that holds the vector: the path itself, or the one of these names in a folder, ours
    first; None if there is none."""
    candidates = [path / OURS, path / PUBLIC] if path.is_dir() else [path]
    return next((candidate for candidate in candidates if candidate.is_file()), None)
