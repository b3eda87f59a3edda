"""Stage `evaluate`: the composed model on the test set of a language."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from deftx.models.base import Base
from deftx.models.device import available_device
from deftx.models.load import load_classifier, load_tokenizer
from deftx.models.predict import predict_and_pool, scores
from deftx.models.token_arrays import Tokens
from deftx.models.tokens import load_tokens
from deftx.run.cost import measured
from deftx.stages.compose.apply import composed as with_composed
from deftx.stages.compose.settings import Evaluated
from deftx.store.artefact import digests
from deftx.store.tensors import TensorFile, save_tensors
from deftx.tasks.heads import KindOfTask

log = logging.getLogger(__name__)

Count = Annotated[int, Field(ge=1)]


class Params(Evaluated):
    """Which system is evaluated on what."""

    classes: list[str]
    kind: KindOfTask = None
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
    """Write logits (n, classes), labels (n,), item ids, and the mean of the last hidden states of
    each item as `pooled` (n, hidden) float16. For words there is a row of logits and a label for
    each word, and `ends`, the number of words up to the end of each item. `test` is of the stage
    `tokens`, or parquet. Scores are logged. The vectors are read only if `composed` is a recipe;
    for `start_vector` and errors see `deftx.stages.compose.apply`.
    """
    encoder, file = Base.load(base), TensorFile(composed)
    items = load_tokens(test, encoder, params.max_length, params.classes)
    assert items.labels is not None and items.ids is not None
    vectors = [path for path in (task_vector, language_vector) if path is not None]
    logits, pooled = predicted(params, encoder, file, items, vectors, start_vector)
    for name, value in scores(logits, items, params.classes).items():
        log.info("%s, %d items: %s %.4f", params.language, len(pooled), name, value)
    save_tensors(
        out,
        {
            "logits": logits,
            "labels": items.labels,
            "pooled": pooled.half(),
            "ids": items.ids,
            **items.grouping,
        },
        stage="evaluate",
        **params.identity(),
        base=encoder.identity,
        params=params.model_dump(),
        trained=file.provenance["trained"],
        inputs={"composed": file.content, **digests(test=test)},
    )


def predicted(
    params: Params,
    base: Base,
    composed: TensorFile,
    items: Tokens,
    vectors: Sequence[Path],
    start_vector: Path | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (n, classes) and pooled states (n, hidden) of items by a system; time and number are
    recorded. `vectors` are those of a recipe, the task's first; for errors see
    `deftx.stages.compose.apply`."""
    base.check_length(params.max_length, f"{params.system}, {params.language}")
    model = load_classifier(base, params.classes, 0, params.kind)
    torch.nn.Module.to(model, available_device())
    tokenizer = load_tokenizer(base)
    with with_composed(model, composed, base, vectors=vectors, start_vector=start_vector):
        began = time.perf_counter()
        found = predict_and_pool(model, items, tokenizer, params.max_length, params.batch_size)
        measured("inference_seconds", time.perf_counter() - began)
    measured("items", len(found[1]))
    return found
