"""The part of a vector that PEFT's SHiRA can hold, as an adapter that PEFT loads.

SHiRA adds sparse values to linear layers, r · (m + n) of them to each, with one r for all. What a
layer lacks to that is filled up with zeros at its first entry. Embeddings, biases and normalisation
have no place in it.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import torch
from peft import ShiraConfig, get_peft_model
from transformers import PreTrainedModel

from deftx.core.parameters import backbone_parameters, head_parameters, matrices
from deftx.core.sparse_delta import SparseDelta
from deftx.exchange.model_folder import new_folder
from deftx.models.base import Base
from deftx.models.load import load_classifier, load_masked_lm
from deftx.report.template import render
from deftx.store.artefact import write_text
from deftx.store.errors import InputError


@dataclass(frozen=True)
class Carried:
    """What of a vector went into a SHiRA adapter.

    Attributes:
        r: of the adapter.
        entries: how many it carries.
        lost: tensor name → how many entries of it have no place.
    """

    r: int
    entries: int
    lost: dict[str, int]

    @property
    def total(self) -> int:
        """How many entries the vector has."""
        return self.entries + sum(self.lost.values())


def save_shira(base: Base, vector: SparseDelta, classes: Sequence[str], folder: Path) -> Carried:
    """Write `adapter_config.json`, `adapter_model.safetensors` and a card that says what is lost;
    with `classes` the head too, which PEFT puts in place.

    The base that it is loaded onto is the vector's, or one of the same shape. Raises ArtefactError
    if the vector does not fit the base or the folder is there; InputError if SHiRA can hold none of
    it, or needs more places than a layer has.
    """
    model = load_classifier(base, list(classes), seed=0) if classes else load_masked_lm(base)
    vector.mask.check_fits({n: tuple(p.shape) for n, p in backbone_parameters(model).items()})
    vector.put_head(model)
    linear = {name: matrix for name, matrix in matrices(model).items() if name in vector.values}
    if not linear:
        raise InputError("no entry of the vector is in a linear layer: SHiRA can hold nothing")
    r = max(ceil(len(vector.values[n]) / sum(matrix.shape)) for n, matrix in linear.items())
    for name, matrix in linear.items():
        if r * sum(matrix.shape) > matrix.numel():
            raise InputError(
                f"{name}: SHiRA needs r = {r} for the fullest layer, which is more places than "
                f"this one has entries, {matrix.numel()}"
            )
    modules = {name: _prefix(model) + name.removesuffix(".weight") for name in linear}
    config = ShiraConfig(
        r=r,
        # Anything but "random", whose places would be drawn anew.
        mask_type="deftx",  # type: ignore[arg-type]
        inference_mode=True,
        target_modules=list(modules.values()),
        # No task type: with one PEFT (0.21) takes the head as one module, and cannot merge that.
        modules_to_save=_head_modules(model) if classes else None,
    )
    with warnings.catch_warnings():  # of transformers, about what PEFT asks it
        warnings.simplefilter("ignore", FutureWarning)
        adapted = get_peft_model(model, config)
    for name, path in modules.items():
        layer: Any = adapted.get_submodule(f"base_model.model.{path}")
        rows, columns = layer.out_features, layer.in_features
        places = torch.zeros(2, r * (rows + columns), dtype=torch.int32)
        values = torch.zeros(r * (rows + columns))
        count = len(vector.values[name])
        index = vector.mask.index[name]
        places[0, :count], places[1, :count] = index // columns, index % columns
        values[:count] = vector.values[name]
        layer.shira_indices["default"] = places
        layer.shira_weight["default"].data = values
    lost = {n: len(values) for n, values in vector.values.items() if n not in linear}
    carried = Carried(r, sum(len(vector.values[n]) for n in linear), lost)
    known = adapted.peft_config["default"]
    known.base_model_name_or_path = base.identity["id"]
    known.revision = base.identity["revision"]
    with new_folder(folder) as temporary:
        adapted.save_pretrained(str(temporary), save_embedding_layers=False)
        text = render("shira.md.j2", base=base.identity, classes=list(classes), carried=carried)
        write_text(temporary / "README.md", text)
    return carried


def _prefix(model: PreTrainedModel) -> str:
    """What stands before the backbone's names in the model."""
    return f"{model.base_model_prefix}."


def _head_modules(model: PreTrainedModel) -> list[str]:
    """The modules that own parameters of the head."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in head_parameters(model)))
