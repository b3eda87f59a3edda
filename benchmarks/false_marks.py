"""The rate of false positives in tables of equal systems: the table in docs/statistics.md.

    python -m benchmarks.false_marks [--trials 400]

Six systems are equally good: items differ in difficulty, training runs differ in skill, and the
rest is chance. Our p-values are compared with p-values from counts of resamples alone.
"""

import argparse
from itertools import combinations

import numpy as np

from deftx.report.statistics import ALPHA, Resamples, holm, over_seeds, p_value

ITEMS, SYSTEMS, TIMES = 400, 6, 2_000

CASES = [
    *((10, seeds, spread) for spread in (0.1, 0.3) for seeds in (1, 2, 3, 5, 10)),
    *((1, 5, spread) for spread in (0.1, 0.3)),
    (10, 1, 0.0),
]
"""Languages, seeds, and the standard deviation of training runs in log odds."""


def by_count(gap):
    mean = over_seeds(gap)
    return (1 + (abs(mean[1:] - mean[0]) >= abs(mean[0]) - 1e-12).sum()) / len(mean)


def chances(draw, languages, seeds, spread):
    """Probability of a correct answer (systems, seeds, 1, items); no system is better."""
    difficulty = draw.normal(0.5, 1.5, ITEMS)
    skill = difficulty + draw.normal(0, spread, (SYSTEMS, seeds, 1, 1))
    return np.broadcast_to(1 / (1 + np.exp(-skill)), (SYSTEMS, seeds, languages, ITEMS))


def table(draw, resamples, languages, seeds, spread):
    """p-values of all pairs of systems for the mean over languages: ours, and by counts alone."""
    chance = chances(draw, languages, seeds, spread)
    right = (draw.random(chance.shape) < chance).mean(axis=2, dtype=np.float32)
    scores = right @ resamples.weights.T / ITEMS
    gaps = [scores[b] - scores[a] for a, b in combinations(range(SYSTEMS), 2)]
    return [p_value(gap) for gap in gaps], [by_count(gap) for gap in gaps]


def spread_of_scores(draw, languages, spread):
    """Standard deviation of the mean over languages over 1,000 training runs, in points."""
    chance = chances(draw, languages, 1_000 // SYSTEMS, spread)
    scores = (draw.random(chance.shape) < chance).mean(axis=(2, 3))
    return 100 * scores.std(axis=1, ddof=1).mean()


def main():
    parser = argparse.ArgumentParser(description="False marks in tables of equal systems.")
    parser.add_argument("--trials", type=int, default=400)
    trials = parser.parse_args().trials
    resamples = Resamples([np.arange(ITEMS)], times=TIMES)
    print("| languages | seeds | sd over seeds | p < 0.05, % | families, % | by count alone, % |")
    print("|--:|--:|--:|--:|--:|--:|")
    for case in CASES:
        draw = np.random.default_rng(0)
        found = np.array([table(draw, resamples, *case) for _ in range(trials)])
        single = 100 * (found < ALPHA).mean(axis=(0, 2))
        family = 100 * np.mean([[min(holm(p)) < ALPHA for p in both] for both in found], axis=0)
        languages, seeds, spread = case
        print(
            f"| {languages} | {seeds} | {spread_of_scores(draw, languages, spread):.1f} | "
            f"{single[0]:.0f} | {family[0]:.0f} | {single[1]:.0f} and {family[1]:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
