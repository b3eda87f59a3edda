"""Reading text and labelled items from users' files."""

import csv
import gzip
import json
import lzma
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from deftx.stages.data.settings import Columns, Format
from deftx.store.errors import DataError
from deftx.store.items import Item

FORMATS = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")


def read_items(
    path: Path,
    columns: Columns,
    labels: Mapping[str, str] | None,
    quoting: bool = True,
    *,
    header: bool = True,
    kind: Format | None = None,
    limit: int | None = None,
) -> list[Item]:
    """Items of a file: `text`, perhaps `text_pair`, `label` (a class name) and `id` (a string).

    Every cell is read as text: no number and no missing value is guessed. Blank texts of labelled
    items are kept (they count in published scores). Of unlabelled text each line of a cell is an
    item, so a paragraph of an article is one, and blank lines are dropped.

    Args:
        header: whether csv and tsv have one; else their columns are 0, 1, …
        kind: the format, if not by the file's name.
        limit: how many rows are read at most, from the top.

    Raises DataError if the file is missing, of an unknown format, empty, not UTF-8, lacks a column,
    or holds a label that the map does not know.
    """
    suffix = f".{kind}" if kind else data_suffix(path)
    if suffix == ".txt":
        rows = [{columns.text: line} for line in _lines(path)[:limit]]
    else:
        rows = _table(path, suffix, quoting, header, limit)
    _check_columns(path, rows, columns)
    items = []
    for number, row in enumerate(rows):
        item = {"id": row[columns.id] if columns.id else str(number), "text": row[columns.text]}
        if columns.text_pair:
            item["text_pair"] = row[columns.text_pair]
        if columns.label:
            item["label"] = _label(path, number, row[columns.label], labels)
        items.append(item)
    if not columns.label:
        items = [part for item in items for part in _parts(item)]
    if not items:
        raise DataError(f"{path}: no items: the file is empty")
    return items


def _parts(item: Item) -> list[Item]:
    """An item for each line of the text that is not blank; several are numbered in the id."""
    lines = item["text"].splitlines()
    names = [item["id"] if len(lines) == 1 else f"{item['id']}.{n}" for n in range(len(lines))]
    return [
        {**item, "id": name, "text": line.strip()}
        for name, line in zip(names, lines, strict=True)
        if line.strip()
    ]


def data_suffix(path: Path) -> str:
    """The format of a file by its name, without `.gz` or `.xz`. Raises DataError if unknown."""
    name = path.name.removesuffix(".xz").removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix not in FORMATS:
        raise DataError(f"{path}: unknown format {suffix!r}: expected one of {', '.join(FORMATS)}")
    return suffix


def _open(path: Path) -> TextIO:
    """The file as UTF-8 text, decompressed by its name; a byte-order mark is skipped."""
    opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    return opener(path, "rt", encoding="utf-8-sig", newline="")


def _lines(path: Path) -> list[str]:
    with _readable(path), _open(path) as file:
        return file.read().splitlines()


def _table(
    path: Path, suffix: str, quoting: bool, header: bool, limit: int | None
) -> list[dict[str, str]]:
    with _readable(path):
        if suffix == ".parquet":
            return _parquet(path, limit)
        with _open(path) as file:
            if suffix == ".jsonl":
                rows = islice((json.loads(line) for line in file if line.strip()), limit)
                return [{column: _text(value) for column, value in row.items()} for row in rows]
            table = pd.read_csv(
                file,
                sep="\t" if suffix == ".tsv" else ",",
                header=0 if header else None,
                nrows=limit,
                dtype=str,
                keep_default_na=False,
                na_filter=False,
                quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
            )
            return _records(table)


def _parquet(path: Path, limit: int | None) -> list[dict[str, str]]:
    if limit is None:
        return _records(pd.read_parquet(path))
    rows: list[dict[str, str]] = []
    for batch in pq.ParquetFile(path).iter_batches(batch_size=min(limit, 10_000)):
        rows += _records(batch.to_pandas())
        if len(rows) >= limit:
            break
    return rows[:limit]


def _records(frame: pd.DataFrame) -> list[dict[str, str]]:
    return [{str(k): _text(v) for k, v in row.items()} for row in frame.to_dict("records")]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


class _readable:  # noqa: N801
    """Turns what reading a file can raise into a DataError that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        if not self._path.is_file():
            raise DataError(f"{self._path}: no such file")

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, UnicodeDecodeError):
            raise DataError(
                f"{self._path}: not UTF-8: byte {error.object[error.start]:#04x} at position "
                f"{error.start} of what was read"
            ) from None
        if isinstance(error, pd.errors.EmptyDataError):
            raise DataError(f"{self._path}: no items: the file is empty") from None
        if isinstance(error, (ValueError, OSError, EOFError, lzma.LZMAError, pa.ArrowException)):
            raise DataError(f"{self._path}: cannot be read: {error}") from None


def _check_columns(path: Path, rows: Sequence[Mapping[str, str]], columns: Columns) -> None:
    if not rows:
        raise DataError(f"{path}: no items: the file is empty")
    for role, column in columns.model_dump().items():
        missing = next((n for n, row in enumerate(rows) if column and column not in row), None)
        if missing is not None:
            raise DataError(
                f"{path}: no column {column!r} (columns.{role}) in item {missing}; "
                f"it has {', '.join(map(repr, rows[missing]))}"
            )


def _label(path: Path, number: int, raw: str, labels: Mapping[str, str] | None) -> str:
    if labels is None:
        return raw
    if raw not in labels:
        raise DataError(
            f"{path}: item {number} has the label {raw!r}, which `labels` does not map; "
            f"it maps {', '.join(map(repr, labels))}"
        )
    return labels[raw]
