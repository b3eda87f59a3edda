"""Evaluations read back from their files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from deftx.report.comparison import Comparison
from deftx.report.metrics import Metrics, measure
from deftx.store.errors import ArtefactError, InputError
from deftx.store.tensors import TensorFile, decode_ids

KEY = ("task", "system", "language", "seed")
"""What identifies an evaluation."""


TRAINED = ["trained_task", "trained_language", "trained_head"]
"""The columns of `trained`."""


@dataclass(frozen=True)
class Evaluation:
    """One system on one task in one language with one seed.

    Attributes:
        ids, labels: (n,) each, one entry per item; classes are numbers from 0.
        logits: (n, classes).
        class_names: in the order of the logits.
        trained: numbers of parameters trained for the `task`, for the `language`, and of the
            `head`; empty if the file does not record them.
    """

    system: str
    task: str
    language: str
    seed: int
    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    class_names: tuple[str, ...]
    trained: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, int]:
        """The values of KEY."""
        return self.task, self.system, self.language, self.seed

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @cached_property
    def predictions(self) -> np.ndarray:
        """The class with the largest logit of each item (n,)."""
        return self.logits.argmax(axis=1)

    @cached_property
    def metrics(self) -> Metrics:
        """All metrics of the logits."""
        return measure(self.logits, self.labels)


def load_evaluation(path: Path) -> Evaluation:
    """An artefact of the stage `evaluate`. Raises ArtefactError if it is not one."""
    file = TensorFile(path)
    facts = file.provenance
    if facts.get("stage") != "evaluate":
        raise ArtefactError(f"{path}: made by {facts.get('stage')}, expected evaluate")
    logits, labels = file["logits"].numpy(), file["labels"].numpy()
    ids = decode_ids(file["ids"])
    names = tuple(facts["params"]["classes"])
    if not len(ids) == len(labels) == len(logits):
        raise ArtefactError(f"{path}: {len(ids)} ids, {len(labels)} labels, {len(logits)} logits")
    if len(names) != logits.shape[1]:
        raise ArtefactError(f"{path}: logits of {logits.shape[1]} classes, expected {names}")
    return Evaluation(
        **{name: facts[name] for name in KEY},
        ids=ids,
        labels=labels,
        logits=logits,
        class_names=names,
        trained=facts.get("trained") or {},
    )


def load_evaluations(
    paths: Iterable[Path], comparison: Comparison | None = None
) -> list[Evaluation]:
    """All evaluations.

    A path may be a folder. Then the files {system}/{task}/{language}/seed{n}.safetensors in it are
    read that `comparison` asks for, as far as they exist, and no others: a run may contain systems
    that its config no longer names.

    Raises ArtefactError as `load_evaluation`, or if two files are of the same evaluation;
    InputError for a folder without a comparison.
    """
    found: dict[tuple[str, str, str, int], Evaluation] = {}
    for path in paths:
        for file in _wanted(path, comparison) if path.is_dir() else [path]:
            evaluation = load_evaluation(file)
            if evaluation.key in found:
                what = "/".join(map(str, evaluation.key))
                raise ArtefactError(f"{file}: a second evaluation of {what}")
            found[evaluation.key] = evaluation
    return list(found.values())


def _wanted(folder: Path, comparison: Comparison | None) -> list[Path]:
    if comparison is None:
        raise InputError(f"{folder}: a folder needs a comparison that selects files in it")
    seeds = [str(seed) for seed in comparison.seeds] or ["*"]
    return [
        path
        for task, table in comparison.tasks.items()
        for system, language, seed in product(comparison.systems_of(task), table.languages, seeds)
        for path in sorted((folder / system / task / language).glob(f"seed{seed}.safetensors"))
    ]


def trained(evaluations: Iterable[Evaluation], *by: str) -> pd.DataFrame:
    """The numbers of trained parameters, columns TRAINED with missing values, by fields of KEY: the
    largest of each group."""
    rows = [
        [*e.key, *(e.trained.get(name.removeprefix("trained_")) for name in TRAINED)]
        for e in evaluations
    ]
    frame = pd.DataFrame(rows, columns=[*KEY, *TRAINED]).astype(dict.fromkeys(TRAINED, "Int64"))
    return frame.groupby(list(by))[TRAINED].max()
