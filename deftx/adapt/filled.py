"""Read back what speakers have filled in, from sheets as spreadsheet programs save them."""

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import numpy as np

from deftx.adapt.sheet import DELIMITERS, FORMULA, NAMES, TEXTS, Sheet, hashed, words_of
from deftx.stages.clean.math import tidy, words
from deftx.store.errors import DataError
from deftx.store.items import Item

SHOWN = 10
"""Faults of a file that one message lists."""


@dataclass(frozen=True)
class Labelled:
    """Labelled items of a language.

    Attributes:
        items: with `id`, `text`, perhaps `text_pair`, and `label`, the name of its class.
        given: rows of the file, with and without a label.
        kind: that of the sheet, or `file` for a file that deftx did not write.
        origin: where the items come from, in words.
        notes: sentences about what was read in another way than it is written.
    """

    items: list[Item]
    given: int
    kind: Literal["label", "translate", "file"]
    origin: str
    notes: list[str] = field(default_factory=list)

    @property
    def texts(self) -> list[Item]:
        """What a model reads: the items without their labels."""
        return [{key: item[key] for key in ("id", *TEXTS) if key in item} for item in self.items]

    def truth(self, classes: Sequence[str]) -> np.ndarray:
        """The labels (items,) as numbers of classes."""
        return np.array([classes.index(item["label"]) for item in self.items])

    @property
    def marks(self) -> list[str]:
        """One hash for each item, equal for items with the same words."""
        return [hashed("", words_of(item)) for item in self.items]


def read_filled(path: Path, folder: Path, classes: Sequence[str]) -> Labelled:
    """The labelled items of a sheet of an adapted model, wherever it was saved, or of another file:
    as `read_sheet` reads it if its record is beside it, or if an id is that of a sheet in the
    model's folder; else as `read_labelled` does.

    Raises DataError and ArtefactError as these do, and DataError if the sheet has other classes.
    """
    beside = path.with_suffix(".json")
    for record in [beside, *(folder / f"{name}.json" for name in NAMES.values())]:
        if not record.is_file():
            continue
        sheet = Sheet.load(record)
        ids = {item["id"] for item in sheet.items}
        if record != beside and not ids & {cells.get("id") for _, cells in _cells(path, [])}:
            continue
        if {*sheet.classes} != {*classes}:
            raise DataError(
                f"{path}: its labels are {', '.join(sheet.classes)}; the model's are "
                f"{', '.join(classes)}"
            )
        return read_sheet(path, sheet)
    return read_labelled(path, classes)


def read_sheet(path: Path, sheet: Sheet) -> Labelled:
    """The filled rows of a sheet, in the order of the sheet, with the texts as they were drawn or
    translated. Cells may have been saved by Excel, LibreOffice or Google Sheets.

    Raises DataError, with a list of rows, if the file cannot be read, a column is missing, an id is
    missing, unknown or there twice, a text has changed, or a label is none of the classes.
    """
    faults = _Faults(path)
    known = {item["id"]: item for item in sheet.items}
    labels = _Labels(sheet.classes)
    places: dict[str, int] = {}
    found: dict[str, Item] = {}
    copies = 0
    for row, cells in _cells(path, ["id", *sheet.shown, *sheet.asked]):
        id, asked = cells["id"], [cells[name] for name in sheet.asked]
        if id not in known:
            expected = f"no id; expected one of {sheet.items[0]['id']} to {sheet.items[-1]['id']}"
            faults.add(row, f"the id {id!r} is not one of this sheet" if id else expected)
            continue
        if id in places:
            faults.add(row, f"the id {id!r} is that of row {places[id]} too")
            continue
        places[id] = row
        item = known[id]
        for column, key in sheet.shown.items():
            if not _same(cells[column], item[key]):
                faults.add(row, _changed(column, cells[column], item[key]))
        if not any(asked):
            continue
        if sheet.kind == "label":
            if (label := labels.of(asked[0])) is None:
                faults.add(row, labels.fault(asked[0]))
            else:
                found[id] = {**item, "label": label}
        elif not all(asked):
            faults.add(row, "only one text of the pair is translated")
        else:
            texts = {role: tidy(cell) for role, cell in zip(TEXTS, asked, strict=False)}
            copies += all(_same(texts[role], item[role]) for role in texts)
            found[id] = {**item, **texts}
    faults.check()
    notes = labels.notes
    if gone := len(known) - len(places):
        notes.append(f"Rows that are gone from the sheet and count as not filled: {gone}.")
    if copies:
        notes.append(f"Translations with the same words as their source: {copies}.")
    items = [found[id] for id in known if id in found]
    return Labelled(items, len(known), sheet.kind, sheet.origin, notes)


