"""Measurements of vectors, read from files, and which systems share a panel."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd

from deftx.store.errors import ArtefactError

MEASURED = ["seed", "measure", "a", "b", "layer", "part", "value"]
"""The columns of a file that the stage `diagnostics` writes."""

Panel = TypeVar("Panel", bound=pd.Series | pd.DataFrame)


def load_diagnostics(paths: Sequence[Path]) -> pd.DataFrame:
    """The measurements of {system}/{task}.csv as means over seeds, with the columns system, task,
    measure, a, b, layer, part and value.

    Raises ArtefactError if a file lacks a column.
    """
    frames = []
    for path in paths:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        if missing := [name for name in MEASURED if name not in frame]:
            raise ArtefactError(f"{path}: no column {missing[0]}, expected {', '.join(MEASURED)}")
        frames.append(frame.assign(system=path.parent.name, task=path.stem))
    keys = ["system", "task", "measure", "a", "b", "layer", "part"]
    if not frames:
        return pd.DataFrame(columns=[*keys, "value"])
    every = pd.concat(frames, ignore_index=True)
    every["value"] = pd.to_numeric(every["value"].replace("", "nan"))
    return every.groupby(keys, sort=False)["value"].mean().dropna().reset_index()


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
