"""The part of a vector that PEFT's SHiRA can hold, as an adapter that PEFT loads.

SHiRA adds sparse values to linear layers, r · (m + n) of them to a layer of shape m × n, with one r
for all. Places that a layer does not need are filled with zeros at its first entry. Embeddings,
biases and normalisation have no place in it, nor has a matrix with fewer than r · (m + n) entries.
"""

from collections.abc import Sequence
from math import ceil, prod
from pathlib import Path
from typing import NamedTuple

import torch
from peft import ShiraConfig
from safetensors.torch import save_file

from deftx.core.mask import Mask
from deftx.core.parameters import matrices, shapes_of
from deftx.core.sparse_delta import SparseDelta
from deftx.exchange.foreign import classifier_head, classifier_without_weights
from deftx.exchange.model_folder import new_folder
from deftx.models.base import Base
from deftx.report.template import render
from deftx.store.artefact import write_text
from deftx.store.errors import InputError


class Carried(NamedTuple):
    """What went into a SHiRA adapter: how many entries of all, and tensor name → how many of its
    entries have no place."""

    r: int
    entries: int
    total: int
    lost: dict[str, int]


def save_shira(
    base: Base,
    vector: SparseDelta,
    classes: Sequence[str],
    folder: Path,
    kind: str | None = None,
) -> Carried:
    """Write `adapter_config.json`, `adapter_model.safetensors` and a card that lists what is lost;
    with `classes` the head too, of this kind of task, which PEFT puts in place.

    Load it onto the vector's base. Raises ArtefactError if the vector does not fit the base or the
    folder exists; InputError if SHiRA can hold no entry of it.
    """
    vector.mask.check_fits(base.shapes)
    model = classifier_without_weights(base, len(classes) or 2, kind)
    heads = classifier_head(base, len(classes), kind) if classes else {}
    Mask({}, shapes_of(vector.head)).check_fits(heads, "head of the vector")
    kept = {n: sum(p.shape) for n, p in matrices(model).items() if n in vector.values}
    while kept:  # r becomes smaller if the fullest layer is too small itself
        r = max(ceil(len(vector.values[n]) / places) for n, places in kept.items())
        small = [n for n, places in kept.items() if r * places > prod(base.shapes[n])]
        if not small:
            break
        kept = {n: places for n, places in kept.items() if n not in small}
    else:
        raise InputError("SHiRA can hold no entry of the vector: none is in a fitting linear layer")
    tensors = {f"base_model.model.{name}": tensor for name, tensor in vector.head.items()}
    modules = {name: f"{model.base_model_prefix}.{name.removesuffix('.weight')}" for name in kept}
    for name, places in kept.items():
        index, columns = vector.mask.index[name], vector.mask.shapes[name][1]
        filler = (0, r * places - len(index))
        indices = torch.stack([index // columns, index % columns]).int()
        layer = f"base_model.model.{modules[name]}"
        tensors[f"{layer}.shira_indices"] = torch.nn.functional.pad(indices, filler)
        tensors[f"{layer}.shira_weight"] = torch.nn.functional.pad(vector.values[name], filler)
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
    carried = Carried(r, len(vector) - sum(lost.values()), len(vector), lost)
    with new_folder(folder) as temporary:
        save_file(tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(str(temporary))
        text = render(
            "shira.md.j2",
            base=base.identity,
            classes=list(classes),
            model=type(model).__name__.partition("For")[2] if classes else "MaskedLM",
            carried=carried,
        )
        write_text(temporary / "README.md", text)
    return carried
