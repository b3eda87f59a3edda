"""A base model as a folder: what it is and which parameters its backbone has. Free of torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deftx.core.places import in_embeddings, layer_of
from deftx.store.artefact import check_sha256, read_json
from deftx.store.errors import ArtefactError, InputError

READ_BY_TRANSFORMERS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""Files that a folder of a model may have or not, and that change what its tokenizer does."""


def check_length(max_length: int, positions: int | None, what: str) -> None:
    """Raise InputError, after the words of `what`, if items of so many tokens have no room in a
    model of so many positions."""
    if positions is not None and max_length > positions:
        raise InputError(
            f"{what}: max_length is {max_length}, the base has room for {positions} positions"
        )


@dataclass(frozen=True)
class Base:
    """A pretrained encoder on disk: a folder of Hugging Face layout plus `backbone.json`.

    Attributes:
        folder: its path.
        identity: `id` and `revision`; `hash` of the backbone; `canary`, the hash of what its
            tokenizer makes of a fixed text. Vectors record them.
        shapes: backbone parameter → shape.
        layer_norms: names of the backbone parameters that belong to normalisation layers.
        known_as: backbone parameter → its name in BERT's scheme, see `deftx.models.parts`.
        model_type: of transformers.
        depth: how many layers an item goes through, some of which may share their weights.
        positions: how many tokens an item may have; None if nothing limits it.
        source: the parameters of the stage that made it.
    """

    folder: Path
    identity: dict[str, str | None]
    shapes: dict[str, tuple[int, ...]]
    layer_norms: frozenset[str]
    known_as: dict[str, str]
    model_type: str
    depth: int
    positions: int | None
    source: dict[str, Any]

    @classmethod
    def load(cls, folder: Path | str) -> "Base":
        """Read what is known of a base, by its folder or by the `model.safetensors` in it. Raises
        ArtefactError if the folder is not one, or if its config or tokenizer are not as recorded;
        the weights are verified where they are read."""
        folder = Path(folder)
        folder = folder.parent if folder.name == "model.safetensors" else folder
        if not (folder / "backbone.json").is_file():
            raise ArtefactError(f"{folder}: not a base made by `deftx base`: no backbone.json")
        facts = read_json(folder / "backbone.json")
        try:
            parameters, files = facts["parameters"], facts["files"]
            base = cls(
                folder,
                facts["identity"],
                {name: tuple(p["shape"]) for name, p in parameters.items()},
                frozenset(name for name, p in parameters.items() if p["layer_norm"]),
                {name: p.get("known_as", name) for name, p in parameters.items()},
                facts["model_type"],
                facts["depth"],
                facts["positions"],
                facts["source"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtefactError(f"{folder}: not a base made by `deftx base`: {error}") from None
        for name, sha256 in files.items():
            check_sha256(folder / name, sha256, "backbone.json")
        for path in folder.iterdir():
            if path.name in READ_BY_TRANSFORMERS and path.name not in files:
                raise ArtefactError(f"{path}: no file of this base, and may change it: remove it")
        return base

    @property
    def maskable(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of the parameters that may be chosen: all but normalisation layers."""
        return {n: shape for n, shape in self.shapes.items() if n not in self.layer_norms}

    def candidates(self, choose_from: str, layer_norm: bool) -> dict[str, tuple[int, ...]]:
        """Name → shape of the tensors in whose name in BERT's scheme the regular expression is
        found; those of normalisation layers only if asked for. Raises InputError if there is
        none."""
        known = self.shapes if layer_norm else self.maskable
        shapes = {n: s for n, s in known.items() if re.search(choose_from, self.known_as[n])}
        if not shapes:
            raise InputError(f"choose_from: {choose_from!r} is found in no maskable tensor's name")
        return shapes

    @property
    def linear(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of the matrices of linear layers."""
        return {
            name: shape
            for name, shape in self.maskable.items()
            if len(shape) == 2 and name not in self.embeddings
        }

    @property
    def embeddings(self) -> frozenset[str]:
        """The names of the parameters of lookup tables and of what comes before the layers."""
        return frozenset(name for name, known in self.known_as.items() if in_embeddings(known))

    def check_length(self, max_length: int, what: str) -> None:
        """Raise InputError, after the words of `what`, if items of so many tokens have no room."""
        check_length(max_length, self.positions, what)

    @property
    def layers(self) -> int:
        """How many layers have weights of their own."""
        return len({layer_of(known) for known in self.known_as.values()} - {None})

    def check_own_layers(self, what: str) -> None:
        """Raise InputError, after the words of `what`, if layers share their weights."""
        if self.layers != self.depth:
            raise InputError(
                f"{what}: the base's {self.depth} layers share the weights of {self.layers}, so "
                "none can be treated differently"
            )

    def check(self, provenance: Mapping[str, Any], path: Path | str) -> None:
        """Raise ArtefactError unless an artefact with this provenance was made for this base."""
        found = provenance.get("base", {})
        canary = self.identity.get("canary")
        if found.get("hash") == self.identity["hash"] and found.get("canary", canary) != canary:
            raise ArtefactError(
                f"{path}: made with another tokenizer than that of this base "
                f"{self.identity['id']}@{self.identity['revision']}, whose weights are the same: "
                "the two split text differently"
            )
        if found.get("hash") != self.identity["hash"]:
            raise ArtefactError(
                f"{path}: made for base {found.get('id')}@{found.get('revision')} "
                f"(hash {str(found.get('hash'))[:12]}), but this base is {self.identity['id']}"
                f"@{self.identity['revision']} (hash {str(self.identity['hash'])[:12]})"
            )
