"""The weights of a base's backbone as its checkpoint holds them."""

from collections.abc import Iterable

from safetensors import safe_open

from deftx.models.base import Base
from deftx.store.artefact import verify
from deftx.store.errors import ArtefactError
from deftx.store.lazy import Lazy


def base_weights(base: Base) -> Lazy:
    """θ0: the tensors of a base's backbone in float32, each read when asked for. Raises
    ArtefactError if the weights are missing or corrupt, or a parameter is not among them."""
    verify(base.folder / "model.safetensors")
    file = safe_open(base.folder / "model.safetensors", framework="pt")
    keys = stored_names(file.keys(), base.shapes)
    return Lazy(keys, lambda name: file.get_tensor(keys[name]).float())


def stored_names(keys: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Backbone name → key of a checkpoint, which puts the model's prefix before it or not. Raises
    ArtefactError unless exactly one key fits each name."""
    keys = list(keys)
    found = {}
    for name in sorted(names):
        candidates = [key for key in keys if key == name or key.endswith("." + name)]
        if len(candidates) != 1:
            raise ArtefactError(f"base: {len(candidates)} stored tensors fit the parameter {name}")
        found[name] = candidates[0]
    return found
