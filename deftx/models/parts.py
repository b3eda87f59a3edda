"""The parts of a model, found in its modules: embeddings, layers, attention, room for positions.

Every parameter gets a name in one scheme, that of BERT, from which `deftx.core.places` reads its
part. So no method has to know an architecture.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from deftx.core.parameters import backbone_parameters

Modules = Mapping[str, torch.nn.Module]
"""Path → module."""


def known_as(model: PreTrainedModel) -> dict[str, str]:
    """Name of a backbone parameter → its name in BERT's scheme, which for BERT is the same:
    `embeddings.…` for lookup tables and for what comes before the layers; `encoder.layer.3.…` in
    layer 3, and `encoder.layer.3.attention.…` in its attention. What comes after the layers keeps
    its name.

    Layers are the members of lists of modules. Lists in one module, as XLM has them, hold the parts
    of the same layers; other lists follow each other.
    """
    modules: Modules = dict(model.base_model.named_modules())
    layers, found, below = _layers(modules), {}, True
    for name in backbone_parameters(model):
        path = name.rpartition(".")[0]
        layer = next((each for each in _outside_in(path) if each in layers), None)
        if layer is not None:
            number, of = layers[layer]
            found[name] = f"encoder.layer.{number}.{_inside(name, layer, of, modules)}"
            below = False
        elif below or isinstance(modules[path], torch.nn.Embedding):
            found[name] = name if name.startswith("embeddings.") else f"embeddings.{name}"
        else:
            found[name] = name
    return found


def layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The layers of the encoder, or the parts of them that are modules of their own."""
    modules: Modules = dict(model.base_model.named_modules())
    return [modules[path] for path in _layers(modules)]


def positions(model: PreTrainedModel) -> int | None:
    """How many tokens an item may have; None if nothing limits it. In a position table that has a
    padding index the first token has the row after it."""
    rows: int | None = getattr(model.config, "max_position_embeddings", None)
    words = model.get_input_embeddings()
    modules: Iterator[Any] = model.base_model.modules()
    offsets = [
        module.padding_idx + 1
        for module in modules
        if module is not words
        and getattr(module, "padding_idx", None) is not None
        and len(getattr(module, "weight", ())) == rows
    ]
    return rows and rows - max(offsets, default=0)


def _outside_in(path: str) -> Iterator[str]:
    """The paths of the modules around a module, and its own."""
    words = path.split(".")
    return (".".join(words[:n]) for n in range(1, len(words) + 1))


def _layers(modules: Modules) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Path of a layer → its number, and the name of its list if that holds only a part of each."""
    lists = {path for path, module in modules.items() if isinstance(module, torch.nn.ModuleList)}
    outer = [path for path in modules if lists.intersection(_outside_in(path)) == {path}]
    parents = [path.rpartition(".")[0] for path in outer]
    found: dict[str, tuple[int, tuple[str, ...]]] = {}
    starts: dict[str, int] = {}
    for path, parent in zip(outer, parents, strict=True):
        start = starts.setdefault(parent, 1 + max((n for n, _ in found.values()), default=-1))
        of = (path.rpartition(".")[2],) if parents.count(parent) > 1 else ()
        for number, member in enumerate(_members(path, modules), start):
            found[member] = number, of
    return found


def _members(path: str, modules: Modules) -> Iterator[str]:
    """The paths of the members of a list, and of the lists in it."""
    for name, member in modules[path].named_children():
        if isinstance(member, torch.nn.ModuleList):
            yield from _members(f"{path}.{name}", modules)
        else:
            yield f"{path}.{name}"


def _inside(name: str, layer: str, of: tuple[str, ...], modules: Modules) -> str:
    """The name of a parameter in its layer, in which the outermost attention is called so."""
    rest = name.removeprefix(f"{layer}.").split(".")
    around = [layer] * len(of) + [".".join([layer, *rest[:n]]) for n in range(1, len(rest))]
    words = [*of, *rest]
    for n, path in enumerate(around):
        if "attention" in type(modules[path]).__name__.lower():
            words[n] = "attention"
            break
    return ".".join(words)
