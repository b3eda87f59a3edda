"""The statistics by which claims are judged: a function for each.

Each takes a `Case` and gives an estimate, or None if the run lacks the measurements.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from deftx.plan.artefact import Target
from deftx.report.evidence import Case, Estimate, over_units, rank_correlation
from deftx.report.places import NO_LAYER
from deftx.report.statistics import over_seeds

Layers = dict[str, float]
"""Layer, or NO_LAYER → number of a mask's entries in it."""


# Statistics of scores


def difference(case: Case) -> Estimate:
    """The first system's mean over languages minus the second's, in points."""
    first, second = (
        np.mean([case.score(system, key) for key in case.languages], axis=0)
        for system in case.systems
    )
    return case.over_items(first - second)


def wins(case: Case) -> Estimate:
    """The part of the languages in which the first system is above the second; ties count half."""
    gaps = [
        over_seeds(np.subtract(*(case.score(system, key) for system in case.systems)))
        for key in case.languages
    ]
    share = np.mean([(gap > 0) + 0.5 * (gap == 0) for gap in gaps], axis=0)
    return case.over_items(share[None])


def gain_and_corpus(case: Case) -> Estimate | None:
    """Spearman's ρ, over languages, of the first system's gain over the second and the number of
    words of the language's text."""
    words = case.evidence.words
    known = [key for key in case.languages if key in words]
    gains = [
        np.subtract(*(case.score(system, key)[:, 0].mean() for system in case.systems))
        for key in known
    ]
    return rank_correlation(gains, [words[key] for key in known])


def loss_and_score(case: Case) -> Estimate | None:
    """Spearman's ρ, over languages, of the held-out loss of the language's vector and the score."""
    losses = _means(case.measured(case.systems[0], "held_out_loss"))
    known = [key for key in case.languages if _vector(key) in losses]
    scores = [float(case.score(case.systems[0], key)[:, 0].mean()) for key in known]
    return rank_correlation([losses[_vector(key)] for key in known], scores)


# Statistics of vectors


def of_masks(
    case: Case, *, kind: str, statistic: Callable[[Layers], float | None]
) -> Estimate | None:
    """A statistic of the entries per layer: of the languages' masks, the mean over languages of
    means over seeds; of the task's masks, the mean over seeds."""
    targets = [_task(case)] if kind == "task" else _languages(case)
    rows = case.measured(case.systems[0], "entries")
    found: dict[Any, list[float]] = {}
    for (target, seed), mask in rows[rows.a.isin(targets)].groupby(["a", "seed"], sort=False):
        value = statistic(dict(mask.groupby("layer")["value"].sum()))
        if value is not None:
            found.setdefault(seed if kind == "task" else target, []).append(value)
    means = [float(np.mean(values)) for values in found.values()]
    return over_units(means, "seed" if kind == "task" else "language")


def layer_shape(layers: Layers) -> float | None:
    """Entries per layer in the first and the last third of the layers together, over those per
    layer in the middle third: above 1 for a U, below 1 for its inverse; None for fewer than three
    layers, or if the middle has no entry."""
    inside = [layers[key] for key in sorted(layers.keys() - {NO_LAYER}, key=int)]
    count = len(inside)
    in_middle = [count <= 3 * i + 1.5 <= 2 * count for i in range(count)]
    middle = [n for n, chosen in zip(inside, in_middle, strict=True) if chosen]
    outer = [n for n, chosen in zip(inside, in_middle, strict=True) if not chosen]
    if count < 3 or not sum(middle):
        return None
    return float(np.mean(outer) / np.mean(middle))


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
    first, second = (
        _means(rows[rows.b == _task(case)])
        for rows in (case.measured(system, measure) for system in case.systems)
    )
    known = [target for target in _languages(case) if target in first and target in second]
    return over_units([first[target] - second[target] for target in known], "language")


def between_languages(case: Case) -> Estimate | None:
    """Mean overlap of pairs of language vectors; without an interval, because pairs share
    languages and are no independent units."""
    rows = case.measured(case.systems[0], "overlap")
    targets = _languages(case)
    values = rows[rows.a.isin(targets) & rows.b.isin(targets)]["value"]
    if values.empty:
        return None
    return Estimate(float(values.mean()), None, None, f"{len(values)} pairs")


def stability(case: Case) -> Estimate | None:
    """Jaccard's index of the masks of a target with two seeds, the mean over all pairs of seeds:
    the mean over targets, the task among them; with two systems the first minus the second."""
    found = [_means(case.measured(system, "jaccard")) for system in case.systems]
    targets = [_task(case), *_languages(case)]
    known = [target for target in targets if all(target in each for each in found)]
    values = [found[0][t] - (found[1][t] if len(found) > 1 else 0.0) for t in known]
    return over_units(values, "target")


def alignment(case: Case) -> Estimate | None:
    """Mean cosine of an item and its translation minus that of other pairs, over languages."""
    matched, others = (
        _means(case.measured(case.systems[0], f"similarity_{kind}"))
        for kind in ("matched", "mismatched")
    )
    gaps = [matched[key] - others[key] for key in case.languages if key in matched]
    return over_units(gaps, "language")


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


def _vector(language: str) -> str:
    """The name of a language's vector in the diagnostics."""
    return Target("language", language).label


def _languages(case: Case) -> list[str]:
    return [_vector(key) for key in case.languages]


def _task(case: Case) -> str:
    return Target("task", case.task).label


def _means(rows: pd.DataFrame) -> dict[str, float]:
    """`a` → the mean of its values."""
    return {str(a): float(value) for a, value in rows.groupby("a")["value"].mean().items()}
