"""Read the text that a person gives: a clear error for what is no text, and lines for what is."""

import gzip
import lzma
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

from deftx.data.cells import LINE_END
from deftx.data.rows import NO_TEXT, UNREADABLE, fault, kind_of, lines, rows, text_of
from deftx.stages.data.settings import Columns, Format, Layout
from deftx.store.errors import DataError

LONG = 5000
"""Characters. A longer line is no paragraph; it is split at the ends of its sentences. Design
choice: hardly a paragraph of a book or of Wikipedia has as many."""

SHORT = 40
"""Characters. A shorter piece of a split line stays with the next one: "Dr." ends no sentence."""

MOST = 2**30
"""Bytes of text, unpacked, that are read at most."""

SENTENCE_END = re.compile(r"([.!?…।॥۔؟።]+[\"'”’»)\]]*)\s+|([。！？]+[”’」』）]*)\s*")

PAGE = re.compile(rb"\s*<(!doctype|html|head|body|\?xml|mediawiki)\b", re.I)

TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>]*)?/?>|&(?:[a-z]{2,8}|#\d{2,6});")
"""A tag of HTML, or a character that HTML writes as a name: `<b>`, `&nbsp;`."""

CONTROL = bytes(set(range(32)) - {9, 10, 12, 13})
"""Bytes that text does not have, or hardly ever."""

AS_TEXT = 'save it as plain text: "Save as", file type "Text (.txt)", encoding UTF-8'

AS_TABLE = (
    'a spreadsheet. Open it and save the sheet as a table: "Save as", file type "CSV (UTF-8)". '
    "Then give the .csv file, and with --column the name of the column that holds the text"
)

BEGINNINGS = {
    b"%PDF": "a PDF. Copy its text into a text editor and " + AS_TEXT,
    b"\xd0\xcf\x11\xe0": "a document of an old office program. Open it there and " + AS_TEXT,
    b"{\\rtf": "a document in rich text (RTF). Open it in a word processor and " + AS_TEXT,
    b"BZh": "packed by bzip2. Unpack it first: bunzip2",
    b"\x28\xb5\x2f\xfd": "packed by zstd. Unpack it first: unzstd",
    b"7z\xbc\xaf": "an archive (7z). Unpack it, and give the text file",
    b"Rar!": "an archive (rar). Unpack it, and give the text file",
    b"\x89PNG": "a picture. The text has to be typed, or read by OCR software",
    b"\xff\xd8\xff": "a picture. The text has to be typed, or read by OCR software",
}
"""First bytes of files that are no text → what they are, and what to do."""

INSIDE = {
    "xl/": AS_TABLE,
    "word/": "a Word document. Open it and " + AS_TEXT,
    "content.xml": "a document of LibreOffice. Open it and " + AS_TEXT + "; a spreadsheet as CSV",
    "META-INF/container.xml": "an e-book. Convert it to plain text, for example with Calibre",
}
"""Beginning of the name of a file inside a zip file → what it is, and what to do."""


class Text(NamedTuple):
    """The lines of a file in order, blank ones too, without their ends; and facts about the file:
    `file`, `format`, `bytes` (unpacked, of a text), `column` (of a table), `rows_without_text`,
    `long_lines` (longer than LONG), `longest_line` in characters, `pieces` (lines that long lines
    became; 0 if they were not split)."""

    lines: list[str]
    facts: dict[str, Any]


def read_text(path: Path, column: str | None = None, *, split: bool = True) -> Text:
    """Read a text: .txt, or a table (.csv, .tsv, .jsonl, .parquet) with a column of text, each also
    as .gz or .xz. A file with another ending is read as .txt.

    A cell with line breaks is several lines. A line of more than LONG characters is split at the
    ends of its sentences, or else at white space, unless `split` is false: it would be one item,
    of which training sees little and validation nothing. No letter is lost by it. Design choice.

    Raises DataError with file and line, and what to do, if it is no text: a folder, a document, a
    spreadsheet, a PDF, a web page, another encoding than UTF-8, an empty file, blank lines only,
    a table without such a column; or if it is larger than MOST.
    """
    kind = _format(path)
    size = 0
    if kind != "parquet":
        size = _check(path, kind)
    if kind == "txt":
        if column is not None:
            raise DataError(f"{path}: a text without columns, but --column {column!r} was given")
        layout = Layout(format="txt")
    else:
        column = _column(path, column)
        layout = layout_of(path, Columns(text=column))
    dropped: Counter[str] = Counter()
    found = list(_lines(path, layout, dropped))
    if kind == "txt":
        _check_markup(path, found)
    long = [line for line in found if len(line) > LONG]
    longest = max(map(len, found), default=0)
    pieces = 0
    if split and long:
        parts = [split_line(line) if len(line) > LONG else [line] for line in found]
        pieces = sum(len(part) for part, line in zip(parts, found, strict=True) if len(line) > LONG)
        found = [piece for part in parts for piece in part]
    if not any(line.strip() for line in found):
        what = "every line is blank" if found else "there is no row with text"
        raise DataError(f"{path}: {what}: expected sentences, one or several in a line")
    facts = {
        "file": path.name,
        "format": kind,
        "bytes": size or sum(len(line.encode()) + 1 for line in found),
        "column": column,
        "rows_without_text": dict(dropped),
        "long_lines": len(long),
        "longest_line": longest,
        "pieces": pieces,
    }
    return Text(found, facts)


def layout_of(path: Path, columns: Columns) -> Layout:
    """How a person's file is read. The first line of a .csv shows what separates its columns, which
    is ; where spreadsheet programs take the comma for decimals."""
    kind, delimiter = _known_format(path), None
    if kind == "csv" and path.is_file() and "," not in (head := next(lines(path), "")):
        delimiter = next((mark for mark in (";", "\t") if mark in head), None)
    return Layout(columns=columns, format=kind, delimiter=delimiter)  # type: ignore[arg-type]


def split_line(line: str, longest: int = LONG, shortest: int = SHORT) -> list[str]:
    """The pieces of a line: cut behind a sentence that ends, so that each has at least `shortest`
    characters; where no sentence ends within `longest` characters, at white space, and in a word
    only if that is as long. White space at the cuts goes, and no other character."""
    pieces: list[str] = []
    waiting = ""
    ends = SENTENCE_END.sub(lambda end: f"{end[1] or end[2]}\n", line)
    for sentence in ends.split("\n"):
        waiting = f"{waiting} {sentence.strip()}".strip()
        if len(waiting) >= shortest:
            pieces.append(waiting)
            waiting = ""
    if waiting:
        pieces.append(waiting)
    some = longest - 1
    at_space = re.compile(rf"\S.{{0,{some}}}(?=\s|$)|\S.{{0,{some}}}", re.S)
    return [
        part.strip()
        for piece in pieces
        for part in ([piece] if len(piece) <= longest else at_space.findall(piece))
    ]


def _known_format(path: Path) -> Format | None:
    """The format that a file's name shows, also in capital letters."""
    suffix = Path(path.name.removesuffix(".xz").removesuffix(".gz")).suffix[1:].lower()
    return suffix if suffix in get_args(Format) else None  # type: ignore[return-value]


def _format(path: Path) -> Format:
    """The format of a file by its name. Raises DataError if it is no file, or no text by its first
    bytes."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        texts = [p.name for p in sorted(path.glob("*.txt"))]
        hint = f", for example {path / texts[0]}" if texts else ""
        joined = f". Several files become one: cat {path}/*.txt > text.txt" if texts[1:] else ""
        raise DataError(f"{path}: a folder: expected a file with text{hint}{joined}")
    if not path.is_file():
        raise DataError(f"{path}: a device or pipe: expected a file with text")
    kind = _known_format(path) or "txt"
    with open(path, "rb") as file:
        first = file.read(4096)
    if not first:
        raise DataError(f"{path}: the file is empty")
    _check_beginning(path, first)
    for magic, name in ((b"\x1f\x8b", ".gz"), (b"\xfd7zXZ", ".xz"), (b"PAR1", ".parquet")):
        if first.startswith(magic) and path.suffix != name:
            raise DataError(f"{path}: this is a {name} file: give its name that ending")
    return kind


def _check_beginning(path: Path, first: bytes) -> None:
    """Raise DataError if a file begins as something that is no text."""
    for magic, what in BEGINNINGS.items():
        if first.startswith(magic):
            raise DataError(f"{path}: {what}")
    if first.startswith(b"PK\x03\x04"):
        raise DataError(f"{path}: {_zipped(path)}")


def _zipped(path: Path) -> str:
    """What a zip file is, and what to do."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        names = []
    for beginning, what in INSIDE.items():
        if any(name.startswith(beginning) for name in names):
            return what
    if path.suffix.lower() in (".xlsx", ".xlsm"):
        return AS_TABLE
    return "a zip archive. Unpack it, and give the text file that is in it"


def _check(path: Path, kind: Format) -> int:
    """The number of bytes of a text, unpacked. Raises DataError if it is too large, cannot be
    unpacked, is a web page, or not UTF-8."""
    openers: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}
    try:
        with openers.get(path.suffix, open)(path, "rb") as file:
            data: bytes = file.read(MOST + 1)
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be unpacked or read: {error}") from None
    if len(data) > MOST:
        raise DataError(
            f"{path}: more than {MOST / 2**30:.0f} GiB of text. Take a part of it: "
            "head -n 1000000 TEXT > part.txt"
        )
    if not data:
        raise DataError(f"{path}: the file is empty")
    _check_beginning(path, data[:4096])
    _check_encoding(path, data)
    if kind == "txt" and PAGE.match(data.removeprefix(b"\xef\xbb\xbf")[:4096]):
        raise DataError(
            f"{path}, line 1: a web page or XML, not text: it begins with "
            f"{data[:40].decode(errors='replace').strip()!r}. Open it in a browser, copy the text "
            "into a text editor, and " + AS_TEXT
        )
    return len(data)


