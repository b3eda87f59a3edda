"""The rows of users' files, read strictly: what does not fit is an error that names its place."""

import csv
import gzip
import json
import logging
import lzma
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from deftx.stages.data.settings import Format, Layout
from deftx.store.errors import DataError, InputError

log = logging.getLogger(__name__)

csv.field_size_limit(2**31 - 1)  # an article may be one cell

NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""Characters that no text has. Bytes that are not UTF-8 are read as the surrogates from U+DC80."""

UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException, UnicodeDecodeError)


class Row(NamedTuple):
    """One row: where it is in the file, and column → cell. A cell is text in files of text, and in
    JSON and parquet a value of any type; numbers of JSON keep their digits as text."""

    place: str
    cells: dict[str, Any]


def rows(path: Path, layout: Layout) -> Iterator[Row]:
    """The rows of a file in order. Lines end at a line feed, a carriage return, or both together.

    Raises DataError, with file and line or row, if the file is not there, is damaged or not UTF-8,
    or if a row does not fit: another number of cells than the header has, a quote that is not
    closed, JSON that is no object, a column or key twice.
    """
    kind = format_of(path, layout)
    match kind:
        case "txt":
            for number, line in enumerate(lines(path), 1):
                yield Row(f"line {number}", {layout.columns.text: line.rstrip("\r\n")})
        case "jsonl":
            yield from _json(path)
        case "parquet":
            yield from _parquet(path, [name for _, name in layout.columns if name])
        case _:
            yield from _table(path, layout, layout.delimiter or ("\t" if kind == "tsv" else ","))


def format_of(path: Path, layout: Layout) -> str:
    """The format of a file. Raises DataError if it is unknown or there is no such file."""
    kind = layout.format_of(path.name)
    if kind not in get_args(Format):
        known = ", ".join(f".{name}" for name in get_args(Format))
        raise DataError(f"{path}: unknown format '.{kind}': expected one of {known}")
    if not path.is_file():
        found = "a folder or device, expected a file" if path.exists() else "no such file"
        raise DataError(f"{path}: {found}")
    return kind


def lines(path: Path, encoding: str = "utf-8-sig") -> Iterator[str]:
    """The lines of a file with their ends; a byte-order mark is left out unless the encoding is
    `utf-8`. Raises DataError, with the line, if the file is damaged or not UTF-8."""
    opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    number = 0
    try:
        with opener(path, "rt", encoding=encoding, errors="surrogateescape", newline="") as file:
            for number, line in enumerate(file, 1):
                if found := NO_TEXT.search(line):
                    raise DataError(f"{path}, line {number}: {fault(found[0])}")
                yield line
    except UNREADABLE as error:
        raise DataError(f"{path}, after line {number}: cannot be read: {error}") from None


def fault(character: str) -> str:
    """The message about a match of NO_TEXT."""
    if character == "\0":
        return "a NUL character: is it UTF-16? Expected UTF-8"
    if "\udc80" <= character <= "\udcff":
        return f"not UTF-8: byte {ord(character) - 0xDC00:#04x}"
    return f"half of a surrogate pair, U+{ord(character):04X}: expected whole characters"


def _table(path: Path, layout: Layout, delimiter: str) -> Iterator[Row]:
    """The rows of CSV or TSV. A blank line is no row, unless there is one column only."""
    quoted = layout.is_quoted(delimiter)
    physical: list[str] = []
    reader = csv.reader(
        _kept(lines(path), physical),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    columns: Sequence[str] = []
    suspicious: list[int] = []
    while True:
        number = reader.line_num + 1
        physical.clear()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{path}, line {number}: {error}; if quotes are text, set `quoting: false`"
            ) from None
        if cells is None:
            break
        cells = cells or [""] * (len(columns) == 1)
        if not cells:
            continue
        if not columns:
            columns = cells if layout.header else [str(at) for at in range(len(cells))]
            _check_once(path, columns)
            if layout.header:
                _check_delimiter(path, columns, layout, delimiter)
                continue
        if len(cells) != len(columns):
            raise DataError(
                f"{path}, line {number}: {len(cells)} cells, expected {len(columns)}: "
                f"{', '.join(map(repr, columns))}"
            )
        if quoted and _may_be_several(physical, delimiter, cells):
            suspicious.append(number)
        yield Row(f"line {number}", dict(zip(columns, cells, strict=True)))
    if suspicious:
        log.warning(
            "%s: quoted cells with a tab or line break, in %d rows, first in line %d: "
            "if quotes are text, set `quoting: false`",
            path,
            len(suspicious),
            suspicious[0],
        )


def _kept(lines: Iterable[str], kept: list[str]) -> Iterator[str]:
    """The lines, each also appended to a list."""
    for line in lines:
        kept.append(line)
        yield line


def _may_be_several(physical: list[str], delimiter: str, cells: list[str]) -> bool:
    """Whether a row may be several that a stray quote joined: in TSV, whose cells hold no tabs or
    line breaks by rule, any such row; in CSV one whose lines are whole rows each."""
    if delimiter == "\t":
        return len(physical) > 1 or any("\t" in cell for cell in cells)
    return len(physical) > 1 and all(line.count(delimiter) == len(cells) - 1 for line in physical)


def _check_delimiter(path: Path, columns: Sequence[str], layout: Layout, delimiter: str) -> None:
    """Raise DataError if all names of columns are in one because something else separates them."""
    wanted = {name for _, name in layout.columns}
    if len(columns) == 1 and columns[0] not in wanted:
        for other in ";\t,".replace(delimiter, ""):
            if other in columns[0]:
                raise DataError(
                    f"{path}, line 1: one column, {columns[0]!r}: expected {delimiter!r} between "
                    f"columns. If {other!r} separates them, set `delimiter: {other!r}`"
                )


def _check_once(path: Path, columns: Sequence[str]) -> None:
    twice = next((name for at, name in enumerate(columns) if name in columns[:at]), None)
    if twice is not None:
        raise DataError(f"{path}: two columns are called {twice!r}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at]))
        raise InputError(f"an object has the key {twice!r} twice")
    return found


def _number(text: str) -> str:
    """A number of JSON; other tools write the label 1 as 1.0."""
    return text.removesuffix(".0")


_DECODER = json.JSONDecoder(parse_int=str, parse_float=_number, object_pairs_hook=_object)


def _json(path: Path) -> Iterator[Row]:
    for number, line in enumerate(lines(path), 1):
        if not line.strip():
            continue
        try:
            cells = _DECODER.decode(line)
        except RecursionError:
            raise DataError(f"{path}, line {number}: nested too deeply to be data") from None
        except json.JSONDecodeError as error:
            at = f"{error.msg} in column {error.colno}"
            raise DataError(f"{path}, line {number}: not JSON: {at}") from None
        except InputError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        if not isinstance(cells, dict):
            raise DataError(f"{path}, line {number}: {kind_of(cells)}, expected an object")
        yield Row(f"line {number}", cells)


def _parquet(path: Path, wanted: Sequence[str]) -> Iterator[Row]:
    number = 0
    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        _check_once(path, names)
        # A column that is missing is reported with those that there are.
        columns = wanted if set(wanted) <= set(names) else None
        for batch in file.iter_batches(batch_size=1000, columns=columns):
            for cells in batch.to_pylist():
                number += 1
                yield Row(f"row {number}", cells)
    except UNREADABLE as error:
        raise DataError(f"{path}, after row {number}: cannot be read: {error}") from None


def text_of(value: Any) -> str | None:
    """A cell as text, or None if it is neither text nor a number. Parquet may store the label 1 as
    1.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        return None
    return value if isinstance(value, str) else str(value) if math.isfinite(value) else None


def kind_of(value: Any) -> str:
    """What a cell is, for messages."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = {
        str: "text",
        list: "a list",
        dict: "an object",
        bytes: "binary",
        float: "no finite number",
    }
    return kinds.get(type(value), type(value).__name__)
