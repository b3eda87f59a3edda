"""Sharing a budget out over groups of tensors. Free of torch."""

import re
from collections.abc import Iterable, Mapping
from fractions import Fraction

from deftx.store.errors import InputError


def group_names(
    names: Iterable[str], patterns: Iterable[str], known_as: Mapping[str, str] | None = None
) -> dict[str, list[str]]:
    """Pattern → the names that it is the first to match, in name order; where a name is in
    `known_as`, what it is known as is matched.

    Raises InputError if a name matches no pattern, or a pattern is left without a name.
    """
    groups: dict[str, list[str]] = {pattern: [] for pattern in patterns}
    for name in sorted(names):
        known = (known_as or {}).get(name, name)
        pattern = next((p for p in groups if re.match(p, known)), None)
        if pattern is None:
            raise InputError(f"tensor {known} belongs to no group of {list(groups)}")
        groups[pattern].append(name)
    for pattern, members in groups.items():
        if not members:
            raise InputError(f"group '{pattern}' matches no tensor that is not in an earlier group")
    return groups


def largest_remainder(k: int, shares: Mapping[str, float | Fraction]) -> dict[str, int]:
    """k shared out as whole numbers that sum to exactly k; a remainder goes to the largest
    fraction lost, ties to the earlier group. Raises InputError if the shares do not sum to 1."""
    # By way of the decimal text, so that 0.02 is one fiftieth and not its binary neighbour.
    exact = {g: s if isinstance(s, Fraction) else Fraction(str(s)) for g, s in shares.items()}
    total = sum(exact.values(), Fraction())
    if abs(total - 1) > Fraction(1, 10**9):
        raise InputError(f"shares sum to {float(total)}, not to 1: {dict(shares)}")
    parts = {group: int(k * share / total) for group, share in exact.items()}
    by_loss = sorted(exact, key=lambda group: parts[group] - k * exact[group] / total)
    for group in by_loss[: k - sum(parts.values())]:
        parts[group] += 1
    return parts
