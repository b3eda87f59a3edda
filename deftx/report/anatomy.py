"""Where in a model a sparse vector has its entries, and what two vectors have in common."""

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
import pandas as pd
import torch

from deftx.core.mask import Mask
from deftx.core.sparse_delta import SparseDelta
from deftx.report.interference import meet
from deftx.report.places import depth, place

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
    return _in_order(found.assign(norm=np.sqrt(found["norm"])), by)


def common(a: SparseDelta, b: SparseDelta, by: str | None = None) -> pd.DataFrame:
    """How two vectors meet, in a row for each place, or in a single row: `a`, `b`, their entries;
    `shared`; `overlap`, shared / the smaller of the two; `same_sign`, the part of the entries
    changed by both whose signs are equal; `cosine`. A ratio to 0 is NaN."""
    groups: dict[str, list[str]] = {}
    for name in sorted(a.values.keys() | b.values.keys()):
        groups.setdefault(PLACES[by](name) if by else "all", []).append(name)
    rows = {}
    for where, members in groups.items():
        met = meet(_part(a, members), _part(b, members))
        same = None if met.sign_conflict is None else 1 - met.sign_conflict
        rows[where] = (*met[:4], same, met.cosine)
    columns = ["a", "b", "shared", "overlap", "same_sign", "cosine"]
    return _in_order(pd.DataFrame.from_dict(rows, orient="index", columns=columns), by or "place")


def _part(vector: SparseDelta, names: list[str]) -> SparseDelta:
    own = [name for name in names if name in vector.values]
    index = {name: vector.mask.index[name] for name in own}
    shapes = {name: vector.mask.shapes[name] for name in own}
    return SparseDelta(Mask(index, shapes), {name: vector.values[name] for name in own})


def _in_order(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """The places of the index as a column: layers by depth, other places by name."""
    ordered = frame.loc[sorted(frame.index, key=depth if by == "layer" else str)]
    return ordered.rename_axis(by).reset_index()
