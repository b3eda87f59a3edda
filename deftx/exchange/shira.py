"""The part of a vector that PEFT's SHiRA can hold, as an adapter that PEFT loads.

SHiRA adds sparse values to linear layers, r · (m + n) of them to a layer of shape m × n, with one r
for all. Places that a layer does not need are filled with zeros at its first entry. Embeddings,
biases and normalisation have no place in it, nor has a matrix with fewer than r · (m + n) entries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path

import torch
from peft import ShiraConfig
from safetensors.torch import save_file

from deftx.core.mask import Mask
from deftx.core.sparse_delta import SparseDelta
from deftx.exchange.foreign import classifier_head, classifier_without_weights
from deftx.exchange.model_folder import new_folder
from deftx.models.backbone import matrices
from deftx.models.base import Base
from deftx.report.template import render
from deftx.store.artefact import write_text
from deftx.store.errors import InputError


@dataclass(frozen=True)
class Carried:
    """What part of a vector went into a SHiRA adapter.

    Attributes:
        r: the adapter's.
        entries: how many it carries.
        lost: tensor name → how many of its entries have no place.
    """

    r: int
    entries: int
    lost: dict[str, int]

    @property
    def total(self) -> int:
        """How many entries the vector has."""
        return self.entries + sum(self.lost.values())


def save_shira(base: Base, vector: SparseDelta, classes: Sequence[str], folder: Path) -> Carried:
    """Write `adapter_config.json`, `adapter_model.safetensors` and a card that lists what is lost;
    with `classes` the head too, which PEFT puts in place.

    Load it onto the vector's base. Raises ArtefactError if the vector does not fit the base or the
    folder exists; InputError if SHiRA can hold no entry of it.
    """
    vector.mask.check_fits(base.shapes)
    model = classifier_without_weights(base, len(classes) or 2)
    shapes = {name: tuple(tensor.shape) for name, tensor in vector.head.items()}
    heads = classifier_head(base, len(classes)) if classes else {}
    Mask({}, shapes).check_fits(heads, "head of the vector")
    kept = {n: sum(p.shape) for n, p in matrices(model).items() if n in vector.values}
    r = 0
    while kept:
        r = max(ceil(len(vector.values[name]) / places) for name, places in kept.items())
        roomy = {n: p for n, p in kept.items() if r * p <= prod(vector.mask.shapes[n])}
        if roomy == kept:
            break
        kept = roomy
    if not kept:
        raise InputError("SHiRA can hold no entry of the vector: none is in a fitting linear layer")
    tensors = {f"base_model.model.{name}": tensor for name, tensor in vector.head.items()}
    modules = {name: f"{model.base_model_prefix}.{name.removesuffix('.weight')}" for name in kept}
    for name, places in kept.items():
        indices = torch.zeros(2, r * places, dtype=torch.int32)
        weight = torch.zeros(r * places)
        count, columns = len(vector.values[name]), vector.mask.shapes[name][1]
        indices[0, :count] = vector.mask.index[name] // columns
        indices[1, :count] = vector.mask.index[name] % columns
        weight[:count] = vector.values[name]
        tensors[f"base_model.model.{modules[name]}.shira_indices"] = indices
        tensors[f"base_model.model.{modules[name]}.shira_weight"] = weight
    config = ShiraConfig(
        r=r,
        # Anything but "random", whose places would be drawn anew.
        mask_type="deftx",  # type: ignore[arg-type]
        inference_mode=True,
        target_modules=list(modules.values()),
        # No task type: with one PEFT (0.21) takes the head as one module, and cannot merge that.
        modules_to_save=list(dict.fromkeys(n.rpartition(".")[0] for n in vector.head)) or None,
        base_model_name_or_path=base.identity["id"],
        revision=base.identity["revision"],
    )
    lost = {n: len(values) for n, values in vector.values.items() if n not in kept}
    carried = Carried(r, sum(len(vector.values[n]) for n in kept), lost)
    with new_folder(folder) as temporary:
        save_file(tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(str(temporary))
        text = render("shira.md.j2", base=base.identity, classes=list(classes), carried=carried)
        write_text(temporary / "README.md", text)
    return carried
