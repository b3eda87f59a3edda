"""CSV files of results, written and read back."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from deftx.store.artefact import write_text
from deftx.store.errors import ArtefactError

DIAGNOSTICS: dict[str, type] = {
    **dict.fromkeys(("system", "task", "seed", "measure", "a", "b", "layer", "part"), str),
    "value": float,
}
"""The columns of a file of the stage `diagnostics`."""


def write_csv(path: Path, frame: pd.DataFrame, digits: str = "%.6f") -> None:
    """Write a frame atomically; `digits` formats its fractions, so that equal results have equal
    bytes."""
    write_text(path, frame.to_csv(index=False, float_format=digits, lineterminator="\n"))


def read_csv(path: Path, **columns: type) -> pd.DataFrame:
    """These columns of a CSV file, each of its type; an empty fraction is NaN, and no text is.

    Raises ArtefactError if the file or a column is missing, or a value has another type.
    """
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file")
    fractions = {name: [""] for name, kind in columns.items() if kind is float}
    try:
        frame = pd.read_csv(path, dtype=columns, keep_default_na=False, na_values=fractions)
    except ValueError as error:
        raise ArtefactError(f"{path}: expected CSV of {', '.join(columns)}: {error}") from None
    if missing := [name for name in columns if name not in frame]:
        found = ", ".join(map(str, frame.columns))
        raise ArtefactError(f"{path}: no column {missing[0]}, found {found}")
    return frame[list(columns)]


def load_diagnostics(paths: Iterable[Path]) -> pd.DataFrame:
    """The rows of files of the stage `diagnostics` that have a value, see DIAGNOSTICS.

    Raises ArtefactError as `read_csv`.
    """
    empty = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in DIAGNOSTICS.items()})
    frames = [read_csv(path, **DIAGNOSTICS) for path in paths]
    filled = [frame for frame in frames if len(frame)] or [empty]
    return pd.concat(filled, ignore_index=True).dropna(subset="value")
