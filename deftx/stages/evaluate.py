"""Stage `evaluate`: the composed model on the test set of a language."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from deftx.artefact import ArtefactError, read_manifest, write_json
from deftx.base import Base
from deftx.data import load_labelled
from deftx.device import available_device
from deftx.encoder import load_classifier, load_tokenizer
from deftx.evaluation import add_dense, predict
from deftx.metrics import accuracy_and_f1
from deftx.settings.strict import Strict
from deftx.sparse_delta import SparseDelta
from deftx.tensor_file import TensorFile, save_tensors
from deftx.vectors import dense_vector, head_of

Count = Annotated[int, Field(ge=1)]


class Params(Strict):
    """Which system is evaluated on what."""

    system: str
    task: str
    language: str
    seed: int = 0
    classes: list[str]
    max_length: Count = 128
    batch_size: Count = 64


def evaluate(
    params: Params,
    *,
    base: Path,
    composed: Path,
    test: Path,
    task_vector: Path | None = None,
    language_vector: Path | None = None,
    start_vector: Path | None = None,
    out: Path,
) -> None:
    """Write logits (n, classes), labels (n,) and item ids, and the metrics as JSON beside them.

    The vectors themselves are read only if `composed` is a recipe of dense ones.

    Raises ArtefactError if an input was made for another base, or is not the one of the recipe.
    """
    encoder = Base.load(base)
    file = TensorFile(composed)
    encoder.check(file.provenance, composed)
    model = load_classifier(encoder, params.classes, seed=0)
    torch.nn.Module.to(model, available_device())
    items = load_labelled(test, params.classes)

    def logits() -> torch.Tensor:
        return predict(model, items, load_tokenizer(encoder), params.max_length, params.batch_size)

    if "recipe" in file.provenance:
        given = [path for path in (task_vector, language_vector) if path is not None]
        vectors = _cook(file, given, encoder, start_vector)
        add_dense(model, vectors, head_of(file))
        predicted = logits()
    else:
        with SparseDelta.read(file).applied(model):
            predicted = logits()
    labels = torch.tensor([item["label"] for item in items])
    ids = "\n".join(item["id"] for item in items).encode()
    metrics = accuracy_and_f1(predicted.numpy(), labels.numpy())
    where = {name: getattr(params, name) for name in ("system", "task", "language", "seed")}
    write_json(out.with_suffix(".json"), {**where, "items": len(items), **metrics})
    save_tensors(
        out,
        {
            "logits": predicted,
            "labels": labels,
            "ids": torch.frombuffer(bytearray(ids), dtype=torch.uint8),
        },
        stage="evaluate",
        **where,
        base=encoder.identity,
        params=params.model_dump(),
        inputs={"composed": file.content, "test": read_manifest(test)["sha256"]},
    )


def _cook(
    file: TensorFile, paths: list[Path], base: Base, start: Path | None
) -> list[tuple[Mapping[str, torch.Tensor], float]]:
    """The vectors of a recipe with their scales, as dense mappings."""
    recipe = file.provenance["recipe"]
    if len(paths) != len(recipe):
        raise ArtefactError(f"{file.path}: needs {len(recipe)} vectors, {len(paths)} were given")
    vectors: list[tuple[Mapping[str, torch.Tensor], float]] = []
    for number, (path, part) in enumerate(zip(paths, recipe, strict=True)):
        vector = TensorFile(path)
        if vector.content != part["content"]:
            raise ArtefactError(
                f"{path}: content {vector.content[:12]}, expected {part['content'][:12]}"
            )
        if part["stage"] == "sparse":
            sparse = SparseDelta.read(vector)
            dense = {n: torch.zeros(shape) for n, shape in sparse.mask.shapes.items()}
            sparse.add_to(dense)
            vectors.append((dense, part["scale"]))
        else:
            # Only a task starts elsewhere than at the base.
            vectors.append(
                (dense_vector(vector, base, start if number == 0 else None), part["scale"])
            )
    return vectors