def read_labelled(path: Path, classes: Sequence[str]) -> Labelled:
    """The labelled rows of a person's own table: columns `text` and `label`, perhaps `text_pair`
    and `id`. Raises DataError as `read_sheet` does."""
    faults = _Faults(path)
    labels = _Labels(classes)
    first: dict[str, tuple[int, str]] = {}
    items: list[Item] = []
    again = 0
    rows = _cells(path, ["text", "label"])
    for row, cells in rows:
        texts = {role: cells[role] for role in TEXTS if role in cells}
        if not cells["label"]:
            continue
        if not texts["text"]:
            faults.add(row, "a label without a text")
        elif (label := labels.of(cells["label"])) is None:
            faults.add(row, labels.fault(cells["label"]))
        else:
            item = {"id": cells.get("id") or f"row {row}", **texts, "label": label}
            place, other = first.setdefault(words_of(item), (row, label))
            if label != other:
                faults.add(row, f"the text of row {place} with the label {label!r}, not {other!r}")
            again += place != row
            items += [item] * (place == row)
    faults.check()
    notes = labels.notes
    if again:
        notes.append(f"Rows with the text of an earlier row, which are left out: {again}.")
    return Labelled(items, len(rows), "file", path.name, notes)


class _Faults:
    """What is wrong in the rows of a file, for one message."""

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, list[str]()

    def add(self, row: int, fault: str) -> None:
        self.found.append(f"row {row}: {fault}")

    def check(self) -> None:
        """Raise DataError if there is any fault."""
        if self.found:
            more = len(self.found) - SHOWN
            lines = [*self.found[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
            raise DataError("\n  ".join([f"{self.path}: please correct:", *lines]))


class _Labels:
    """The classes that cells mean: case and spaces do not count, unless classes differ in them."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        self.exact = {tidy(name): name for name in classes}
        folded = {_folded(name): name for name in classes}
        self.folded = folded if len(folded) == len(classes) else {}
        self.respelt: list[str] = []

    def of(self, cell: str) -> str | None:
        """The class; None if there is no such class."""
        if cell in self.exact:
            return self.exact[cell]
        label = self.folded.get(_folded(cell))
        if label is not None:
            self.respelt.append(f"{cell!r} as {label!r}")
        return label

    def fault(self, cell: str) -> str:
        """The message about a cell that means no class."""
        near = get_close_matches(_folded(cell), list(self.folded), n=1)
        hint = f"; is it {self.folded[near[0]]!r}?" if near else ""
        return f"the label {cell!r} is none of {', '.join(map(repr, self.classes))}{hint}"

    @property
    def notes(self) -> list[str]:
        if not self.respelt:
            return []
        return [f"Labels in another spelling: {len(self.respelt)}, such as {self.respelt[0]}."]


def _cells(path: Path, needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table as a spreadsheet program saves it: number of the row there, and column →
    cell. Blank rows are left out; so are columns without a name."""
    text = _decoded(path)
    if text[:4].lower() == "sep=":  # a convention of Excel
        text = text.partition("\n")[2]
    heads = {each: _header(path, text, each) for each in DELIMITERS}
    delimiter = max(heads, key=lambda each: (len({*needed} & {*heads[each]}), len(heads[each])))
    header = heads[delimiter]
    if missing := [name for name in needed if name not in header]:
        joined = any({*needed} <= {*re.split("[,;\t]", name)} for name in header)
        hint = (
            "All columns are in one: import the sheet into the program as text in UTF-8, with "
            "columns separated by commas, and save it again"
            if joined
            else f"Expected a first row with the names {', '.join(needed)}, saved as CSV"
        )
        raise DataError(
            f"{path}: no column {', '.join(map(repr, missing))}; found "
            f"{', '.join(repr(name[:60]) for name in header) or 'nothing'}. {hint}"
        )
    if twice := [name for name in needed if header.count(name) > 1]:
        raise DataError(f"{path}: two columns are called {twice[0]!r}")
    rows = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 0
    try:
        for number, cells in enumerate(reader, 1):
            cells = [_unguarded(cell.strip()) for cell in cells]
            if number == 1 or not any(cells):
                continue
            if any(cells[len(header) :]):
                raise DataError(
                    f"{path}, row {number}: {len(cells)} cells, expected {len(header)}: is a text "
                    f"with {delimiter!r} not in quotes?"
                )
            filled = [*cells, *[""] * (len(header) - len(cells))]
            rows.append((number, dict(zip(header, filled, strict=False))))
    except csv.Error as error:
        raise DataError(f"{path}, after row {number}: {error}") from None
    return rows


def _header(path: Path, text: str, delimiter: str) -> list[str]:
    try:
        first = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error as error:
        raise DataError(f"{path}, row 1: {error}") from None
    return [name.strip().lower() for name in first]


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise DataError(f"{path}: a spreadsheet; save it as CSV in UTF-8 and score that file")
    try:
        utf_16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        return data.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {row}: not UTF-8. Save the sheet again as CSV in UTF-8 (Excel: "
            "“CSV UTF-8”)"
        ) from None


def _unguarded(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA) else cell


def _same(cell: str, text: str) -> bool:
    """Whether a cell has the words of a text, or without words its characters. Programs change
    quotes, dashes and spaces while people type."""
    mine, other = ("".join(words(each)) for each in (cell, text))
    return mine == other if mine or other else tidy(cell) == tidy(text)


def _changed(column: str, cell: str, text: str) -> str:
    lost = "?" in cell and cell.count("?") > text.count("?")
    hint = "; letters became “?”: save it as CSV in UTF-8" if lost else ""
    return f"{column} is {cell[:60]!r}, but this row was {text[:60]!r}{hint}"


def _folded(name: str) -> str:
    return tidy(unicodedata.normalize("NFKC", name)).casefold()
