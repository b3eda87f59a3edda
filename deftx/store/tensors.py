"""Safetensors artefacts: tensors with their provenance, read one at a time."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from deftx.store.artefact import FORMAT, METADATA_KEY, atomic, canonical, verify, write_manifest
from deftx.store.errors import ArtefactError
from deftx.store.lazy import Lazy
from deftx.store.version import VERSION

log = logging.getLogger(__name__)


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names (sorted), dtypes, shapes and bytes: equal for equal content, whatever
    the metadata and the order in the file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(canonical([name, dtype, list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@cache
def libraries() -> dict[str, str]:
    """The releases of the libraries on which the bits of weights and tokens depend."""
    names = ("torch", "transformers", "tokenizers")
    return {name: version(name).partition("+")[0] for name in names}


@cache
def _warn_of(made_with: str) -> None:
    """A line for each set of versions, not for each file."""
    log.warning("inputs were made with %s, here are %s", made_with, _in_words(libraries()))


def _in_words(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def save_tensors(path: Path | str, tensors: Mapping[str, torch.Tensor], **provenance: Any) -> None:
    """Write a safetensors file with its provenance in the metadata, then its manifest.

    One metadata key holds everything: safetensors writes several keys in random order, and the
    bytes would differ from run to run.
    """
    path = Path(path)
    known = {"format": FORMAT, "version": VERSION, "libraries": libraries()}
    metadata = canonical({**known, **provenance})
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        save_file(plain, temporary, metadata={METADATA_KEY: metadata})
    write_manifest(path, tensors=tensors_sha256(plain))


class TensorFile(Lazy):
    """A safetensors artefact as a mapping from names to tensors, each read when asked for.

    `provenance` is the decoded metadata, `content` the hash of the tensors. The checksum is
    verified once, on opening.

    Raises ArtefactError if the file is missing, corrupt, not safetensors, without our metadata,
    or written in a newer format.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.content: str = verify(self.path, "tensors")["tensors"]
        try:
            file = safe_open(self.path, framework="pt")
        except SafetensorError as error:
            raise ArtefactError(f"{self.path}: not a safetensors file: {error}") from None
        metadata = (file.metadata() or {}).get(METADATA_KEY)
        if metadata is None:
            raise ArtefactError(
                f"{self.path}: no `{METADATA_KEY}` metadata: not an artefact of deftx"
            )
        try:
            self.provenance: dict[str, Any] = json.loads(metadata)
            newer = self.provenance["format"] > FORMAT
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtefactError(
                f"{self.path}: its `{METADATA_KEY}` metadata is not that of an artefact: "
                f"{type(error).__name__}"
            ) from None
        if newer:
            raise ArtefactError(
                f"{self.path}: format {self.provenance['format']}, this version of deftx reads "
                f"up to {FORMAT}: update deftx"
            )
        if (made_with := self.provenance.get("libraries")) and made_with != libraries():
            _warn_of(_in_words(made_with))
        super().__init__(sorted(file.keys()), file.get_tensor, f"{self.path}: ")


def encode_ids(ids: Iterable[str]) -> torch.Tensor:
    """The ids of an evaluation's items, UTF-8 with a line feed between them, as uint8 (bytes,)."""
    return torch.frombuffer(bytearray("\n".join(ids).encode()), dtype=torch.uint8)


def decode_ids(tensor: torch.Tensor) -> np.ndarray:
    """The inverse of `encode_ids`: strings (items,)."""
    return np.array(tensor.numpy().tobytes().decode().split("\n"))
