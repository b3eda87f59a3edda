"""The systems of a run with a prior on the classes, beside the same systems without it.

A system with the prior has another name, and a comparison of its own: its differences are from
systems with the same assumption, over the languages that have unlabelled items.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from deftx.report.comparison import SUFFIX, Comparison
from deftx.report.evaluations import Evaluation, wanted
from deftx.report.scores import Draws, Transfer, draw, transfer
from deftx.report.statistics import interval
from deftx.store.errors import ArtefactError, InputError
from deftx.store.tensors import TensorFile

Biases = dict[tuple[str, str, str, int], tuple[np.ndarray, tuple[str, ...]]]
"""Key of an evaluation → the bias (classes,) and the names of the classes."""

CHANGE = ["before", "change", "change_low", "change_high"]


class WithPrior(NamedTuple):
    """What a run shows with the prior.

    Attributes:
        before: the systems without it, on the tasks and in the languages that have it.
        after: the same with it.
        evaluations: those of `after`.
        draws: of the systems of both, which share the resamples.
    """

    before: Comparison
    after: Comparison
    evaluations: list[Evaluation]
    draws: dict[str, Draws]

    @property
    def means(self) -> list[Transfer]:
        """The scores of the systems with the prior."""
        return transfer(self.after, self.draws)

    def table(self) -> pd.DataFrame:
        """The fields of `Transfer` of each system with the prior, and CHANGE: the mean score
        without it over the same languages, and the difference with its paired 95 % interval."""
        rows = []
        for mean in self.means:
            draws = self.draws[mean.task]
            before = draws[mean.system.removesuffix(SUFFIX), mean.language]
            gap = draws[mean.system, mean.language] - before
            known = (float(before[:, 0].mean()), float(gap[:, 0].mean()), *interval(gap))
            rows.append((*mean, *known))
        return pd.DataFrame(rows, columns=[*Transfer._fields, *CHANGE])


def with_prior(
    comparison: Comparison, evaluations: Iterable[Evaluation], priors: Sequence[Path]
) -> WithPrior | None:
    """The systems with the prior; None if no task has one.

    Args:
        priors: files of the stage `prior`, or a folder of them, as for `load_evaluations`.

    Raises ArtefactError if a file is not of this stage, or its classes are others; InputError if
    one is missing.
    """
    before, after, both = comparison.with_prior()
    if not before.tasks:
        return None
    mine = [
        e
        for e in evaluations
        if e.task in before.tasks
        and e.system in before.systems_of(e.task)
        and e.language in before.tasks[e.task].languages
    ]
    biases = _load(priors, before)
    found = [_biased(e, biases) for e in mine]
    return WithPrior(before, after, found, draw(both, [*mine, *found]))


def _biased(evaluation: Evaluation, biases: Biases) -> Evaluation:
    what = "{1} on {0} in {2} with seed {3}".format(*evaluation.key)
    if evaluation.key not in biases:
        raise InputError(f"no prior of {what}")
    bias, classes = biases[evaluation.key]
    if classes != evaluation.class_names:
        raise ArtefactError(
            f"prior of {what}: its classes are {', '.join(classes)}, expected "
            f"{', '.join(evaluation.class_names)}"
        )
    return replace(evaluation, system=evaluation.system + SUFFIX, logits=evaluation.logits + bias)


def _load(paths: Sequence[Path], comparison: Comparison) -> Biases:
    found: Biases = {}
    for path in paths:
        for file in map(TensorFile, wanted(path, comparison) if path.is_dir() else [path]):
            facts = file.provenance
            if facts.get("stage") != "prior":
                raise ArtefactError(f"{file.path}: made by {facts.get('stage')}, expected prior")
            key = (facts["task"], facts["system"], facts["language"], facts["seed"])
            found[key] = file["bias"].numpy(), tuple(facts["params"]["classes"])
    return found
