"""Adapters on disk (docs/format.md), and a model with those of a language and a task."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from deftx.core.parameters import HEAD, head_of, head_parameters, put_head, weights_of
from deftx.models.base import Base
from deftx.stages.adapter.math import AdapterModule, installed
from deftx.stages.adapter.settings import Adapter
from deftx.store.errors import ArtefactError, InputError
from deftx.store.tensors import TensorFile


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter, how it was made, and a task's head by parameter names; empty for a language."""

    module: AdapterModule
    settings: Adapter
    head: dict[str, torch.Tensor]


def load_adapter(file: TensorFile, base: Base) -> StoredAdapter:
    """Read an adapter. Raises ArtefactError if the file holds none, or one for another base."""
    if file.provenance["stage"] != "adapter":
        raise ArtefactError(
            f"{file.path}: expected an adapter, this is of stage {file.provenance['stage']}"
        )
    base.check(file.provenance, file.path)
    settings = Adapter.model_validate(file.provenance["params"]["adapter"])
    head = head_of(file)
    module = AdapterModule(
        settings,
        hidden=file["layers.0.down.weight"].shape[1],
        layers=sum(name.endswith(".down.weight") for name in file),
        language=not head,
    )
    module.load_state_dict({n: file[n] for n in file if not n.startswith(HEAD)})
    return StoredAdapter(module, settings, head)


@contextmanager
def stacked(
    model: PreTrainedModel, language: StoredAdapter | None, task: StoredAdapter
) -> Iterator[PreTrainedModel]:
    """The classifier with a task's head and its adapter, on that of a language if there is one, in
    all layers but the task's `drop_last`; after the block the model is as it was, bit for bit.

    Raises InputError if the adapters do not fit the model, or are not of a language and a task.
    """
    if language is not None and language.head:
        raise InputError("the language's adapter has a head: it is that of a task")
    heads = head_parameters(model)
    stored, wanted = ({n: tuple(t.shape) for n, t in h.items()} for h in (task.head, heads))
    if stored != wanted:
        raise InputError(
            f"the head of the task's adapter has {stored or 'no tensors'}, the model's {wanted}"
        )
    former = weights_of(heads)
    below = [] if language is None else [language.module]
    with installed(model, [*below, task.module], task.settings.drop_last):
        try:
            put_head(model, task.head)
            yield model
        finally:
            put_head(model, former)
