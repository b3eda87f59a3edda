"""What is measured of a run to judge a claim: a function per statistic.

Each takes the evidence, a task, the systems in the claim's order and the languages that count, and
gives an estimate, or None if the run does not say.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from deftx.report.evidence import Estimate, Evidence, over_units, rank_correlation
from deftx.report.places import NO_LAYER
from deftx.report.statistics import over_seeds

Measure = Callable[[Evidence, str, Sequence[str], Sequence[str]], Estimate | None]
"""(evidence, task, systems, languages) → what a run says; None if it says nothing."""

Layers = dict[str, float]
"""Layer, or NO_LAYER → how many of a mask's entries lie there."""


# Statistics of scores


def difference(
    evidence: Evidence, task: str, systems: Sequence[str], languages: Sequence[str]
) -> Estimate:
    """The first system's mean over languages minus the second's, in points."""
    first, second = (evidence.mean(task, system, languages) for system in systems)
    return evidence.over_items(task, first - second, languages)


def wins(
    evidence: Evidence, task: str, systems: Sequence[str], languages: Sequence[str]
) -> Estimate:
    """The part of the languages in which the first system is above the second; ties count half."""
    gaps = [
        over_seeds(np.subtract(*(evidence.score(task, system, key) for system in systems)))
        for key in languages
    ]
    share = np.mean([(gap > 0) + 0.5 * (gap == 0) for gap in gaps], axis=0)
    return evidence.over_items(task, share[None], languages)


def gain_and_corpus(
    evidence: Evidence, task: str, systems: Sequence[str], languages: Sequence[str]
) -> Estimate | None:
    """Spearman's ρ, over languages, of the first system's gain over the second and the words of
    the language's text."""
    known = [key for key in languages if key in evidence.words]
    gains = [
        np.subtract(*(evidence.score(task, system, key)[:, 0].mean() for system in systems))
        for key in known
    ]
    return rank_correlation(gains, [evidence.words[key] for key in known])


def loss_and_score(
    evidence: Evidence, task: str, systems: Sequence[str], languages: Sequence[str]
) -> Estimate | None:
    """Spearman's ρ, over languages, of the held-out loss of the language's vector and the score."""
    losses = _by_target(evidence.diagnostics(task, systems[0], "held_out_loss"))
    known = [key for key in languages if f"lang-{key}" in losses]
    scores = [float(evidence.score(task, systems[0], key)[:, 0].mean()) for key in known]
    return rank_correlation([losses[f"lang-{key}"] for key in known], scores)


# Statistics of vectors


def of_targets(
    evidence: Evidence,
    task: str,
    systems: Sequence[str],
    languages: Sequence[str],
    *,
    kind: str,
    statistic: Callable[[Layers], float | None],
) -> Estimate | None:
    """The mean of a statistic of the entries per layer: over languages, each a mean over seeds, or
    of the task's masks over seeds."""
    wanted = [f"task-{task}"] if kind == "task" else [f"lang-{key}" for key in languages]
    masks: dict[tuple[str, str], Layers] = {}
    for row in evidence.diagnostics(task, systems[0], "entries").itertuples():
        if row.a in wanted:
            layers = masks.setdefault((str(row.a), str(row.seed)), {})
            layers[str(row.layer)] = layers.get(str(row.layer), 0.0) + float(str(row.value))
    found: dict[str, list[float]] = {}
    for (target, seed), layers in masks.items():
        if (value := statistic(layers)) is not None:
            found.setdefault(seed if kind == "task" else target, []).append(value)
    if not found:
        return None
    means = [float(np.mean(values)) for values in found.values()]
    return over_units(means, "seed" if kind == "task" else "language")


def bend(layers: Layers) -> float | None:
    """Entries per layer in the first and the last third of the layers together, over those per
    layer in the middle third: above 1 for a U, below 1 for its inverse; None for fewer than three
    layers, or if the middle has none."""
    inside = {int(layer): value for layer, value in layers.items() if layer != NO_LAYER}
    count = len(inside)
    middle = [inside[i] for i in sorted(inside) if count <= 3 * i + 1.5 <= 2 * count]
    outer = [inside[i] for i in sorted(inside) if not count <= 3 * i + 1.5 <= 2 * count]
    if count < 3 or not sum(middle):
        return None
    return float(np.mean(outer) / np.mean(middle))


def embeddings(layers: Layers) -> float | None:
    """The share of the entries that lies outside of the layers, in percent."""
    total = sum(layers.values())
    return 100 * layers.get(NO_LAYER, 0.0) / total if total else None


def embeddings_lead(layers: Layers) -> float | None:
    """That share minus the largest share of one layer, in points."""
    share, inside = embeddings(layers), [n for layer, n in layers.items() if layer != NO_LAYER]
    if share is None or not inside:
        return None
    return share - 100 * max(inside) / sum(layers.values())


def pairs(
    evidence: Evidence,
    task: str,
    systems: Sequence[str],
    languages: Sequence[str],
    *,
    measure: str,
) -> Estimate | None:
    """A measure of a language's vector beside the task's, of the first system minus the second,
    each a mean over seeds: the mean over languages."""
    first, second = (
        _by_target(rows[rows.b == f"task-{task}"])
        for rows in (evidence.diagnostics(task, system, measure) for system in systems)
    )
    targets = [f"lang-{key}" for key in languages]
    gaps = [first[t] - second[t] for t in targets if t in first and t in second]
    return over_units(gaps, "language") if gaps else None


def between_languages(
    evidence: Evidence, task: str, systems: Sequence[str], languages: Sequence[str]
) -> Estimate | None:
    """Mean overlap of the language vectors, two by two. Pairs share languages, so that they are no
    units of an interval."""
    rows = evidence.diagnostics(task, systems[0], "overlap")
    targets = [f"lang-{key}" for key in languages]
    values = rows[rows.a.isin(targets) & rows.b.isin(targets)]["value"]
    if values.empty:
        return None
    return Estimate(float(values.mean()), None, None, f"{len(values)} pairs")


def stability(
    evidence: Evidence, task: str, systems: Sequence[str], languages: Sequence[str]
) -> Estimate | None:
    """Jaccard's index of the masks of a target with two seeds, a mean over all pairs of seeds: the
    mean over targets, the task among them; with two systems the first minus the second."""
    found = [_by_target(evidence.diagnostics(task, system, "jaccard")) for system in systems]
    targets = [f"task-{task}", *(f"lang-{key}" for key in languages)]
    known = [target for target in targets if all(target in each for each in found)]
    values = [found[0][t] - (found[1][t] if len(found) > 1 else 0.0) for t in known]
    return over_units(values, "target") if values else None


def alignment(
    evidence: Evidence, task: str, systems: Sequence[str], languages: Sequence[str]
) -> Estimate | None:
    """Mean cosine of an item and its translation minus that of other pairs, over languages."""
    matched, others = (
        _by_target(evidence.diagnostics(task, systems[0], f"similarity_{kind}"))
        for kind in ("matched", "mismatched")
    )
    gaps = [matched[key] - others[key] for key in languages if key in matched]
    return over_units(gaps, "language") if gaps else None


def _by_target(rows: pd.DataFrame) -> dict[str, float]:
    """What stands under `a` → the mean of the values."""
    return {str(a): float(value) for a, value in rows.groupby("a")["value"].mean().items()}
