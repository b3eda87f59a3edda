"""Which part of a model a parameter belongs to, by its name in BERT's scheme: the names that
`Base.known_as` has for every architecture. Free of torch."""

import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import ceil

from deftx.store.errors import InputError


def layer_of(name: str) -> int | None:
    """The layer of a parameter, from 0; None if it is outside of layers."""
    found = re.search(r"\.(\d+)\.", name)
    return int(found[1]) if found else None


def layers_among(names: Iterable[str]) -> int:
    """How many layers the names of all of a base's parameters name."""
    return 1 + max((layer for name in names if (layer := layer_of(name)) is not None), default=-1)


def lower_layers(share: float, layers: int) -> int:
    """How many of a base's layers are the lower ones, if they are a share of them: the nearest
    whole number, and of two the smaller. So of an odd number of layers the middle one is not in the
    lower half. Raises InputError if this is none or all, though the share is neither 0 nor 1."""
    lower = ceil(Fraction(str(share)) * layers - Fraction(1, 2))
    if 0 < share < 1 and not 0 < lower < layers:
        which = "all" if lower else "none"
        raise InputError(
            f"the share {share:g} of {layers} layers is {share * layers:g}, so {which} of them; "
            "expected at least one, and not all (0 and 1 mean none and all)"
        )
    return lower


def in_lower_part(known_as: Mapping[str, str], share: float) -> set[str]:
    """The parameters of a base's embeddings and of its lower layers, a share of the layers;
    `known_as` has all of its parameters. Raises InputError as `lower_layers` does."""
    lower = lower_layers(share, layers_among(known_as.values()))
    return {
        name
        for name, known in known_as.items()
        if in_embeddings(known) or ((layer := layer_of(known)) is not None and layer < lower)
    }


def in_embeddings(name: str) -> bool:
    """Whether a parameter is of a lookup table or of what comes before the layers."""
    return name.startswith("embeddings.")


def in_attention(name: str) -> bool:
    """Whether a parameter is inside of a layer's attention."""
    return "attention" in name.split(".")
