"""Stage `prior`: a bias on the logits of the classes, from unlabelled items of a language."""

import logging
from pathlib import Path

import numpy as np
import torch

from deftx.models.base import Base
from deftx.models.tokens import load_unlabelled
from deftx.stages.evaluate.run import Params as Evaluation
from deftx.stages.evaluate.run import predicted
from deftx.stages.prior.math import mean_probabilities, prior_bias, uniform
from deftx.stages.prior.settings import Target
from deftx.store.artefact import digests
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile, save_tensors

log = logging.getLogger(__name__)


class Params(Evaluation):
    """Which system predicts what, and what its predictions are to be on average."""

    target: Target


def prior(
    params: Params,
    *,
    base: Path,
    composed: Path,
    unlabelled: Path,
    task_vector: Path | None = None,
    language_vector: Path | None = None,
    start_vector: Path | None = None,
    source: Path | None = None,
    out: Path,
) -> None:
    """Write `logits` (n, classes) of `unlabelled` items, their `ids`, the `target` (classes,) and
    the `bias` (classes,) that gives the mean prediction this value, both float64, see
    `deftx.stages.prior.math.prior_bias`. The items are of the stage `tokens`, or parquet; labels
    that they have are not read. Without `source`, the file of this stage for the source language,
    the target `source` is the mean prediction itself, so that the bias is 0. The other files are
    those of `evaluate`.

    Raises ArtefactError if `source` is of another system, task or seed; InputError as `prior_bias`
    does.
    """
    encoder, file = Base.load(base), TensorFile(composed)
    tokens = load_unlabelled(unlabelled, encoder, params.max_length)
    vectors = [path for path in (task_vector, language_vector) if path is not None]
    logits, _ = predicted(params, encoder, file, tokens, vectors, start_vector)
    if params.target == "uniform":
        target = uniform(len(params.classes))
    elif source is None:
        target = mean_probabilities(logits.numpy())
    else:
        target = mean_probabilities(_source_logits(source, params))
    bias = prior_bias(logits.numpy(), target)
    assert tokens.ids is not None
    shares = (mean_probabilities(logits.numpy()), target, bias)
    words = (", ".join(f"{x:.3f}" for x in each) for each in shares)
    log.info(
        "%s, %d items: mean prediction %s; target %s; bias %s", params.language, len(tokens), *words
    )
    save_tensors(
        out,
        {
            "logits": logits,
            "ids": tokens.ids,
            "target": torch.from_numpy(target),
            "bias": torch.from_numpy(bias),
        },
        stage="prior",
        **params.identity(),
        base=encoder.identity,
        params=params.model_dump(),
        inputs={
            "composed": file.content,
            **digests(unlabelled=unlabelled),
            **(digests(source=source) if source is not None else {}),
        },
    )


def _source_logits(path: Path, params: Params) -> np.ndarray:
    file = TensorFile(path)
    expected = {"stage": "prior", **params.identity()}
    expected.pop("language")
    for key, value in expected.items():
        if (found := file.provenance.get(key)) != value:
            raise ArtefactError(f"{path}: {key} {found}, expected {value}")
    logits: np.ndarray = file["logits"].numpy()
    return logits
