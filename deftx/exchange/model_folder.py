"""A model with vectors added to it, and its folder, which transformers loads as it is."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedModel

from deftx.core.parameters import backbone_parameters
from deftx.core.sparse_delta import SparseDelta
from deftx.models.base import Base
from deftx.models.folder import TOKENIZER_FILES
from deftx.models.load import load_classifier, load_masked_lm
from deftx.report.template import render
from deftx.store.artefact import write_text
from deftx.store.errors import ArtefactError, InputError
from deftx.tasks.heads import HEADS, kind_of_model


def with_vectors(
    base: Base,
    vectors: Sequence[SparseDelta],
    classes: Sequence[str] = (),
    kind: str | None = None,
) -> PreTrainedModel:
    """The base with the sum of the vectors added to its weights, in float32, ready to predict.

    With `classes` a classifier, of texts or by the `kind` of a task of something else, with the
    head that one of the vectors carries; the default is the kind that this vector records. Without,
    a masked-language model whose output embeddings stay those of the base, as in language training.

    Raises ArtefactError if a vector does not fit; InputError if two carry a head, or if there are
    classes and no head, or a head and no classes.
    """
    total = reduce(add, vectors)
    if total.head and not classes:
        raise InputError("a head without classes: give them, in the order of its rows")
    if classes and not total.head:
        known = ", ".join(classes)
        raise InputError(f"classes {known}, but no vector carries a head: add that of a task")
    if classes:
        recorded = (vector.provenance.get("params", {}).get("kind") for vector in vectors)
        kind = kind or next(filter(None, recorded), None)
        model = load_classifier(base, list(classes), 0, kind)
    else:
        model = load_masked_lm(base)
    # Where weights are not tied, transformers stores the bias that the output embeddings share with
    # the head under the head's name alone, and reads zeros.
    decoder = model.get_output_embeddings()
    if decoder is not None and decoder.bias is not None:
        decoder.bias = torch.nn.Parameter(decoder.bias.detach().clone())
    total.put_head(model)
    total.add_to(backbone_parameters(model))
    return model.eval()


def save_model_folder(
    model: PreTrainedModel, base: Base, folder: Path, made_from: dict[str, Any]
) -> None:
    """Write weights (safetensors), config, the base's tokenizer and a card, whole or not at all.

    `made_from` is stored in the config under `deftx`: `vectors`, each with its name, and optionally
    `max_length` and `prior`. Raises ArtefactError if the folder exists and is not empty.
    """
    with new_folder(folder) as temporary:
        model.config.deftx = {"base": base.identity, **made_from}
        model.save_pretrained(temporary)
        for name in TOKENIZER_FILES:
            if (base.folder / name).is_file():
                shutil.copyfile(base.folder / name, temporary / name)
        name = type(model).__name__
        kind = kind_of_model(name)
        facts = {
            "base": base.identity,
            "model": name.partition("For")[2],
            "pipeline": HEADS[kind].pipeline if kind else "fill-mask",
            "classes": class_names(model) if kind else [],
            "prior": None,
            **made_from,
        }
        write_text(temporary / "README.md", render("model.md.j2", **facts))


def class_names(model: PreTrainedModel) -> list[str]:
    """The classes of a classifier, in the order of its logits."""
    return [name for _, name in sorted((model.config.id2label or {}).items())]


def check_new(folder: Path) -> None:
    """Raise ArtefactError if there is a file of that name, or a folder that is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArtefactError(f"{folder}: exists already; remove it, or give another --out")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends without error. Raises
    ArtefactError, before the block, if that exists and is not empty."""
    check_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        made = Path(temporary) / folder.name
        made.mkdir()
        yield made
        made.replace(folder)
