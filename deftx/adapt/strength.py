"""Choose the strength of a language vector with a few labelled items, and score the choosing itself
on items that did not choose."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from deftx.adapt.filled import Labelled, read_labelled
from deftx.adapt.project import Project
from deftx.adapt.score import Answers, changes, mcnemar, measured, percent
from deftx.adapt.uses import check_apart
from deftx.data.contradictions import leaked
from deftx.report.statistics import ALPHA, ROUNDING
from deftx.store.artefact import write_json
from deftx.store.errors import DataError, InputError
from deftx.store.items import Item
from deftx.store.seeds import stream

STRENGTHS = (0.0, 0.5, 1.0, 1.5)
USUAL = 1.0
"""The strength of all published results: the vector is added as it is."""

FOLDS = 10
FEWEST = 50
"""Items that a choice needs at least. With fewer nearly every choice is the usual strength."""

Predict = Callable[[list[Item], float], np.ndarray]
"""From items and a strength to probabilities (items, classes)."""


@dataclass(frozen=True)
class Choice:
    """A chosen strength, and how well choosing works.

    Attributes:
        strength: chosen with all items; 0 leaves the language vector out.
        strengths, right: the candidates, and how many of the items each answers rightly. The best
            of these is too good a figure, because it was chosen as the best.
        folds: the strength that was chosen without each fold.
        held_out: of the answers to each fold with the strength that was chosen without it: the
            figure to report.
        usual: with the vector as it is.
        gained, lost, p: items that only choosing answers rightly, that only the usual strength
            does, and the p-value of the exact test of McNemar.
        marks: hashes of the items' words.
        known: items in the text that the model was trained on.
    """

    strength: float
    strengths: list[float]
    right: list[int]
    folds: list[float]
    held_out: Answers
    usual: Answers
    gained: int
    lost: int
    p: float
    items: int
    marks: list[str]
    known: int


def read_few(path: Path, classes: Sequence[str]) -> Labelled:
    """The labelled texts that are to choose. Raises DataError as `read_labelled` does, and if they
    are fewer than FEWEST."""
    labelled = read_labelled(path, classes)
    if len(labelled.items) < FEWEST:
        raise DataError(
            f"{path}: {len(labelled.items)} rows have a label; to choose takes at least {FEWEST}. "
            "Keep so few for scoring"
        )
    return labelled


def choose_strength(
    path: Path,
    project: Project,
    predict: Predict,
    *,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = FOLDS,
    seed: int = 0,
    trained: Sequence[Item] = (),
) -> Choice:
    """Choose with a table of labelled texts in the language, see `read_labelled`. `trained` may be
    the text that the model was trained on, which is searched for them.

    Raises DataError as `read_few` does, and if the model was scored with these items; InputError if
    `strengths` has no 0 or no 1.
    """
    if not {0.0, USUAL} <= {*strengths}:
        raise InputError(f"strengths {list(strengths)}: 0 and 1 must be among them")
    labelled = read_few(path, project.classes)
    check_apart(labelled, path, project.folder, "choose")
    truth = labelled.truth(project.classes)
    answers = np.array([predict(labelled.texts, strength).argmax(1) for strength in strengths])
    right = answers == truth
    parts = stratified(truth, folds, seed)
    chosen = [best(right[:, parts != part], strengths) for part in range(folds)]
    mine = answers[[strengths.index(chosen[part]) for part in parts], np.arange(len(truth))]
    usual = answers[strengths.index(USUAL)]
    gained, lost = changes(truth, mine, usual)
    count = len(project.classes)
    return Choice(
        strength=best(right, strengths),
        strengths=list(strengths),
        right=right.sum(1).tolist(),
        folds=chosen,
        held_out=measured(truth, mine, count),
        usual=measured(truth, usual, count),
        gained=gained,
        lost=lost,
        p=mcnemar(gained, lost),
        items=len(truth),
        marks=labelled.marks,
        known=leaked(labelled.items, trained) if trained else 0,
    )


def best(right: np.ndarray, strengths: Sequence[float]) -> float:
    """The strength to choose, given which items each strength answers rightly (strengths, items):
    the usual one, unless others beat it by more than a standard error of the difference, and then
    the best of these; among equals the one nearest to the usual. Source of the one standard error:
    Breiman et al. 1984, "Classification and regression trees", section 3.4.3."""
    gain = right.astype(float) - right[strengths.index(USUAL)]
    error = gain.std(axis=1, ddof=1) / np.sqrt(gain.shape[1])
    able = np.flatnonzero(gain.mean(axis=1) > error + ROUNDING).tolist()
    if not able:
        return USUAL
    at = max(able, key=lambda at: (right[at].sum(), -abs(strengths[at] - USUAL)))
    return strengths[at]


def stratified(truth: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The number of each item's fold (items,): random, and each class is spread evenly."""
    draw = np.random.default_rng(stream(seed, "strength"))
    shuffled = draw.permutation(len(truth))
    order = shuffled[np.argsort(truth[shuffled], kind="stable")]
    parts = np.empty(len(truth), dtype=int)
    parts[order] = np.arange(len(truth)) % folds
    return parts


def reading(found: Choice) -> list[str]:
    """The choice in sentences."""
    accuracy, usual = found.held_out.accuracy, found.usual.accuracy
    tried = ", ".join(
        f"{strength:g} ({right} right)"
        for strength, right in zip(found.strengths, found.right, strict=True)
    )
    verdict = (
        f"Choosing {'helps' if found.gained > found.lost else 'harms'} (p = {found.p:.2g})."
        if found.p < ALPHA
        else "Whether choosing helps: too few to tell."
    )
    known = f"The model has read {found.known} of their texts, without the labels."
    return [
        f"Strength {found.strength:g} of the language vector is chosen with {found.items} items, "
        f"among {tried}.",
        "Choosing again without a part of the items, and then answering that part, is right on "
        f"{found.held_out.right} of {found.items}: {percent(accuracy.value)} % "
        f"({percent(accuracy.low)} to {percent(accuracy.high)}). Report this figure.",
        f"The usual strength, 1, is right on {found.usual.right}: {percent(usual.value)} % "
        f"({percent(usual.low)} to {percent(usual.high)}). {verdict}",
        "These items have chosen, so `deftx score` refuses them.",
        *([known] if found.known else []),
    ]


def write_choice(path: Path, found: Choice) -> None:
    """Write a choice as JSON, with its sentences as `reading`."""
    write_json(path, {**asdict(found), "reading": reading(found)})
