"""Text, labelled items and words as parquet artefacts."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import pyarrow as pa
import pyarrow.parquet as pq

from deftx.store.artefact import METADATA_KEY, atomic, canonical, verify, write_manifest
from deftx.store.errors import ArtefactError, InputError

Item = dict[str, Any]

LABELS = ("label", "tags")
"""What items have that a model is to predict: the class of each, or of each of its words."""

if TYPE_CHECKING:
    from datasets import Dataset

Items = Union[Sequence[Item], "Dataset"]
"""What functions take: a list of items, or a Dataset of the library `datasets`, which need not be
installed."""


def write_items(path: Path, items: Sequence[Item], **provenance: Any) -> None:
    """Write items as parquet (columns of text, or of lists of text, as the first item has them),
    provenance in the schema, and the manifest."""
    names, texts = list(items[0]), pa.string()
    schema = pa.schema(
        [(name, pa.list_(texts) if isinstance(items[0][name], list) else texts) for name in names],
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


def load_labelled(source: Items | Path | str, classes: Sequence[str]) -> Items:
    """Labelled items with `label` as the number of its class, and each of `tags` likewise: a list
    of those of a parquet artefact, or what is given, a list or a `datasets.Dataset`, of its own
    kind (with tags, a list). Labels are names, or numbers of a `ClassLabel`, whose names count.

    Raises ArtefactError if there is no label, or one that is not among `classes`.
    """
    items = load_items(source) if isinstance(source, (Path, str)) else source
    where = source if isinstance(source, (Path, str)) else "the given items"
    names = _class_names(items)
    number = {name: i for i, name in enumerate(classes)}

    def number_of(label: Any, item: str | int) -> int:
        if names is not None and isinstance(label, int) and 0 <= label < len(names):
            label = names[label]
        if label not in number:
            raise unknown_label(where, item, label, classes)
        return number[label]

    ids = [item.get("id", at) for at, item in enumerate(items)]
    if len(items) and "words" in items[0]:
        tagged = [
            [number_of(tag, id) for tag in item.get("tags") or [None]]
            for id, item in zip(ids, items, strict=True)
        ]
        return [{**item, "tags": tags} for item, tags in zip(items, tagged, strict=True)]
    labels = [number_of(item.get("label"), id) for id, item in zip(ids, items, strict=True)]
    if isinstance(items, Sequence):
        return [{**item, "label": label} for item, label in zip(items, labels, strict=True)]
    from datasets import ClassLabel  # here, since only who gives a Dataset need have the library

    numbered = items.remove_columns("label").add_column("label", labels)
    return numbered.cast_column("label", ClassLabel(names=list(classes)))


def class_names(items: Sequence[Item]) -> list[str]:
    """The names of all classes that labels of items are of, sorted; empty for unlabelled items."""
    labels = (item[name] for item in items for name in LABELS if name in item)
    return sorted({n for label in labels for n in ([label] if isinstance(label, str) else label)})


def unknown_label(
    path: Path | str, item: str | int, label: Any, classes: Sequence[str]
) -> ArtefactError:
    """The error about an item's label that is none of a task's classes."""
    return ArtefactError(
        f"{path}: item {item} has the label {label!r}; the task's classes are "
        f"{', '.join(map(repr, classes))}"
    )


def texts_of(item: Item) -> list[str]:
    """The texts of an item: `text` and perhaps `text_pair`, or its `words` with blanks between."""
    if "words" in item:
        return [" ".join(item["words"])]
    return [item[name] for name in ("text", "text_pair") if name in item]


def load_text(path: Path | str) -> list[str]:
    """The lines of a parquet artefact of unlabelled text."""
    return [item["text"] for item in load_items(path)]


def as_items(items: Items, classes: Sequence[str] | None = None) -> list[Item]:
    """The rows of a list or a `datasets.Dataset` as a list. Raises InputError if a `ClassLabel`
    numbers other names than `classes`."""
    names = _class_names(items)
    if classes is not None and names is not None and names != list(classes):
        raise InputError(
            f"the labels are numbers of {names}, the classes of the model are {list(classes)}: "
            "give the items to deftx.load_labelled first"
        )
    return list(items)


def _class_names(items: Items) -> list[str] | None:
    """The class names that the labels of a Dataset are numbers of, if it has them."""
    features = getattr(items, "features", {})
    label = features.get("label") or getattr(features.get("tags"), "feature", None)
    return getattr(label, "names", None)
