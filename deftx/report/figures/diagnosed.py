"""Measurements of vectors, read from files, and which systems share a panel."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd

from deftx.report.csv_files import load_diagnostics as load_rows

Panel = TypeVar("Panel", bound=pd.Series | pd.DataFrame)


def load_diagnostics(paths: Sequence[Path]) -> pd.DataFrame:
    """The measurements of {system}/{task}.csv as means over seeds, with the columns system, task,
    measure, a, b, layer, part and value.

    Raises ArtefactError as `deftx.report.csv_files.read_csv`.
    """
    keys = ["system", "task", "measure", "a", "b", "layer", "part"]
    return load_rows(paths).groupby(keys, sort=False)["value"].mean().reset_index()


def distinct(panels: Mapping[str, Panel]) -> dict[str, list[str]]:
    """The first system of each panel → the other systems with an equal panel. Empty panels are left
    out."""
    first: dict[Hashable, str] = {}
    same: dict[str, list[str]] = {}
    for system, panel in panels.items():
        if len(panel):
            labels = tuple(map(tuple, (panel.index, getattr(panel, "columns", ()))))
            known = first.setdefault((labels, panel.to_numpy().tobytes()), system)
            same.setdefault(known, []).extend([system] if known != system else [])
    return same


def sharing(what: str, *groups: Mapping[str, Sequence[str]]) -> str:
    """A note on the systems that are not shown because their panels equal another's."""
    both = dict.fromkeys(
        f"{first} = {' = '.join(others)}"
        for same in groups
        for first, others in same.items()
        if others
    )
    return f"Equal {what}, shown once: {'; '.join(both)}." if both else ""