def _check_markup(path: Path, lines: list[str]) -> None:
    """Raise DataError if most lines that are not blank hold a tag of HTML."""
    written = [line for line in lines if line.strip()]
    tagged = [line for line in written if "<" in line and TAG.search(line)]
    if len(tagged) > len(written) / 2:
        raise DataError(
            f"{path}: part of a web page: {len(tagged):,} of {len(written):,} lines hold tags such "
            f"as {TAG.findall(tagged[0])[0][:30]!r}. Open it in a browser, copy the text into a "
            "text editor, and " + AS_TEXT
        )


def _check_encoding(path: Path, data: bytes) -> None:
    """Raise DataError, with line and byte, if text is not UTF-8."""
    some = data[:4096]
    boms = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32"}
    boms |= {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
    for bom, name in boms.items():
        if data.startswith(bom):
            raise _other_encoding(path, name, f"line 1: the first bytes are {bom.hex(' ')}")
    for zeros, name in ((some[1::2], "UTF-16LE"), (some[::2], "UTF-16BE")):
        if zeros.count(0) > len(some) / 8:
            raise _other_encoding(path, name, "line 1: every second byte is zero")
    if len(some.translate(None, CONTROL)) < 0.95 * len(some):
        raise DataError(
            f"{path}, line 1: data of some program, not text: it has control characters"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        start = data.rfind(b"\n", 0, error.start) + 1
        sample = data[max(start, error.start - 30) : error.start + 30].split(b"\n")
        read = sample[0].decode("cp1252", errors="replace")
        place = (
            f"line {line}: the byte 0x{data[error.start]:02x}, number {error.start - start + 1} of "
            f"the line, is not UTF-8. As Windows-1252 (Latin-1) it would be: {read!r}"
        )
        raise _other_encoding(path, "WINDOWS-1252", place) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}, line {line}: {fault(chr(0))}: no text, or a damaged file")


def _other_encoding(path: Path, name: str, place: str) -> DataError:
    return DataError(
        f"{path}, {place}. Expected UTF-8. Save it again with the encoding UTF-8, or, if it is "
        f"{name}: iconv -f {name} -t UTF-8 {path.name} > {path.stem}-utf8.txt"
    )


def _column(path: Path, wanted: str | None) -> str:
    """The column of a table that holds the text: the one that is named, else `text`, else the only
    one. Raises DataError if there is none."""
    first = next(rows(path, layout_of(path, Columns(text=wanted or "text"))), None)
    if first is None:
        raise DataError(f"{path}: a table without rows")
    names = list(first.cells)
    if wanted is None and len(names) == 1:
        return names[0]
    if (column := wanted or "text") in names:
        return column
    found = ", ".join(map(repr, names))
    raise DataError(
        f"{path}: no column {column!r}; its columns are {found}. Name the one that holds the text: "
        "--column NAME"
    )


def _lines(path: Path, layout: Layout, dropped: Counter[str]) -> Iterator[str]:
    """The lines of a file. Cells that are no text are counted by what they are."""
    for row in rows(path, layout):
        cell = row.cells.get(layout.columns.text)
        text = text_of(cell)
        if text is None:
            dropped[kind_of(cell)] += 1
            continue
        if bad := NO_TEXT.search(text):
            raise DataError(f"{path}, {row.place}: {fault(bad[0])}")
        yield from LINE_END.split(text)
