"""Published claims, the statistics by which they are judged, and their verdicts on a run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from itertools import product
from math import inf, nan
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml
from pydantic import Field
from scipy import stats

from deftx.plan.artefact import Target
from deftx.report.comparison import Comparison
from deftx.report.evaluations import Evaluation
from deftx.report.places import NO_LAYER
from deftx.report.scores import Draws, draw
from deftx.report.statistics import LEVEL, RESAMPLES, interval, over_seeds
from deftx.store.strict import Strict

HOLDS, REFUTED, OPEN, NOTHING = "holds", "refuted", "inconclusive", "no claim"

FEWEST = 6
"""The smallest number of languages for which a rank correlation has an interval. Design choice: of
five languages, one order in 60 is perfect by chance, and a bootstrap has few distinct values."""

FINDINGS = [
    *("claim", "task", "source", "place", "statistic", "published"),
    *("ours", "low", "high", "n", "verdict"),
]
"""The columns of `judge`."""

Layers = dict[str, float]
"""Layer, or NO_LAYER → number of a mask's entries in it."""


class Estimate(NamedTuple):
    """A number and its 95 % interval, None if there are too few units; the numbers of units in
    words; and whether the interval can decide a claim. One over the items of a single training
    cannot: a claim is about a method."""

    value: float
    low: float | None
    high: float | None
    n: str
    decides: bool = True


class Published(Strict):
    """The published value on a test set, in words, and its languages (default: all of the set)."""

    test_set: str
    value: str
    languages: list[str] = Field(default=[])


class Claim(Strict):
    """A published claim: a row of claims.yaml, where the fields are explained."""

    claim: str
    source: str
    place: str
    statistic: str
    measure: str
    systems: list[str]
    above: float | None = None
    below: float | None = None
    elsewhere: bool = True
    published: list[Published]

    def verdict(self, estimate: Estimate) -> str:
        """HOLDS if the whole 95 % interval is between `above` and `below`, REFUTED if all of it is
        outside, OPEN if it overlaps both, if there is none, or if it is about single trainings;
        NOTHING if neither bound is given."""
        low, high = estimate.low, estimate.high
        if self.above is None and self.below is None:
            return NOTHING
        if low is None or high is None or not estimate.decides:
            return OPEN
        above = -inf if self.above is None else self.above
        below = inf if self.below is None else self.below
        if above < low and high < below:
            return HOLDS
        return REFUTED if high <= above or low >= below else OPEN


class TestSet(Strict):
    """A published test set: its name as the data set of a task, and its languages."""

    dataset: str
    languages: list[str]


class Claims(Strict):
    """The file of claims: the test sets by their names for readers, and the claims."""

    test_sets: dict[str, TestSet]
    claims: list[Claim]

    @property
    def systems(self) -> list[str]:
        """All systems that claims are about, sorted."""
        return sorted({system for claim in self.claims for system in claim.systems})


@cache
def load_claims() -> Claims:
    """The claims that come with the package."""
    text = Path(__file__).with_name("claims.yaml").read_text(encoding="utf-8")
    return Claims.model_validate(yaml.safe_load(text))


class Evidence:
    """Scores, diagnostics and corpus sizes of a run.

    Attributes:
        comparison: the systems and tasks of the run.
        draws: by `deftx.report.scores.draw`.
        items: task → number of test items.
        diagnostics: by `deftx.report.csv_files.load_diagnostics`.
        words: language → words of its unlabelled text; empty if the run did not count them.
    """

    def __init__(
        self,
        comparison: Comparison,
        evaluations: Sequence[Evaluation],
        diagnostics: pd.DataFrame,
        words: Mapping[str, int],
        draws: Mapping[str, Draws] | None = None,
    ) -> None:
        self.comparison, self.diagnostics, self.words = comparison, diagnostics, words
        self.draws = draw(comparison, evaluations) if draws is None else draws
        ids = [(e.task, e.ids) for e in evaluations]
        frame = pd.DataFrame(ids, columns=["task", "id"]).explode("id")
        self.items = frame.groupby("task")["id"].nunique()


