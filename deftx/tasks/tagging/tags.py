"""What tags mean by their names."""

from collections.abc import Sequence
from typing import Any


def mark_entities(classes: Sequence[Any]) -> bool:
    """Whether classes are O, and B-X or I-X of types X: the tags of named entities."""
    others = [str(name) for name in classes if name != "O"]
    return len(others) == len(classes) - 1 > 0 and all(
        name[:2] in ("B-", "I-") and name[2:] for name in others
    )
