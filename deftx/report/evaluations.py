"""Evaluations read back from their files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from deftx.report.comparison import Comparison
from deftx.report.metrics import Answers, Metrics, measure
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile, decode_ids

KEY = ("task", "system", "language", "seed")
"""What identifies an evaluation."""

TRAINED = ["trained_task", "trained_language", "trained_head"]
"""The columns of `trained`."""


@dataclass(frozen=True)
class Evaluation:
    """One system on one task in one language with one seed.

    Attributes:
        ids: (items,).
        labels: (n,) numbers of classes, of the items or of their words.
        logits: (n, classes).
        class_names: in the order of the logits.
        ends: (items,), how many of the n there are up to the end of each item; None: one each.
        kind: of the task.
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
    ends: np.ndarray | None = None
    kind: str = "classification"
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
        """The class with the largest logit (n,)."""
        return self.logits.argmax(axis=1)

    @property
    def answers(self) -> Answers:
        """Labels and predictions."""
        ends = np.arange(1, 1 + len(self.ids)) if self.ends is None else self.ends
        return Answers(self.labels, self.predictions, ends, self.class_names)

    @cached_property
    def metrics(self) -> Metrics:
        """All metrics of the logits."""
        return measure(self.logits, self.labels)


def load_evaluations(paths: Iterable[Path], comparison: Comparison) -> list[Evaluation]:
    """All evaluations of these artefacts of the stage `evaluate`.

    A path may be a folder. Then the files {system}/{task}/{language}/seed{n}.safetensors in it are
    read that `comparison` asks for, as far as they exist, and no others: a run may contain systems
    that its config no longer names.

    Raises ArtefactError if a file is not such an artefact, its task is of another kind than in
    `comparison`, or two are of the same evaluation.
    """
    found: dict[tuple[str, str, str, int], Evaluation] = {}
    for path in paths:
        for file in wanted(path, comparison) if path.is_dir() else [path]:
            evaluation = _load(file)
            if evaluation.key in found:
                what = "/".join(map(str, evaluation.key))
                raise ArtefactError(f"{file}: a second evaluation of {what}")
            table = comparison.tasks.get(evaluation.task)
            if table is not None and table.kind != evaluation.kind:
                raise ArtefactError(f"{file}: of {evaluation.kind}, expected {table.kind}")
            found[evaluation.key] = evaluation
    return list(found.values())


def _load(path: Path) -> Evaluation:
    file = TensorFile(path)
    facts = file.provenance
    if facts.get("stage") != "evaluate":
        raise ArtefactError(f"{path}: made by {facts.get('stage')}, expected evaluate")
    return Evaluation(
        **{name: facts[name] for name in KEY},
        ids=decode_ids(file["ids"]),
        labels=file["labels"].numpy(),
        logits=file["logits"].numpy(),
        class_names=tuple(facts["params"]["classes"]),
        ends=file["ends"].numpy() if "ends" in file else None,
        kind=facts["params"].get("kind", "classification"),
        trained=facts.get("trained") or {},
    )


def wanted(folder: Path, comparison: Comparison) -> list[Path]:
    """The files {system}/{task}/{language}/seed{n}.safetensors of a folder that a comparison asks
    for, as far as they exist."""
    return [
        path
        for task, table in comparison.tasks.items()
        for system, language in product(comparison.systems_of(task), table.languages)
        for seed in [str(seed) for seed in comparison.seeds_of(system, comparison.seeds)] or ["*"]
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
