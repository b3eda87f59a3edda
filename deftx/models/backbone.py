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
    """Backbone name → key of a checkpoint, with the prefix of a model before all of them or none.
    Raises ArtefactError unless exactly one prefix fits."""
    keys, names = set(keys), sorted(names)
    ends = [key.removesuffix(names[0]) for key in keys if f".{key}".endswith(f".{names[0]}")]
    fit = [prefix for prefix in ends if all(prefix + name in keys for name in names)]
    if len(fit) != 1:
        lacking = [name for name in names if not any(prefix + name in keys for prefix in ends)]
        raise ArtefactError(
            f"base: {len(fit)} sets of stored tensors fit the parameters of the backbone"
            + (f"; none is {lacking[0]}" if lacking else "")
        )
    return {name: fit[0] + name for name in names}
