"""Numbers of which the bounds are known."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from deftx.store.errors import InputError


@dataclass(frozen=True)
class Range:
    """A number that is not negative, and that lies between `low` and `high`, both included; `high`
    may be infinite."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise InputError(f"a range from {self.low} to {self.high}")

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.high + other.high)

    def __mul__(self, other: "Range | float") -> "Range":
        by = other if isinstance(other, Range) else exactly(other)
        return Range(_times(self.low, by.low), _times(self.high, by.high))

    def __truediv__(self, other: "Range | float") -> "Range":
        by = other if isinstance(other, Range) else exactly(other)
        return Range(self.low / by.high, self.high / by.low)

    def map(self, function: Callable[[float], float]) -> "Range":
        """Both bounds through a function that never falls."""
        return Range(function(self.low), function(self.high))

    def shown(self, write: Callable[[float], str]) -> str:
        """As text: `12 h`, `12 h to 3 d`, `12 h or more`; one number where both read the same."""
        low = write(self.low)
        if math.isinf(self.high):
            return f"{low} or more"
        high = write(self.high)
        return low if low == high else f"{low} to {high}"


def exactly(value: float) -> Range:
    """A number that is known."""
    return Range(value, value)


NOTHING = exactly(0)


def total(parts: Iterable[Range]) -> Range:
    """The sum; 0 of nothing."""
    return sum(parts, NOTHING)


def _times(a: float, b: float) -> float:
    return 0.0 if 0 in (a, b) else a * b