class Case(NamedTuple):
    """What one claim is measured on: a task, the systems in the claim's order, the languages."""

    evidence: Evidence
    task: str
    systems: Sequence[str]
    languages: Sequence[str]

    @property
    def task_target(self) -> str:
        """The name of the task's vector in the diagnostics."""
        return Target("task", self.task).label

    @property
    def targets(self) -> list[str]:
        """The names of the languages' vectors in the diagnostics."""
        return [Target("language", key).label for key in self.languages]

    def score(self, system: str, language: str) -> np.ndarray:
        """A system's score in percent (seeds, 1 + resamples): on the original items, then on
        resamples of them that all systems, languages and seeds share."""
        return 100 * self.evidence.draws[self.task][system, language]

    def over_items(self, scores: np.ndarray) -> Estimate:
        """The mean over seeds of such scores (seeds, 1 + resamples), with its interval."""
        # A mean over seeds is one model, from which nothing follows about its method.
        seeds = min(len(self.score(name, self.languages[0])) for name in self.systems)
        items = self.evidence.items[self.task]
        units = (len(self.languages), "language"), (items, "item"), (seeds, "seed")
        n = ", ".join(_plural(*unit) for unit in units)
        return Estimate(float(scores[:, 0].mean()), *interval(scores), n, decides=seeds > 1)

    def gap(self, language: str) -> np.ndarray:
        """The first system's scores minus the second's, see `score`."""
        first, second = self.systems
        return self.score(first, language) - self.score(second, language)

    def measured(self, measure: str, system: str | None = None, **where: str) -> pd.DataFrame:
        """The rows of a measure in the diagnostics of a system, by default the first; empty if
        there are none."""
        wanted = {
            "task": self.task,
            "system": system or self.systems[0],
            "measure": measure,
            **where,
        }
        rows = self.evidence.diagnostics
        return rows[(rows[list(wanted)] == list(wanted.values())).all(axis=1)]

    def means(self, measure: str, system: str | None = None, **where: str) -> pd.Series:
        """`a` → the mean of its values among these rows."""
        return self.measured(measure, system, **where).groupby("a")["value"].mean()


def judge(evidence: Evidence, roles: Mapping[str, str]) -> pd.DataFrame:
    """Every claim on every task on which the run can re-measure it. Columns: FINDINGS.

    On one of the published test sets, only claims about it are measured, over the languages of the
    published number. On any other, such as an artificial world, all languages count that the run
    averages over. Where all systems have an assumption, the claims about scores are judged, each
    under a name that ends in the assumption.

    Args:
        roles: system of a claim → system of the run, for those that the run has.
    """
    rows = []
    assumption = evidence.comparison.assumption
    for claim, task in product(load_claims().claims, evidence.comparison.tasks):
        if assumption and claim.measure not in OF_SCORES:
            continue
        systems = [roles[system] for system in claim.systems if system in roles]
        known = set(systems) <= set(evidence.comparison.systems_of(task))
        languages, published = _setting(evidence.comparison, claim, task)
        if len(systems) < len(claim.systems) or not known or not languages:
            continue
        estimate = MEASURES[claim.measure](Case(evidence, task, systems, languages))
        if estimate is not None:
            row = {**claim.model_dump(), **estimate._asdict(), "ours": estimate.value}
            row |= {"task": task, "published": published, "verdict": claim.verdict(estimate)}
            row["claim"] += assumption and f" ({assumption.strip()})"
            rows.append(row)
    return pd.DataFrame(rows, columns=FINDINGS).astype({"low": float, "high": float})


