"""The place of a parameter in the model: its module and its layer, read from its name."""

import re

BIASES, NORMS = "biases", "normalisation"

NO_LAYER = "emb."


def place(name: str) -> tuple[str, str]:
    """(module, layer) of a backbone parameter, by its name in BERT's scheme:
    `encoder.layer.3.attention.self.query.weight` is (attention query, 3). The biases of a
    layer are one module, its normalisation another; parameters outside of the layers have the layer
    NO_LAYER."""
    path, _, kind = name.rpartition(".")
    found = re.search(r"\.(\d+)\.", f".{path}.")
    layer = found[1] if found else NO_LAYER
    if "norm" in path.lower():
        return NORMS, layer
    if kind == "bias":
        return BIASES, layer
    inside = f".{path}."[found.end() :] if found else path
    words = [word for word in inside.strip(".").split(".") if word not in ("self", "dense")]
    return " ".join(words if found else words[-1:]).replace("_", " "), layer


def depth(layer: str) -> int:
    """Sorts layers: parameters outside the layers come first."""
    return -1 if layer == NO_LAYER else int(layer)
