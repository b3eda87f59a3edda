"""Which part of a model a parameter belongs to, by its name in BERT's scheme: the names that
`Base.known_as` has for every architecture. Free of torch."""

import re


def layer_of(name: str) -> int | None:
    """The layer of a parameter, from 0; None if it is outside of layers."""
    found = re.search(r"\.(\d+)\.", name)
    return int(found[1]) if found else None


def in_embeddings(name: str) -> bool:
    """Whether a parameter is of a lookup table or of what comes before the layers."""
    return name.startswith("embeddings.")


def in_attention(name: str) -> bool:
    """Whether a parameter is inside of a layer's attention."""
    return "attention" in name.split(".")
