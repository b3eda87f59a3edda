"""How many components of a matrix stand out from noise, told by its spectrum alone. Free of torch.

The model is a matrix of low rank plus independent noise of one standard deviation σ. Most singular
values are those of noise then, and their median tells σ, which nobody has to choose.

Sources: Gavish & Donoho 2014, "The optimal hard threshold for singular values is 4/√3", unknown
noise level; Marchenko & Pastur 1967 for the singular values of noise.
"""

from collections.abc import Callable, Sequence
from functools import cache
from math import cos, pi, sin, sqrt

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq

from deftx.stages.denoise.settings import Automatic


def signal_rank(singular_values: Sequence[float], rows: int, columns: int, rule: Automatic) -> int:
    """How many of the singular values (descending) stand out, of a matrix with so many rows and
    columns that are not zero.

    Design choices: a zero matrix has none. Where the median is zero there is no noise, and what
    comes out is the rank; what rounding makes of a zero counts as zero. One row or one column has
    nothing to compare with, and is kept.
    """
    short, long = sorted((rows, columns))
    values = np.asarray(singular_values[:short], dtype=np.float64)  # all others are zero
    if not values.any():
        return 0
    # The values are roots of eigenvalues, and an error of ε in these is one of √ε.
    rounding = values[0] * sqrt(long * np.finfo(np.float64).eps)
    median = float(np.median(values))
    bound = median_factor(short / long, rule) * median
    return int((values > (rounding if short == 1 or median <= rounding else bound)).sum())


@cache
def median_factor(beta: float, rule: Automatic) -> float:
    """The smallest singular value that is kept, in units of the median one, of matrices whose
    sides have the ratio β = short / long ≤ 1. For `optimal-threshold` that is Gavish & Donoho's
    ω(β) = λ*(β) / √μ_β, not by their polynomial but by quadrature."""
    return BOUNDS[rule](beta) / sqrt(noise_median(beta))


def optimal_threshold(beta: float) -> float:
    """λ*(β) of Gavish & Donoho, in units of σ·√long: with a smaller singular value a component is
    recovered so badly that the squared error is less without it."""
    return sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + sqrt(beta * beta + 14 * beta + 1)))


def noise_edge(beta: float) -> float:
    """1 + √β, in units of σ·√long, or σ·(√rows + √columns): where the singular values of noise end
    in the limit of large matrices."""
    return 1 + sqrt(beta)


BOUNDS: dict[Automatic, Callable[[float], float]] = {
    "optimal-threshold": optimal_threshold,
    "noise-edge": noise_edge,
}


def noise_median(beta: float) -> float:
    """μ_β, the median of the Marchenko-Pastur distribution for 0 < β ≤ 1: that of the squared
    singular values of noise, in units of σ²·long."""

    # Its density has square roots at both ends; in this variable it is smooth.
    def place(angle: float) -> float:
        return 1 + beta - 2 * sqrt(beta) * cos(angle)

    def below(angle: float) -> float:
        return quad(lambda x: 2 * sin(x) ** 2 / (pi * place(x)), 0, angle)[0]

    return place(brentq(lambda angle: below(angle) - 0.5, 0, pi))