def _setting(comparison: Comparison, claim: Claim, task: str) -> tuple[list[str], str]:
    """The languages of a task that a claim is measured over, and the published value; no languages
    if the claim is not about the task's test set."""
    averaged, dataset = comparison.averaged(task), comparison.tasks[task].dataset
    sets = load_claims().test_sets
    test_set = next((name for name, known in sets.items() if known.dataset == dataset), None)
    if test_set is None:
        values = {published.value for published in claim.published}
        named = [f"{published.value} ({published.test_set})" for published in claim.published]
        value = values.pop() if len(values) < len(named) else "; ".join(named)
        return (averaged if claim.elsewhere else []), value
    for published in claim.published:
        if published.test_set == test_set:
            wanted = published.languages or sets[test_set].languages
            return [key for key in averaged if key in wanted], published.value
    return [], ""


def over_units(values: Iterable[float], unit: str) -> Estimate | None:
    """The mean of one value per unit, with Student's interval; no interval for a single unit, and
    None for no unit. Missing values are left out."""
    known = pd.Series(list(values), dtype=float).dropna()
    if known.empty:
        return None
    n, mean = _plural(len(known), unit), float(known.mean())
    if len(known) < 2:
        return Estimate(mean, None, None, n)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(known) - 1)) * float(stats.sem(known))
    return Estimate(mean, mean - half, mean + half, n)


