"""The files of a local model folder, and a checksum over them. Free of torch."""

import hashlib
import json
from pathlib import Path

from deftx.store.artefact import file_sha256
from deftx.store.errors import ArtefactError

WEIGHTS = "model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
VOCABULARIES = (
    *("added_tokens.json", "sentencepiece.bpe.model", "spiece.model", "spm.model"),
    *("tokenizer.model", "vocab.txt", "vocab.json", "merges.txt"),
)
"""Files that a tokenizer is converted from where there is no `tokenizer.json`."""

HUB_FILES = (
    *("config.json", *TOKENIZER_FILES, *VOCABULARIES),
    *(WEIGHTS, f"{WEIGHTS}.index.json", "model-*-of-*.safetensors"),
)
"""What is downloaded of a model on the Hub."""

PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")
"""What is downloaded, on request, where these are its only weights."""


def model_files(folder: Path, allow_pickle: bool = False) -> list[str]:
    """The names of the files in a folder that make up its model, the weights last; there is none of
    weights if it has none that may be read. Raises ArtefactError if an index of shards is damaged.
    """
    names = ["config.json", *TOKENIZER_FILES]
    if not (folder / "tokenizer.json").is_file():
        names += VOCABULARIES
    found = [name for name in names if (folder / name).is_file()]
    for weights in (WEIGHTS, "pytorch_model.bin") if allow_pickle else (WEIGHTS,):
        if (folder / weights).is_file():
            return [*found, weights]
        index = folder / f"{weights}.index.json"
        if index.is_file():
            return [*found, index.name, *_shards(index)]
    return found


def _shards(index: Path) -> list[str]:
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ArtefactError(f"{index}: not an index of shards (JSON with `weight_map`)") from None
    for name in shards:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise ArtefactError(f"{index}: names {name!r}, which is no file beside it")
    return shards


def has_weights(folder: Path, allow_pickle: bool = False) -> bool:
    """Whether a folder has weights that may be read."""
    names = model_files(folder, allow_pickle)
    return bool(names) and names[-1].endswith((".safetensors", ".bin"))


def folder_sha256(folder: Path, allow_pickle: bool = False) -> str:
    """SHA-256 over names and bytes of the files of the model."""
    digest = hashlib.sha256()
    for name in model_files(folder, allow_pickle):
        digest.update(f"{name} {file_sha256(folder / name)}\n".encode())
    return digest.hexdigest()
