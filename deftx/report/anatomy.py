"""Where in a model a sparse vector has its entries, and what two vectors have in common."""

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
import pandas as pd
import torch

from deftx.core.mask import Mask
from deftx.core.sparse_delta import SparseDelta
from deftx.report.interference import meet
from deftx.report.places import place

PLACES: Mapping[str, Callable[[str], str]] = {
    "layer": lambda name: place(name)[1],
    "module": lambda name: place(name)[0],
    "tensor": lambda name: name,
}
"""Kind of place → the place of a tensor, by its name."""


def anatomy(
    vector: SparseDelta, by: str, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> pd.DataFrame:
    """A row for each place: `entries`; `of`, the size of its tensors; `share`; `norm`, the root of
    the sum of squares; `largest` absolute value. `shapes` are those of the base's maskable tensors;
    without them `of` counts only tensors with entries."""
    rows = []
    for name, shape in {**(shapes or {}), **vector.mask.shapes}.items():
        values = vector.values.get(name, torch.empty(0)).double()
        largest = float(values.abs().max()) if len(values) else 0.0
        rows.append((PLACES[by](name), len(values), prod(shape), float(values @ values), largest))
    frame = pd.DataFrame(rows, columns=[by, "entries", "of", "norm", "largest"])
    each = frame.groupby(by, sort=False)
    found = each.sum().assign(largest=each["largest"].max())
    found.insert(2, "share", found["entries"] / found["of"])
    return _in_order(found.assign(norm=np.sqrt(found["norm"])).reset_index(), by)


def common(a: SparseDelta, b: SparseDelta, by: str | None = None) -> pd.DataFrame:
    """How two vectors meet, in a row for each place, or in a single row: `a`, `b`, their entries;
    `shared`; `overlap`, shared / the smaller of the two; `same_sign`, the part of the entries
    changed by both whose signs are equal; `cosine`. A ratio to 0 is NaN."""
    groups: dict[str, list[str]] = {}
    for name in sorted(a.values.keys() | b.values.keys()):
        groups.setdefault(PLACES[by](name) if by else "all", []).append(name)
    rows = []
    for where, members in groups.items():
        met = meet(_part(a, members), _part(b, members))
        same = None if met.sign_conflict is None else 1 - met.sign_conflict
        rows.append((where, *met[:4], same, met.cosine))
    columns = [by or "place", "a", "b", "shared", "overlap", "same_sign", "cosine"]
    frame = pd.DataFrame(rows, columns=columns)
    return _in_order(frame, by) if by else frame


def _part(vector: SparseDelta, names: list[str]) -> SparseDelta:
    own = [name for name in names if name in vector.values]
    index = {name: vector.mask.index[name] for name in own}
    shapes = {name: vector.mask.shapes[name] for name in own}
    return SparseDelta(Mask(index, shapes), {name: vector.values[name] for name in own})


def _in_order(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """Layers by depth, after what is outside of them; other places by name."""

    def depth(where: pd.Series) -> pd.Series:
        return where.map(lambda text: f"{int(text):09}" if text.isdigit() else f"-{text}")

    return frame.sort_values(by, key=depth, ignore_index=True)