def rank_correlation(x: Iterable[float], y: Iterable[float]) -> Estimate | None:
    """Spearman's ρ over languages with its bootstrap interval over them; no interval below FEWEST
    languages, None if x or y is constant or fewer than three languages are known."""
    pairs = pd.DataFrame({"x": list(x), "y": list(y)}, dtype=float).dropna()
    if len(pairs) < 3 or pairs.nunique().min() < 2:
        return None
    values, n = pairs.to_numpy(), _plural(len(pairs), "language")
    found = float(_correlations(values))
    if len(pairs) < FEWEST:
        return Estimate(found, None, None, n)
    drawn = np.random.default_rng(0).integers(0, len(pairs), (RESAMPLES, len(pairs)))
    # A constant resample is NaN and left out.
    low, high = np.nanquantile(_correlations(values[drawn]), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(found, float(low), float(high), n)


def _correlations(pairs: np.ndarray) -> np.ndarray:
    """Spearman's ρ of pairs (…, n, 2); NaN where one side is constant."""
    ranks = stats.rankdata(pairs, axis=-2)
    a, b = np.moveaxis(ranks - ranks.mean(axis=-2, keepdims=True), -1, 0)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


# The statistics: each takes a `Case` and gives an estimate, or None if the run lacks the
# measurements. First those of scores.


def difference(case: Case) -> Estimate:
    """The first system's mean over languages minus the second's, in points."""
    return case.over_items(np.mean([case.gap(key) for key in case.languages], axis=0))


def wins(case: Case) -> Estimate:
    """The part of the languages in which the first system is above the second; ties count half."""
    gaps = np.array([over_seeds(case.gap(key)) for key in case.languages])
    return case.over_items(((gaps > 0) + 0.5 * (gaps == 0)).mean(axis=0, keepdims=True))


def gain_and_corpus(case: Case) -> Estimate | None:
    """Spearman's ρ, over languages, of the first system's gain over the second and the number of
    words of the language's text."""
    gains = [case.gap(key)[:, 0].mean() for key in case.languages]
    return rank_correlation(gains, [case.evidence.words.get(key, nan) for key in case.languages])


def loss_and_score(case: Case) -> Estimate | None:
    """Spearman's ρ, over languages, of the held-out loss of the language's vector and the score."""
    losses = case.means("held_out_loss").reindex(case.targets)
    return rank_correlation(
        losses, [case.score(case.systems[0], key)[:, 0].mean() for key in case.languages]
    )


# Statistics of vectors


def of_masks(
    case: Case, *, kind: str, statistic: Callable[[Layers], float | None]
) -> Estimate | None:
    """A statistic of the entries per layer: of the languages' masks, the mean over languages of
    means over seeds; of the task's masks, the mean over seeds."""
    targets = [case.task_target] if kind == "task" else case.targets
    rows = case.measured("entries")
    found = [
        (target, seed, statistic(dict(mask.groupby("layer")["value"].sum())))
        for (target, seed), mask in rows[rows.a.isin(targets)].groupby(["a", "seed"], sort=False)
    ]
    frame = pd.DataFrame(found, columns=["language", "seed", "value"]).astype({"value": float})
    unit = "seed" if kind == "task" else "language"
    return over_units(frame.groupby(unit, sort=False)["value"].mean(), unit)


def layer_shape(layers: Layers) -> float | None:
    """Entries per layer in the first and the last third of the layers together, over those per
    layer in the middle third: above 1 for a U, below 1 for its inverse; None for fewer than three
    layers, or if the middle has no entry."""
    inside = np.array([layers[key] for key in sorted(layers.keys() - {NO_LAYER}, key=int)])
    count = len(inside)
    middle = np.array([count <= 3 * i + 1.5 <= 2 * count for i in range(count)], bool)
    if count < 3 or not inside[middle].sum():
        return None
    return float(inside[~middle].mean() / inside[middle].mean())


def embeddings_share(layers: Layers) -> float | None:
    """The share of the entries that are outside of the layers, in percent."""
    total = sum(layers.values())
    return 100 * layers.get(NO_LAYER, 0.0) / total if total else None


def embeddings_lead(layers: Layers) -> float | None:
    """That share minus the largest share of one layer, in points."""
    share, inside = embeddings_share(layers), [n for key, n in layers.items() if key != NO_LAYER]
    if share is None or not inside:
        return None
    return share - 100 * max(inside) / sum(layers.values())


def with_task(case: Case, *, measure: str) -> Estimate | None:
    """A measure of a language's vector and the task's, of the first system minus the second, each a
    mean over seeds: the mean over languages."""
    first, second = (case.means(measure, system, b=case.task_target) for system in case.systems)
    return over_units((first - second).reindex(case.targets), "language")


def between_languages(case: Case) -> Estimate | None:
    """Mean overlap of pairs of language vectors; without an interval, because pairs share
    languages and are no independent units."""
    rows = case.measured("overlap")
    values = rows[rows.a.isin(case.targets) & rows.b.isin(case.targets)]["value"]
    if values.empty:
        return None
    return Estimate(float(values.mean()), None, None, f"{len(values)} pairs")


def stability(case: Case) -> Estimate | None:
    """Jaccard's index of the masks of a target with two seeds, the mean over all pairs of seeds:
    the mean over targets, the task among them; with two systems the first minus the second."""
    first, *second = (case.means("jaccard", system) for system in case.systems)
    gaps = first - second[0] if second else first
    return over_units(gaps.reindex([case.task_target, *case.targets]), "target")


def alignment(case: Case) -> Estimate | None:
    """Mean cosine of an item and its translation minus that of other pairs, over languages."""
    gaps = case.means("similarity_matched") - case.means("similarity_mismatched")
    return over_units(gaps.reindex(list(case.languages)), "language")


MEASURES: dict[str, Callable[[Case], Estimate | None]] = {
    "difference": difference,
    "wins": wins,
    "gain_and_corpus": gain_and_corpus,
    "loss_and_score": loss_and_score,
    "overlap_with_task": partial(with_task, measure="overlap"),
    "interference_with_task": partial(with_task, measure="interference"),
    "between_languages": between_languages,
    "stability": stability,
    "alignment": alignment,
    "language_layer_shape": partial(of_masks, kind="language", statistic=layer_shape),
    "language_embeddings_share": partial(of_masks, kind="language", statistic=embeddings_share),
    "language_embeddings_lead": partial(of_masks, kind="language", statistic=embeddings_lead),
    "task_layer_shape": partial(of_masks, kind="task", statistic=layer_shape),
    "task_embeddings_lead": partial(of_masks, kind="task", statistic=embeddings_lead),
}
"""The names of the statistics in claims.yaml."""

OF_SCORES = ("difference", "wins", "gain_and_corpus", "loss_and_score")
"""Those of them that a prior on the classes changes."""


def _plural(n: int, unit: str) -> str:
    return f"{n} {unit}" + ("s" if n != 1 else "")
