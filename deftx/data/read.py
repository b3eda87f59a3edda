"""Read text and labelled items from users' files."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from deftx.data.cells import (
    LINE_END,
    NotTextError,
    as_text,
    cell,
    check_class,
    check_id,
    nearly,
    quoted,
)
from deftx.data.rows import rows
from deftx.stages.data.settings import Layout
from deftx.store.errors import DataError
from deftx.store.items import Item
from deftx.tasks.tagging.rows import read_sentences

log = logging.getLogger(__name__)


def read_items(
    path: Path,
    layout: Layout,
    limit: int | None = None,
    *,
    classes: Mapping[str, Sequence[str]] | None = None,
    whole: bool = False,
) -> list[Item]:
    """The items of a file, as dictionaries of strings: `id` and `text`, and where the layout names
    such columns `text_pair` and `label` (a class of the task); or, where it names a column of words
    or the file has a word in each line, sentences as `read_sentences` returns them.

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
    if layout.words_and_tags(path.name)[0] is not None:
        return read_sentences(path, layout, limit, classes or {})
    columns = {role: name for role, name in layout.columns if name}
    labelled, whole = "label" in columns, whole or "text_pair" in columns
    items: list[Item] = []
    dropped: Counter[str] = Counter()
    places: dict[str, str] = {}
    for number, row in enumerate(islice(rows(path, layout), limit)):
        where = f"{path}, {row.place}"
        item: Item = {"id": str(number)}
        try:
            item |= {
                role: as_text(where, name, cell(where, row, role, name))
                for role, name in columns.items()
            }
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
            check_id(where, item["id"], places.setdefault(item["id"], row.place), row.place)
        items += [item] if labelled or whole else _lines(item)
    left_out = ", ".join(f"{count} {kind}" for kind, count in dropped.items())
    if not items:
        raise DataError(f"{path}: no items: " + (left_out or "the file is empty"))
    if dropped:
        log.warning("%s: %d rows are left out: %s", path, dropped.total(), left_out)
    return items


def _class(
    where: str, found: str, layout: Layout, classes: Mapping[str, Sequence[str]]
) -> str | None:
    """The class that a label means; None for one that is to be left out."""
    label: str | None = found
    if layout.labels is not None:
        if found not in layout.labels:
            known = f"`labels` does not map it; it maps {quoted(layout.labels)}"
            raise DataError(f"{where}: the label {found!r}: {known}{nearly(found, layout.labels)}")
        label = layout.labels[found]
    if label is not None:
        check_class(where, "label", label, classes)
    return label


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
