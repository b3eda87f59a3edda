"""The parameters of a model by name: its backbone and its head.

The backbone is what a base's masked-language model and its classifier share; its parameters are
named as in the bare encoder (`encoder.layer.0.…`), without the prefix of either model.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch

HEAD = "head."
"""What files put before the names of a head's tensors."""


class Model(Protocol):
    """The part of transformers' models that this package uses."""

    @property
    def base_model(self) -> torch.nn.Module:
        """The bare encoder."""

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Every parameter once, as PyTorch names it."""

    def get_output_embeddings(self) -> Any:
        """The decoder of a masked-language model; None if there is none."""


def backbone_parameters(model: Model) -> dict[str, torch.nn.Parameter]:
    """Name without prefix → parameter of the backbone (a pooler counts as head)."""
    return {
        name: parameter
        for name, parameter in model.base_model.named_parameters()
        if not name.startswith("pooler.")
    }


def head_parameters(model: Model) -> dict[str, torch.nn.Parameter]:
    """Full name → parameter of everything outside the backbone, a frozen decoder excepted."""
    backbone = {id(parameter) for parameter in backbone_parameters(model).values()}
    decoder = model.get_output_embeddings()
    if decoder is not None:
        backbone.add(id(decoder.weight))
    return {n: p for n, p in model.named_parameters() if id(p) not in backbone}


@torch.no_grad()
def put_head(model: Model, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors into the parameters of the head, by full name. Raises KeyError for a name that
    the head does not have."""
    heads = head_parameters(model)
    for name, tensor in tensors.items():
        heads[name].copy_(tensor)


def layer_norm_names(model: Model) -> set[str]:
    """Names, without prefix, of the parameters of the backbone's normalisation layers."""
    return {
        f"{path}.{name}" if path else name
        for path, module in model.base_model.named_modules()
        if "norm" in type(module).__name__.lower()
        for name, _ in module.named_parameters(recurse=False)
    }


def matrices(model: Model) -> dict[str, torch.nn.Parameter]:
    """Name without prefix → the matrix of each linear layer of the backbone."""
    linear = {
        id(module.weight)
        for module in model.base_model.modules()
        if isinstance(module, torch.nn.Linear)
    }
    return {name: p for name, p in backbone_parameters(model).items() if id(p) in linear}


def linear_parameters(model: Model) -> dict[str, torch.nn.Parameter]:
    """Name without prefix → each parameter of the backbone's linear layers, biases too."""
    linear = {
        id(parameter)
        for module in model.base_model.modules()
        if isinstance(module, torch.nn.Linear)
        for parameter in module.parameters(recurse=False)
    }
    return {name: p for name, p in backbone_parameters(model).items() if id(p) in linear}


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Name → shape."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def weights_of(parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """Copies of parameters as plain tensors on the CPU."""
    return {name: parameter.detach().clone().cpu() for name, parameter in parameters.items()}


def stored_head(head: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a head under their names in a file."""
    return {f"{HEAD}{name}": tensor.detach() for name, tensor in head.items()}


def head_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of the head in a file, by their names in the model."""
    return {n.removeprefix(HEAD): tensors[n] for n in tensors if n.startswith(HEAD)}
