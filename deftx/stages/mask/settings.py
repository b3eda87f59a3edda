"""How the entries that train are chosen: budgets, shares, scores."""

import re
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from deftx.stages.sparse.settings import KeepLower
from deftx.store.strict import Strict


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None
    return value


def _budget(value: int | float | str) -> int | float | str:
    if isinstance(value, int):
        if value < 1:
            raise ValueError(f"K must be at least 1, got {value}")
        return value
    try:
        share = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{value!r} is neither a number nor a ratio such as 1/20") from None
    if not 0 < share <= 1:
        raise ValueError(f"a share or ratio must be above 0 and at most 1, got {value}")
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]
Budget = Annotated[
    int | float | str,
    AfterValidator(_budget),
    Field(
        description="a whole number is K itself; a share (0.05) or a ratio of two whole numbers "
        "('14155776/277414656') is taken of the model's maskable entries and rounded",
    ),
]


def entries(budget: int | float | str, maskable: int) -> int:
    """K for a model with this many maskable entries."""
    if isinstance(budget, int):
        return budget
    return round(Fraction(str(budget)) * maskable)


class ObservedShares(Strict):
    """Shares counted in the mask that another method chose for the same target and seed."""

    observed: str = Field(description="the method whose mask is counted")
    groups: Annotated[list[Pattern], Field(min_length=1)] | None = Field(
        default=None, description="regular expressions; by default each tensor is its own group"
    )


FixedShares = Annotated[dict[Pattern, Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]
Shares = FixedShares | ObservedShares


class Selection(Strict):
    """How the entries that train are chosen; what the `mask` stage reads of a method."""

    score: Literal["magnitude", "random", "none"] = Field(
        default="magnitude",
        description="magnitude: of the (denoised) difference; random: drawn uniformly; none: "
        "everything that may be chosen is",
    )
    choose_from: Pattern = Field(
        default="",
        description="choose only from tensors in whose name this regular expression is found, a "
        "name as BERT would have it (docs/bases.md)",
    )
    layer_norm: bool = Field(default=False, description="choose from normalisation layers too")
    budget: Budget | None = None
    shares: Shares | None = Field(
        default=None,
        description="groups of tensors (regular expressions, likewise) and their part of K",
    )
    keep_lower: KeepLower = None
