"""Read text and labelled items from users' files."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from deftx.data.rows import NO_TEXT, Row, fault, kind_of, rows, text_of
from deftx.stages.data.settings import Layout
from deftx.store.errors import DataError
from deftx.store.items import Item

log = logging.getLogger(__name__)

LINE_END = re.compile("\r\n|\r|\n")


def read_items(
    path: Path,
    layout: Layout,
    limit: int | None = None,
    *,
    classes: Mapping[str, Sequence[str]] | None = None,
    whole: bool = False,
) -> list[Item]:
    """The items of a file, as dictionaries of strings: `id` and `text`, and where the layout names
    such columns `text_pair` and `label` (a class of the task).

    Only the first `limit` rows are read, or all. Every cell is read as text; numbers keep their
    digits. Labelled items may have a blank text: published scores count them. In unlabelled text
    each line of a cell becomes an item, and blank lines are dropped, so an article gives one item
    per paragraph; a row with a cell that is no text (null, a list) is dropped and counted in the
    log. With `whole`, and where there are pairs, each unlabelled row is one item, blank or not.

    `classes` maps tasks to their classes: labels must be among those of each.

    Raises DataError, with file and row, as `rows` does, and if there is no item, a column is
    missing, a cell is no text, a label is not in `layout.labels` or in `classes`, or an id of
    labelled items occurs twice or holds a line break.
    """
    columns = {role: name for role, name in layout.columns if name}
    labelled, whole = "label" in columns, whole or "text_pair" in columns
    items: list[Item] = []
    dropped: Counter[str] = Counter()
    places: dict[str, str] = {}
    for number, row in enumerate(islice(rows(path, layout), limit)):
        where = f"{path}, {row.place}"
        item: Item = {"id": str(number)}
        try:
            item |= {role: _cell(where, row, role, name) for role, name in columns.items()}
        except NotTextError as error:
            if labelled or whole:
                raise
            dropped[error.kind] += 1
            continue
        if labelled:
            label = _class(where, item["label"], layout, classes or {})
            if label is None:
                dropped[f"labelled {item['label']!r}"] += 1
                continue
            item["label"] = label
            _check_id(where, item["id"], places.setdefault(item["id"], row.place), row.place)
        items += [item] if labelled or whole else _lines(item)
    left_out = ", ".join(f"{count} {kind}" for kind, count in dropped.items())
    if not items:
        raise DataError(f"{path}: no items: " + (left_out or "the file is empty"))
    if dropped:
        log.warning("%s: %d rows are left out: %s", path, dropped.total(), left_out)
    return items


class NotTextError(DataError):
    """A cell is neither text nor a number; `kind` says what it is."""

    def __init__(self, where: str, column: str, kind: str) -> None:
        super().__init__(f"{where}, column {column!r}: {kind}, expected text")
        self.kind = kind


def _cell(where: str, row: Row, role: str, column: str) -> str:
    """The text of a cell."""
    if column not in row.cells:
        found = ", ".join(map(repr, row.cells))
        raise DataError(f"{where}: no column {column!r} (columns.{role}); its columns are {found}")
    text = text_of(row.cells[column])
    if text is None:
        raise NotTextError(where, column, kind_of(row.cells[column]))
    if bad := NO_TEXT.search(text):
        raise DataError(f"{where}, column {column!r}: {fault(bad[0])}")
    return text


def _class(
    where: str, found: str, layout: Layout, classes: Mapping[str, Sequence[str]]
) -> str | None:
    """The class that a label means; None for one that is to be left out."""
    label: str | None = found
    if layout.labels is not None:
        if found not in layout.labels:
            known = f"`labels` does not map it; it maps {_quoted(layout.labels)}"
            raise DataError(f"{where}: the label {found!r}: {known}{_nearly(found, layout.labels)}")
        label = layout.labels[found]
    for task, names in classes.items():
        if label is not None and label not in names:
            known = f"none of the classes of task {task}: {_quoted(names)}"
            raise DataError(f"{where}: the label {label!r}: {known}{_nearly(label, names)}")
    return label


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _nearly(label: str, known: Iterable[str]) -> str:
    """A hint if the label differs from a known one in nothing but case and spaces."""
    same = [name for name in known if name.strip().casefold() == label.strip().casefold()]
    return f" (it differs from {same[0]!r} in case or spaces)" if same else ""


def _check_id(where: str, id: str, first: str, here: str) -> None:
    if LINE_END.search(id):
        raise DataError(f"{where}: the id {id!r} has a line break")
    if first != here:
        raise DataError(
            f"{where}: the id {id!r} is that of {first} too; "
            "without `columns.id` items are numbered"
        )


def _lines(item: Item) -> list[Item]:
    """One item per non-blank line of the text; the id of each of several lines gets its number."""
    lines = LINE_END.split(item["text"])
    if not lines[-1]:  # a line break at the end begins no line
        lines.pop()
    names = [item["id"] if len(lines) == 1 else f"{item['id']}.{n}" for n in range(len(lines))]
    return [
        {**item, "id": name, "text": line.strip()}
        for name, line in zip(names, lines, strict=True)
        if line.strip()
    ]
