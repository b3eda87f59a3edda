"""A base model as a folder: what it is and which parameters its backbone has. Free of torch."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deftx.store.errors import ArtefactError, InputError


@dataclass(frozen=True)
class Base:
    """A pretrained encoder on disk: a folder of Hugging Face layout plus `backbone.json`.

    Attributes:
        folder: its path.
        identity: `id`, `revision` and `hash` of the backbone, as vectors record it.
        shapes: backbone parameter → shape.
        layer_norms: names of the backbone parameters that belong to normalisation layers.
        source: the parameters of the stage that made it.
    """

    folder: Path
    identity: dict[str, str | None]
    shapes: dict[str, tuple[int, ...]]
    layer_norms: frozenset[str]
    source: dict[str, Any]

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
                facts["source"],
            )
        except (FileNotFoundError, KeyError, ValueError) as error:
            raise ArtefactError(f"{folder}: not a base made by `deftx base`: {error}") from None

    @property
    def maskable(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of the parameters that may be chosen: all but normalisation layers."""
        return {n: shape for n, shape in self.shapes.items() if n not in self.layer_norms}

    def candidates(self, choose_from: str, layer_norm: bool) -> dict[str, tuple[int, ...]]:
        """Name → shape of the tensors in whose name the regular expression is found; those of
        normalisation layers only if asked for. Raises InputError if there is none."""
        known = self.shapes if layer_norm else self.maskable
        shapes = {n: shape for n, shape in known.items() if re.search(choose_from, n)}
        if not shapes:
            raise InputError(f"choose_from: {choose_from!r} is found in no maskable tensor's name")
        return shapes

    def check(self, provenance: Mapping[str, Any], path: Path | str) -> None:
        """Raise ArtefactError unless an artefact with this provenance was made for this base."""
        found = provenance.get("base", {})
        if found.get("hash") != self.identity["hash"]:
            raise ArtefactError(
                f"{path}: made for base {found.get('id')}@{found.get('revision')} "
                f"(hash {str(found.get('hash'))[:12]}), but this base is {self.identity['id']}"
                f"@{self.identity['revision']} (hash {str(self.identity['hash'])[:12]})"
            )
