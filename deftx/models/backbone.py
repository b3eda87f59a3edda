"""The backbone of a base model: its parameters, their names, and its identity.

The backbone is what a base's masked-language model and its classifier share; parameters are named
as in the bare encoder (`encoder.layer.0.…`), without the prefix of either model.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open

from deftx.models.base import Base
from deftx.store.artefact import verify
from deftx.store.errors import ArtefactError

if TYPE_CHECKING:  # seconds of import that most stages do not need
    from transformers import PreTrainedModel


class BaseWeights(Mapping[str, torch.Tensor]):
    """θ0: the tensors of a base's backbone in float32, each read when asked for. Raises
    ArtefactError on opening if the weights are missing or corrupt."""

    def __init__(self, base: Base) -> None:
        verify(base.folder / "model.safetensors")
        self._file = safe_open(base.folder / "model.safetensors", framework="pt")
        self._keys = stored_names(self._file.keys(), base.shapes)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._file.get_tensor(self._keys[name]).float()

    def __contains__(self, name: object) -> bool:
        return name in self._keys  # that of Mapping would read the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def stored_names(keys: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Backbone name → key of a checkpoint, which puts the model's prefix before it or not."""
    keys = list(keys)
    found = {}
    for name in sorted(names):
        candidates = [key for key in keys if key == name or key.endswith("." + name)]
        if len(candidates) != 1:
            raise ArtefactError(f"base: {len(candidates)} stored tensors fit the parameter {name}")
        found[name] = candidates[0]
    return found


def backbone_parameters(model: "PreTrainedModel") -> dict[str, torch.nn.Parameter]:
    """Name without prefix → parameter of the backbone (a pooler counts as head)."""
    return {
        name: parameter
        for name, parameter in model.base_model.named_parameters()
        if not name.startswith("pooler.")
    }


def head_parameters(model: "PreTrainedModel") -> dict[str, torch.nn.Parameter]:
    """Full name → parameter of everything outside the backbone, a frozen decoder excepted."""
    backbone = {id(parameter) for parameter in backbone_parameters(model).values()}
    decoder = model.get_output_embeddings()
    if decoder is not None:
        backbone.add(id(decoder.weight))
    return {n: p for n, p in model.named_parameters() if id(p) not in backbone}


@torch.no_grad()
def put_head(model: "PreTrainedModel", tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors into the parameters of the head, by full name. Raises KeyError for a name that
    the head does not have."""
    heads = head_parameters(model)
    for name, tensor in tensors.items():
        heads[name].copy_(tensor)


def layer_norm_names(model: "PreTrainedModel") -> set[str]:
    """Names, without prefix, of the parameters of the backbone's normalisation layers."""
    return {
        f"{path}.{name}" if path else name
        for path, module in model.base_model.named_modules()
        if "norm" in type(module).__name__.lower()
        for name, _ in module.named_parameters(recurse=False)
    }


def weights_of(parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """Copies of parameters as plain tensors on the CPU."""
    return {name: parameter.detach().clone().cpu() for name, parameter in parameters.items()}


def matrices(model: "PreTrainedModel") -> dict[str, torch.nn.Parameter]:
    """Name without prefix → the matrix of each linear layer of the backbone."""
    linear = {
        id(module.weight)
        for module in model.base_model.modules()
        if isinstance(module, torch.nn.Linear)
    }
    return {name: p for name, p in backbone_parameters(model).items() if id(p) in linear}
