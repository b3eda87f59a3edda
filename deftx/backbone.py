"""The backbone of a base model: its parameters, their names, and its identity.

The backbone is what a base's masked-language model and its classifier share; parameters are named
as in the bare encoder (`encoder.layer.0.…`), without the prefix of either model.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from deftx.artefact import ArtefactError, verify

if TYPE_CHECKING:  # seconds of import that most stages do not need
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Base:
    """A pretrained encoder on disk: a folder of Hugging Face layout plus `backbone.json`.

    Attributes:
        folder: where it lies.
        identity: `id`, `revision` and `hash` of the backbone, as vectors record it.
        shapes: backbone parameter → shape.
        layer_norms: names of the backbone parameters that belong to normalisation layers.
    """

    folder: Path
    identity: dict[str, str | None]
    shapes: dict[str, tuple[int, ...]]
    layer_norms: frozenset[str]

    @classmethod
    def load(cls, folder: Path | str) -> "Base":
        """Read what is known of a base, by its folder or by the `model.safetensors` in it. Raises
        ArtefactError if the folder is not one."""
        folder = Path(folder)
        folder = folder.parent if folder.name == "model.safetensors" else folder
        try:
            facts = json.loads((folder / "backbone.json").read_text(encoding="utf-8"))
            return cls(
                folder,
                facts["identity"],
                {name: tuple(p["shape"]) for name, p in facts["parameters"].items()},
                frozenset(name for name, p in facts["parameters"].items() if p["layer_norm"]),
            )
        except (FileNotFoundError, KeyError, ValueError) as error:
            raise ArtefactError(f"{folder}: not a base made by `deftx base`: {error}") from None

    @property
    def maskable(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of the parameters that may be chosen: all but normalisation layers."""
        return {n: shape for n, shape in self.shapes.items() if n not in self.layer_norms}

    def candidates(self, choose_from: str, layer_norm: bool) -> dict[str, tuple[int, ...]]:
        """Name → shape of the tensors in whose name the regular expression is found; those of
        normalisation layers only if asked for. Raises ValueError if there is none."""
        known = self.shapes if layer_norm else self.maskable
        shapes = {n: shape for n, shape in known.items() if re.search(choose_from, n)}
        if not shapes:
            raise ValueError(f"choose_from: {choose_from!r} is found in no maskable tensor's name")
        return shapes

    def weights(self) -> "BaseWeights":
        """The backbone's tensors, in float32, each read when asked for."""
        return BaseWeights(self)

    def check(self, provenance: Mapping[str, Any], path: Path | str) -> None:
        """Raise ArtefactError unless an artefact with this provenance was made for this base."""
        found = provenance.get("base", {})
        if found.get("hash") != self.identity["hash"]:
            raise ArtefactError(
                f"{path}: made for base {found.get('id')}@{found.get('revision')} "
                f"(hash {str(found.get('hash'))[:12]}), but this base is {self.identity['id']}"
                f"@{self.identity['revision']} (hash {str(self.identity['hash'])[:12]})"
            )


class BaseWeights(Mapping[str, torch.Tensor]):
    """The tensors of a base's backbone as float32."""

    def __init__(self, base: Base) -> None:
        verify(base.folder / "model.safetensors")
        self._file = safe_open(base.folder / "model.safetensors", framework="pt")
        self._keys = stored_names(self._file.keys(), base.shapes)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._file.get_tensor(self._keys[name]).float()

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def stored_names(keys: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Backbone name → key of a checkpoint, which puts the model's prefix before it or not."""
    keys = list(keys)
    found = {}
    for name in sorted(names):
        candidates = [key for key in keys if key == name or key.endswith("." + name)]
        if len(candidates) != 1:
            raise ArtefactError(f"base: {len(candidates)} stored tensors fit the parameter {name}")
        found[name] = candidates[0]
    return found


def backbone_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the backbone's tensors by sorted name, in their stored dtype."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def backbone_parameters(model: "PreTrainedModel") -> dict[str, torch.nn.Parameter]:
    """Name without prefix → parameter of the backbone (a pooler counts as head)."""
    return {
        name: parameter
        for name, parameter in model.base_model.named_parameters()
        if not name.startswith("pooler.")
    }


def head_parameters(model: "PreTrainedModel") -> dict[str, torch.nn.Parameter]:
    """Full name → parameter of everything outside the backbone, a frozen decoder excepted."""
    backbone = {id(parameter) for parameter in backbone_parameters(model).values()}
    decoder = model.get_output_embeddings()
    if decoder is not None:
        backbone.add(id(decoder.weight))
    return {n: p for n, p in model.named_parameters() if id(p) not in backbone}


def layer_norm_names(model: "PreTrainedModel") -> set[str]:
    """Names, without prefix, of the parameters of the backbone's normalisation layers."""
    return {
        f"{path}.{name}" if path else name
        for path, module in model.base_model.named_modules()
        if "norm" in type(module).__name__.lower()
        for name, _ in module.named_parameters(recurse=False)
    }
