"""What labelled items of a language show about a model: scores, how sure they are, and whether the
language vector helps. docs/adapt-scoring.md has the choices."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil, floor, log10, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from scipy.stats import binomtest, norm

from deftx.adapt.filled import Labelled, read_filled
from deftx.adapt.project import Project
from deftx.adapt.sheet import FEWEST
from deftx.adapt.uses import check_apart
from deftx.data.contradictions import leaked
from deftx.report.statistics import ALPHA, LEVEL
from deftx.report.table_formats import MARKDOWN, MINUS, PLAIN, grid
from deftx.report.table_formats import Table as Formatted
from deftx.report.template import as_text
from deftx.store.artefact import write_json
from deftx.store.errors import DataError
from deftx.store.items import Item

POWER = 0.8
"""How often the items that a sentence asks for would show a difference of the observed size."""

DRAWS = 10_000

WORDS = 25
"""Characters from which a column of a table has words, not numbers."""

RARE = 5
"""A class with fewer labels gets a note: its F1 is a matter of chance."""


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its 95 % interval, all in [0, 1] (a difference in [−1, 1])."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Answers:
    """How a model answers. `confusion[i][j]` counts items labelled i that it calls j."""

    right: int
    accuracy: Estimate
    macro_f1: Estimate
    confusion: list[list[int]]


@dataclass(frozen=True)
class Score:
    """A model's score on labelled items of its language.

    Attributes:
        kind, origin: of the file, see `Labelled`.
        items, given: rows with a label, and all rows.
        most_frequent: the most frequent label, and `chance`, the share of the items that have it:
            the accuracy of always answering it. It is at least 1/classes.
        p_chance: one-sided p-value of the exact binomial test of the accuracy against `chance`.
        needed_chance: items that would show such a difference, or None without a difference.
        gained, lost: items that only the model with the language vector answers rightly, and items
            that only the model without it does.
        difference: of the accuracies, with less without.
        p_difference: two-sided p-value of the exact test of McNemar.
        needed_difference: as `needed_chance`.
        notes: sentences about the items.
        marks: hashes of the items' words.
    """

    language: str
    name: str
    task: str
    classes: list[str]
    kind: str
    origin: str
    items: int
    given: int
    with_language: Answers
    without_language: Answers
    most_frequent: str
    chance: float
    p_chance: float
    needed_chance: int | None
    gained: int
    lost: int
    difference: Estimate
    p_difference: float
    needed_difference: int | None
    notes: list[str]
    marks: list[str]


def score(sheet: Path, project: Project, trained: Sequence[Item] = ()) -> Score:
    """Score an adapted model with a filled sheet, or with another table of labelled texts.
    `trained` may be the text that it was trained on, which is searched for the items.

    Raises DataError as `read_filled` does, with fewer than FEWEST labels, and if the labels chose
    the strength of the language vector.
    """
    labelled = read_filled(sheet, project.folder, project.classes)
    count = len(labelled.items)
    if count < FEWEST:
        raise DataError(
            f"{sheet}: {count} of {labelled.given} rows are filled; no figure is given for fewer "
            f"than {FEWEST}, because it could be anything. Fill more rows and run this again"
        )
    check_apart(labelled, sheet, project.folder, "score")
    answers = (
        project.predict(labelled.texts, with_language=with_it).argmax(1)
        for with_it in (True, False)
    )
    return compared(labelled, project, *answers, trained=trained)


def compared(
    labelled: Labelled,
    project: Project,
    with_it: np.ndarray,
    without: np.ndarray,
    *,
    trained: Sequence[Item] = (),
) -> Score:
    """The score of answers (items,) with and without the language vector, as numbers of classes."""
    classes, truth = project.classes, labelled.truth(project.classes)
    count = len(truth)
    support = np.bincount(truth, minlength=len(classes))
    most = int(support.argmax())
    chance = float(support[most] / count)
    right = int((with_it == truth).sum())
    gained, lost = changes(truth, with_it, without)
    notes = list(labelled.notes)
    for name, number in zip(classes, support, strict=True):
        if number < RARE:
            ignored = "; macro F1 is the mean over the other classes" if number == 0 else ""
            notes.append(f"Items with the label {name!r}: only {number}{ignored}.")
    if trained and (known := leaked(labelled.items, trained)):
        notes.append(
            f"Items in the text that the model was trained on, without their labels: {known}. The "
            "figures may be too good."
        )
    return Score(
        language=project.language,
        name=project.name,
        task=project.task,
        classes=list(classes),
        kind=labelled.kind,
        origin=labelled.origin,
        items=count,
        given=labelled.given,
        with_language=measured(truth, with_it, len(classes)),
        without_language=measured(truth, without, len(classes)),
        most_frequent=classes[most],
        chance=chance,
        p_chance=float(binomtest(right, count, chance, alternative="greater").pvalue),
        needed_chance=needed_above(right / count, chance),
        gained=gained,
        lost=lost,
        difference=paired_difference(gained, lost, count),
        p_difference=mcnemar(gained, lost),
        needed_difference=needed_between(gained / count, lost / count),
        notes=notes,
        marks=labelled.marks,
    )


def measured(truth: np.ndarray, answers: np.ndarray, classes: int) -> Answers:
    """Scores of answers (items,) against the truth (items,), both numbers of classes."""
    confusion = np.zeros((classes, classes), dtype=int)
    np.add.at(confusion, (truth, answers), 1)
    right = int(np.trace(confusion))
    return Answers(
        right, wilson(right, len(truth)), macro_f1_interval(confusion), confusion.tolist()
    )


def wilson(right: int, count: int) -> Estimate:
    """A share and its interval. Source: Wilson 1927, without correction for continuity."""
    ends = binomtest(right, count).proportion_ci(LEVEL, method="wilson")
    return Estimate(right / count, float(ends.low), float(ends.high))


def macro_f1_interval(confusion: np.ndarray, draws: int = DRAWS) -> Estimate:
    """Macro F1 over the classes that occur among the labels (rows), and its interval by the
    Bayesian bootstrap over items.

    One more item is spread evenly over all pairs of label and answer, so that a sheet without
    errors has an interval, too. Sources: Rubin 1981, "The Bayesian bootstrap"; Perks 1947 for the
    one item; Goutte & Gaussier 2005 for F1. The ends are widened to include the value itself.
    """
    present = confusion.sum(1) > 0
    cells = confusion[present]
    weights = np.random.default_rng(0).dirichlet(cells.ravel() + 1 / cells.size, size=draws)
    drawn = _macro_f1(weights.reshape(draws, *cells.shape), present)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = float(_macro_f1(cells, present))
    return Estimate(value, min(float(low), value), max(float(high), value))


def _macro_f1(cells: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Macro F1 of counts (…, present classes, all classes)."""
    mine = cells[..., present]
    both = cells.sum(-1) + mine.sum(-2)
    return (2 * np.diagonal(mine, axis1=-2, axis2=-1) / both).mean(-1)


