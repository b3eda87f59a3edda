"""The cells of a row: what text, a class and an id may be."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deftx.data.rows import NO_TEXT, Row, fault, kind_of, text_of
from deftx.store.errors import DataError

LINE_END = re.compile("\r\n|\r|\n")


class NotTextError(DataError):
    """A cell is neither text nor a number; `kind` is what it is."""

    def __init__(self, where: str, column: str, kind: str) -> None:
        super().__init__(f"{where}, column {column!r}: {kind}, expected text")
        self.kind = kind


def cell(where: str, row: Row, role: str, column: str) -> Any:
    """The cell of a column. Raises DataError if there is none."""
    if column not in row.cells:
        found = ", ".join(map(repr, row.cells))
        raise DataError(f"{where}: no column {column!r} (columns.{role}); its columns are {found}")
    return row.cells[column]


def as_text(where: str, column: str, value: Any) -> str:
    """A value as text. Raises NotTextError if it is neither text nor a number, and DataError if it
    has characters that no text has."""
    text = text_of(value)
    if text is None:
        raise NotTextError(where, column, kind_of(value))
    if bad := NO_TEXT.search(text):
        raise DataError(f"{where}, column {column!r}: {fault(bad[0])}")
    return text


def check_class(where: str, what: str, found: str, classes: Mapping[str, Sequence[str]]) -> None:
    """Raise DataError if a label or tag (`what`) is not among the classes of each task."""
    for task, names in classes.items():
        if found not in names:
            known = f"none of the classes of task {task}: {quoted(names)}"
            raise DataError(f"{where}: the {what} {found!r}: {known}{nearly(found, names)}")


def quoted(names: Iterable[str]) -> str:
    """The names as messages list them."""
    return ", ".join(map(repr, names))


def nearly(label: str, known: Iterable[str]) -> str:
    """A hint if the label differs from a known one in nothing but case and spaces."""
    same = [name for name in known if name.strip().casefold() == label.strip().casefold()]
    return f" (it differs from {same[0]!r} in case or spaces)" if same else ""


def check_id(where: str, id: str, first: str, here: str) -> None:
    """Raise DataError if an id has a line break, or if its first place is not this one."""
    if LINE_END.search(id):
        raise DataError(f"{where}: the id {id!r} has a line break")
    if first != here:
        raise DataError(
            f"{where}: the id {id!r} is that of {first} too; "
            "without `columns.id` items are numbered"
        )
