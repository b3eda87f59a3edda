"""A model with vectors added to it, and its folder, which transformers loads as it is."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from deftx.core.parameters import backbone_parameters
from deftx.core.sparse_delta import SparseDelta
from deftx.models.base import Base
from deftx.models.folder import MODEL_FILES
from deftx.models.load import load_classifier, load_masked_lm
from deftx.report.template import render
from deftx.store.artefact import write_text
from deftx.store.errors import ArtefactError, InputError


def with_vectors(
    base: Base, vectors: Sequence[SparseDelta], classes: Sequence[str] = ()
) -> PreTrainedModel:
    """The base with the sum of the vectors added to its weights, in float32, ready to predict: with
    `classes` a classifier with the head that one of them carries; without, a masked-language model,
    whose output embeddings stay those of the base, as where languages are trained.

    Raises ArtefactError if a vector does not fit; InputError if two carry a head, or if there are
    classes and no head, or a head and no classes.
    """
    total = reduce(add, vectors)
    if total.head and not classes:
        raise InputError("a head without classes: give them, in the order of its rows")
    if classes and not total.head:
        raise InputError(
            f"classes {', '.join(classes)}, but no vector carries a head: give that of a task too"
        )
    model = load_classifier(base, list(classes), seed=0) if classes else load_masked_lm(base)
    _own_bias(model)
    total.put_head(model)
    total.add_to(backbone_parameters(model))
    return model.eval()


def _own_bias(model: PreTrainedModel) -> None:
    """Give the output embeddings a bias of their own: where the weights are not tied, transformers
    stores the one that the head shares with them under the head's name alone, and reads zeros."""
    decoder = model.get_output_embeddings()
    if decoder is not None and getattr(decoder, "bias", None) is not None:
        decoder.bias = torch.nn.Parameter(decoder.bias.detach().clone())


def save_model_folder(
    model: PreTrainedModel, base: Base, folder: Path, made_from: dict[str, Any]
) -> None:
    """Write weights (safetensors), config, the base's tokenizer and a card, whole or not at all.

    `made_from` is what the config keeps under `deftx`: `vectors`, each with its name, and perhaps
    `max_length`. Raises ArtefactError if the folder is there and not empty.
    """
    with new_folder(folder) as temporary:
        model.config.deftx = {"base": base.identity, **made_from}
        model.save_pretrained(temporary)
        for name in MODEL_FILES:
            if name.startswith(("tokenizer", "special")) and (base.folder / name).is_file():
                shutil.copyfile(base.folder / name, temporary / name)
        facts = {
            "base": base.identity,
            "classes": classes_of(model),
            **made_from,
        }
        kind = type(model).__name__.partition("For")[2]
        write_text(temporary / "README.md", render("model.md.j2", kind=kind, **facts))


def classes_of(model: PreTrainedModel) -> list[str]:
    """The classes of a classifier, in the order of its logits."""
    names: dict[Any, str] = model.config.id2label or {}
    return [names[number] for number in sorted(names)]


def check_new(folder: Path) -> None:
    """Raise ArtefactError if there is a file of that name, or a folder that is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArtefactError(f"{folder}: is there already; remove it, or give another --out")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends without error. Raises
    ArtefactError, before the block, if there is one that is not empty."""
    check_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if folder.exists():
            folder.rmdir()
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