def changes(truth: np.ndarray, new: np.ndarray, old: np.ndarray) -> tuple[int, int]:
    """Items that only the new answers get right, and items that only the old ones do."""
    better, worse = (new == truth) & (old != truth), (new != truth) & (old == truth)
    return int(better.sum()), int(worse.sum())


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided p-value of the exact test of McNemar: whether gained and lost items differ by more
    than chance. Source: McNemar 1947, in its binomial form."""
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def paired_difference(gained: int, lost: int, count: int) -> Estimate:
    """The difference of two accuracies on the same items, with its interval, which has a width even
    if no answer differs. Source: Bonett & Price 2012, an adjusted Wald interval."""
    plus, minus = ((number + 1) / (count + 2) for number in (gained, lost))
    middle, spread = plus - minus, sqrt((plus + minus - (plus - minus) ** 2) / (count + 2))
    half = norm.isf((1 - LEVEL) / 2) * spread
    value = (gained - lost) / count
    return Estimate(value, max(-1.0, float(middle - half)), min(1.0, float(middle + half)))


def needed_above(share: float, chance: float) -> int | None:
    """Items with which a one-sided test at 5 % would find a true share above chance with a
    probability of POWER, rounded up to two digits; None if the share is not above it, or chance is
    1. Source: the normal approximation, Fleiss, Levin & Paik 2003, section 2.5."""
    if not chance < share:
        return None
    under = norm.isf(ALPHA) * sqrt(chance * (1 - chance))
    over = norm.isf(1 - POWER) * sqrt(share * (1 - share))
    return _rounded_up(((under + over) / (share - chance)) ** 2)


def needed_between(gained: float, lost: float) -> int | None:
    """Items with which the test of McNemar (two-sided, 5 %) would find such true shares of gained
    and lost items with a probability of POWER, rounded up to two digits; None if they are equal.
    Source: Connor 1987, equation 3, after Miettinen 1968."""
    changed, size = gained + lost, abs(gained - lost)
    if not size:
        return None
    under = norm.isf(ALPHA / 2) * sqrt(changed)
    over = norm.isf(1 - POWER) * sqrt(changed - size**2)
    return _rounded_up(((under + over) / size) ** 2)


def _rounded_up(number: float) -> int:
    unit = 10 ** max(0, floor(log10(max(number, 1))) - 1)
    return ceil(number / unit) * unit


def percent(share: float, signed: bool = False) -> str:
    """A share in whole percent, without the sign %."""
    return f"{100 * share:{'+' if signed else ''}.0f}".replace("-", MINUS)


def _between(estimate: Estimate, signed: bool = False) -> str:
    return f"{percent(estimate.low, signed)} to {percent(estimate.high, signed)}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def _too_few(needed: int | None) -> str:
    more = f" (about {needed:,} items would show a difference of this size)" if needed else ""
    return f"too few to tell{more}"


def reading(found: Score) -> list[str]:
    """The score in sentences."""
    n, mine = found.items, found.with_language
    always = f"always answering {found.most_frequent!r}"
    chance = (
        f"Against chance: {always} is right on {round(found.chance * n)} of {n} items "
        f"({percent(found.chance)} %). "
    )
    if found.p_chance < ALPHA:
        chance += f"The model is better than that ({_p(found.p_chance)})."
    elif found.needed_chance is None:
        chance += "The model is not better than that on these items: see which labels it mistakes."
    else:
        chance += f"Whether the model is better: {_too_few(found.needed_chance)}."
    vector = (
        f"The language vector makes {found.gained} wrong answers right and {found.lost} right "
        f"answers wrong: {percent(found.difference.value, signed=True)} points "
        f"({_between(found.difference, signed=True)}). "
    )
    if found.p_difference < ALPHA:
        verb = "helps" if found.gained > found.lost else "harms"
        vector += f"It {verb} ({_p(found.p_difference)})."
    else:
        vector += f"Whether it helps: {_too_few(found.needed_difference)}."
    sentences = [
        f"{found.items} of {found.given} rows have a label; only these count.",
        f"With the language vector the model is right on {mine.right} of {n} items. Accuracy on "
        f"many more such texts would be between {percent(mine.accuracy.low)} and "
        f"{percent(mine.accuracy.high)} % (95 % interval).",
        chance,
        vector,
    ]
    if found.kind == "translate":
        sentences.append(
            "The texts are translations. Texts that were written in the language may be harder, "
            "and classes may be more or less frequent in them."
        )
    return [*sentences, *found.notes]


def score_tables(found: Score) -> list[Formatted]:
    """The tables of a score: the scores, and which labels the model mistakes for which."""
    rows = {
        "with the language vector": found.with_language,
        "without it": found.without_language,
        f"always {found.most_frequent!r}": _constant(found),
    }
    scores = {
        name: {
            "right": f"{of.right} of {found.items}",
            "accuracy, %": percent(of.accuracy.value),
            "95 % interval": _between(of.accuracy),
            "macro F1": percent(of.macro_f1.value),
            "its interval": _between(of.macro_f1),
        }
        for name, of in rows.items()
    }
    answers = pd.DataFrame(
        found.with_language.confusion,
        index=[f"labelled {name}" for name in found.classes],
        columns=[f"answered {name}" for name in found.classes],
    )
    title = f"Score: {found.task} in {found.name or found.language}, {found.items} items"
    return [
        Formatted("score", title, "", pd.DataFrame.from_dict(scores, orient="index")),
        Formatted("answers", "Answers with the language vector", "", answers.map(str)),
    ]


def _constant(found: Score) -> Answers:
    counts = np.array(found.with_language.confusion).sum(1)
    truth = np.repeat(np.arange(len(counts)), counts)
    constant = np.full(len(truth), found.classes.index(found.most_frequent))
    return measured(truth, constant, len(counts))


def shown(found: Score) -> RenderableType:
    """A score for the terminal."""
    return Group(
        *map(rich_table, score_tables(found)), *(f"- {escape(line)}" for line in reading(found))
    )


def rich_table(table: Formatted) -> Table:
    """A table for the terminal."""
    frame = PLAIN.frame(table)
    made = Table("", title=escape(table.title), title_justify="left")
    for name, texts in frame.items():
        prose = texts.map(len).max() > WORDS
        made.add_column(escape(str(name)), justify="left" if prose else "right")
    for name, *cells in frame.itertuples():
        made.add_row(*(escape(str(text)) for text in (name, *cells)))
    return made


def markdown(found: Score, level: int = 2) -> str:
    """A score as a section of a card in Markdown."""
    parts = [
        f"{'#' * level} {as_text(table.title)}\n\n{grid(MARKDOWN.frame(table))}\n"
        for table in score_tables(found)
    ]
    return "\n".join([*parts, *(f"- {as_text(line)}" for line in reading(found))]) + "\n"


def write_score(path: Path, found: Score) -> None:
    """Write a score as JSON, with its sentences as `reading`."""
    write_json(path, {**asdict(found), "reading": reading(found)})
