"""A prior on the classes for a classifier: its bias from a file, and the bias put into a model."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from deftx.exchange.model_folder import class_names
from deftx.models.device import available_device
from deftx.models.predict import predict
from deftx.stages.prior.math import prior_bias, uniform
from deftx.store.artefact import file_sha256
from deftx.store.errors import ArtefactError, InputError
from deftx.store.items import Item
from deftx.store.tensors import TensorFile
from deftx.tasks.heads import kind_of_model


class Bias(NamedTuple):
    """A bias (classes,) on the logits, float64, and its origin: file, checksum, items, target."""

    values: np.ndarray
    facts: dict[str, Any]


def stored_bias(path: Path, model: PreTrainedModel) -> Bias:
    """The bias in a file of the stage `prior`. Raises ArtefactError if the file is of another
    stage, or its classes are not the model's."""
    file = TensorFile(path)
    if (stage := file.provenance.get("stage")) != "prior":
        raise ArtefactError(f"{path}: made by {stage}, expected prior")
    params = file.provenance["params"]
    if params["classes"] != (classes := class_names(model)):
        raise ArtefactError(f"{path}: its classes are {params['classes']}, expected {classes}")
    return _bias(path, file["bias"].numpy(), len(file["logits"]), params["target"])


def estimated_bias(
    path: Path,
    items: list[Item],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> Bias:
    """The bias that makes the mean prediction on the items of a file the same for all classes; a
    label that they have is not read. Raises InputError as `prior_bias` does, and for a model of
    words, whose classes are never equally frequent."""
    if kind_of_model(type(model).__name__) != "classification":
        raise InputError(f"{path}: items give a prior of a classification only")
    texts = [{k: v for k, v in item.items() if k != "label"} for item in items]
    model.to(available_device())  # type: ignore[arg-type]
    logits = predict(model, texts, tokenizer, max_length).numpy()
    return _bias(path, prior_bias(logits, uniform(logits.shape[1])), len(texts), "uniform")


def _bias(path: Path, values: np.ndarray, items: int, target: str) -> Bias:
    facts = {"name": path.name, "sha256": file_sha256(path), "items": items, "target": target}
    return Bias(values, {**facts, "bias": [round(float(x), 6) for x in values]})


@torch.no_grad()
def add_bias(model: PreTrainedModel, bias: np.ndarray) -> None:
    """Add a bias (classes,) to that of a classifier's last linear layer. Raises InputError if the
    architecture has no such layer, or it has no bias."""
    inside = {id(module) for module in model.base_model.modules()}
    last = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear)
        and id(module) not in inside
        and module.out_features == len(bias)
    ]
    if not last or last[-1].bias is None:
        raise InputError(
            f"{type(model).__name__}: no linear layer with a bias gives its logits, so the folder "
            "cannot carry a prior; `deftx predict --prior` adds it to the logits"
        )
    last[-1].bias.add_(torch.from_numpy(bias).to(last[-1].bias))
