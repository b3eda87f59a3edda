"""The files of a local model folder, and a checksum over them."""

import hashlib
from pathlib import Path

from deftx.store.artefact import file_sha256

MODEL_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "model.safetensors",
)


def folder_sha256(folder: Path) -> str:
    """SHA-256 over names and bytes of the model files that are there."""
    digest = hashlib.sha256()
    for name in MODEL_FILES:
        if (folder / name).is_file():
            digest.update(f"{name} {file_sha256(folder / name)}\n".encode())
    return digest.hexdigest()
