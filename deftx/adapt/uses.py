"""Labelled items of a language are used once: to choose the strength of the language vector, or to
score the model."""

import json
from pathlib import Path
from typing import Literal

from deftx.adapt.filled import Labelled
from deftx.adapt.project import SCORE, STRENGTH
from deftx.store.errors import DataError

RECORDS = {"choose": STRENGTH, "score": SCORE}
"""Use → the file in the model's folder that records, as `marks`, the items that were used so."""


def check_apart(
    labelled: Labelled, path: Path, folder: Path, use: Literal["choose", "score"]
) -> None:
    """Raise DataError if items that are now to be used in one way were used in the other."""
    other = "score" if use == "choose" else "choose"
    record = folder / RECORDS[other]
    if not record.is_file():
        return
    try:
        used = json.loads(record.read_text(encoding="utf-8"))["marks"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{record}: damaged; remove it and make it again") from None
    if both := len({*labelled.marks} & {*used}):
        then = {
            "choose": "the strength of the language vector was chosen with them",
            "score": "the model was scored with them",
        }
        raise DataError(
            f"{path}: {both} of its {len(labelled.items)} items were used before: {then[other]} "
            f"({record}). Items that choose cannot score, because the choice fits them. Take "
            "others for one of the two"
        )
