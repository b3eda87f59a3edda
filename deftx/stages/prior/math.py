"""A bias on the logits of the classes that gives the predictions a chosen mean."""

import numpy as np
from scipy.special import logsumexp, softmax

from deftx.store.errors import InputError

CLOSE = 1e-9
"""The largest difference of a class's mean probability from its target."""

MOST = 1_000
"""Steps. A few suffice unless nearly all probabilities are 0 or 1."""


def mean_probabilities(logits: np.ndarray) -> np.ndarray:
    """The mean over items of softmax(logits): (items, classes) → (classes,), float64."""
    mean: np.ndarray = softmax(np.asarray(logits, np.float64), axis=1).mean(axis=0)
    return mean


def uniform(classes: int) -> np.ndarray:
    """Equal shares of all classes (classes,)."""
    return np.full(classes, 1 / classes)


def prior_bias(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The bias b (classes,), Σ b = 0, float64, with which the mean over items of
    softmax(logits + b) is `target` to 1e-9.

    It minimises f(b) = mean of logsumexp(logits + b) − target · b, which is convex and, for finite
    logits, strictly so among biases of sum 0; hence b is unique. A step is the better one of two
    that decrease f from everywhere: log(target / mean), as in iterative scaling; and Newton's
    direction times log(1 + r) / r, where r is its largest component minus the smallest. (Along it
    the third derivative of f is at most r times the second. Near the end this is Newton's step.)
    Source: design choice; docs/method.md names its relatives.

    Raises InputError if there is no item, a logit is not finite, a class has probability 0 in all
    items, the target is not a distribution with a positive probability for each class, or rounding
    leaves no such bias.
    """
    logits, target = np.asarray(logits, np.float64), np.asarray(target, np.float64)
    items, classes = logits.shape
    if not items or not np.isfinite(logits).all():
        raise InputError(f"prior: {items} items, expected at least one, and finite logits only")
    if len(target) != classes or not (target > 0).all() or abs(target.sum() - 1) > CLOSE:
        raise InputError(
            f"prior: the target {target.tolist()} is not a distribution over {classes} classes in "
            "which each has a positive probability"
        )

    def loss(bias: np.ndarray) -> float:
        return float(logsumexp(logits + bias, axis=1).mean() - target @ bias)

    bias = np.zeros(classes)
    for _ in range(MOST):
        probabilities = softmax(logits + bias, axis=1)
        mean = probabilities.mean(axis=0)
        if not (mean > 0).all():
            raise InputError(f"prior: class {int(mean.argmin())} has probability 0 in all items")
        if abs(mean - target).max() < CLOSE:
            return bias - bias.mean()
        scaled = np.log(target / mean)
        # Adding a constant to all classes changes nothing; the last term takes this freedom.
        curvature = np.diag(mean) - probabilities.T @ probabilities / items + 1 / classes
        newton = np.linalg.lstsq(curvature, target - mean, rcond=None)[0]
        if (spread := np.ptp(newton)) > 0:
            newton *= np.log1p(spread) / spread
        bias = min(bias + newton, bias + scaled, key=loss)
    raise InputError(f"prior: no bias gives the mean {target.tolist()} after {MOST} steps")
