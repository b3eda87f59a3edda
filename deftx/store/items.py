"""Text and labelled items as parquet artefacts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deftx.store.artefact import METADATA_KEY, atomic, canonical, verify, write_manifest
from deftx.store.errors import ArtefactError

Item = dict[str, Any]


def write_items(path: Path, items: Sequence[Item], **provenance: Any) -> None:
    """Write items as parquet (all columns text), provenance in the schema, and the manifest."""
    names = list(items[0])
    schema = pa.schema(
        [(name, pa.string()) for name in names],
        metadata={METADATA_KEY: canonical(provenance)},
    )
    columns = {name: [item[name] for item in items] for name in names}
    with atomic(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary)
    write_manifest(path, items=len(items))


def load_items(path: Path | str) -> list[Item]:
    """Items of a parquet artefact. Raises ArtefactError if it is missing or corrupt."""
    verify(path)
    return pq.read_table(path).to_pylist()


def load_labelled(path: Path | str, classes: Sequence[str]) -> list[Item]:
    """Items with `label` as the number of its class. Raises ArtefactError if there is no label, or
    one that is not among `classes`."""
    items = load_items(path)
    number = {name: i for i, name in enumerate(classes)}
    for item in items:
        if item.get("label") not in number:
            raise unknown_label(path, item["id"], item.get("label"), classes)
        item["label"] = number[item["label"]]
    return items


def unknown_label(
    path: Path | str, item: str, label: str | None, classes: Sequence[str]
) -> ArtefactError:
    """The error about an item's label that is none of a task's classes."""
    return ArtefactError(
        f"{path}: item {item} has the label {label!r}; the task's classes are {', '.join(classes)}"
    )


def load_text(path: Path | str) -> list[str]:
    """The lines of a parquet artefact of unlabelled text."""
    return [item["text"] for item in load_items(path)]
