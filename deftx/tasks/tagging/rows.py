"""Sentences of words with tags, read strictly from users' files, and written back with predictions.

Formats: columns as of CoNLL-2003, CoNLL-U, IOB2 as of Universal NER, and lists of words and of tags
in the rows of JSON lines and parquet.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from deftx.data.cells import as_text, cell, check_class, check_id
from deftx.data.rows import Row, format_of, kind_of, lines, rows
from deftx.stages.data.settings import WORD_A_LINE, Layout
from deftx.store.errors import DataError, InputError
from deftx.store.items import Item
from deftx.tasks.tagging.tags import mapped, type_of

log = logging.getLogger(__name__)

DOCUMENT = "-DOCSTART-"
"""The first column of a line of CoNLL-2003 that begins a document and is no word."""

UNANNOTATED = ("", "_")
"""What stands for no tag, unless it is a class."""

OTHER_NODE = re.compile(r"([0-9]+)[-.][0-9]+")
"""The number of a range of words, 3-4, or of an empty node, 5.1: neither is a word."""

MISC = 9
"""The column of CoNLL-U for what the format has no column for."""

SENT_ID = "sent_id"


class Sentence(NamedTuple):
    """A sentence as the file has it: the place of each word, and of the sentence, in messages."""

    place: str
    id: str | None
    words: list[str]
    tags: list[str] | None
    places: list[str]


class Line(NamedTuple):
    """A line of a file with a word in each: the line with its end, how many sentences end before
    it, and its columns if it is a word, else none."""

    number: int
    text: str
    sentence: int
    columns: list[str]


def read_sentences(
    path: Path, layout: Layout, limit: int | None, classes: Mapping[str, Sequence[str]]
) -> list[Item]:
    """The sentences of a file, as dictionaries: `id`, `words` and, if the layout has a column of
    tags, `tags`, as `layout.labels` maps them. Only the first `limit` sentences are read, or all.

    Words are kept as they are. The id is that of `columns.id`: in CoNLL-U and IOB2 a comment of
    this name, by default `sent_id` if each sentence has another one, else sentences are numbered
    from 0. An I- that follows no tag of its type is legal, and counted in the log; so are words
    that `labels` leaves out.

    Raises DataError, with file and line or row, if the file is not there, is damaged or not UTF-8,
    or if something does not fit: the number of columns, the number of a word, an empty word, a
    sentence without words, lists of different lengths, a word without a tag, a tag that is none of
    the classes of a task in `classes`, an id that occurs twice.
    """
    by_line = format_of(path, layout) in WORD_A_LINE
    source = _from_lines(path, layout) if by_line else _from_rows(path, layout)
    sentences = list(islice(source, limit))
    unique = len({each.id for each in sentences} - {None}) == len(sentences)
    if by_line and not (unique or layout.columns.id) and any(each.id for each in sentences):
        log.warning("%s: %s is missing or repeated: sentences are numbered", path, SENT_ID)
    items: list[Item] = []
    known: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    stray: list[str] = []
    for number, sentence in enumerate(sentences):
        id = sentence.id if unique or layout.columns.id else None
        item: Item = {"id": str(number) if id is None else id, "words": sentence.words}
        first = known.setdefault(item["id"], sentence.place)
        check_id(f"{path}, {sentence.place}", item["id"], first, sentence.place)
        if sentence.tags is not None:
            item |= {"words": [], "tags": []}
            before = None
            for word, found, place in zip(
                sentence.words, sentence.tags, sentence.places, strict=True
            ):
                tag = _tag(f"{path}, {place}", found, layout, classes)
                if tag is None:
                    left_out[found] += 1
                    continue
                if tag.startswith("I-") and type_of(tag) != before:
                    stray.append(place)
                before = type_of(tag)
                item["words"].append(word)
                item["tags"].append(tag)
        if item["words"]:
            items.append(item)
    if not items:
        raise DataError(f"{path}: no items: the file has no sentences")
    if left_out:
        counts = ", ".join(f"{count} tagged {tag!r}" for tag, count in left_out.items())
        log.warning("%s: %d words are left out: %s", path, left_out.total(), counts)
    if stray:
        log.warning(
            "%s: %d tags I- after no tag of their type, first in %s; each begins an entity, as in "
            "conlleval",
            path,
            len(stray),
            stray[0],
        )
    return items


def _tag(
    where: str, found: str, layout: Layout, classes: Mapping[str, Sequence[str]]
) -> str | None:
    """The tag that is meant; None for a word that is to be left out."""
    tag = mapped(found, layout.labels)
    if tag is None:
        if found not in (layout.labels or {}):
            raise DataError(
                f"{where}: `labels` maps the type {type_of(found)!r} to null, which would take "
                "words out of sentences: map it to O"
            )
        return None
    if tag in UNANNOTATED and not any(tag in names for names in classes.values()):
        raise DataError(f"{where}: no tag, found {found!r}")
    check_class(where, "tag", tag, classes)
    return tag


# Rows with lists


def _from_rows(path: Path, layout: Layout) -> Iterator[Sentence]:
    names = {"words": layout.columns.words, "tags": layout.words_and_tags(path.name)[1]}
    for row in rows(path, layout):
        where = f"{path}, {row.place}"
        lists = {role: _list(where, row, role, name) for role, name in names.items() if name}
        words, tags = lists["words"], lists.get("tags")
        if not words:
            raise DataError(f"{where}: a sentence without words")
        if tags is not None and len(tags) != len(words):
            raise DataError(f"{where}: {len(words)} words, but {len(tags)} tags")
        places = [f"{row.place}, word {number}" for number in range(1, len(words) + 1)]
        if "" in words:
            raise DataError(f"{path}, {places[words.index('')]}: an empty word")
        id = layout.columns.id
        text = as_text(where, id, cell(where, row, "id", id)) if id else None
        yield Sentence(row.place, text, words, tags, places)


def _list(where: str, row: Row, role: str, column: str) -> list[str]:
    values: Any = cell(where, row, role, column)
    if not isinstance(values, list):
        raise DataError(f"{where}, column {column!r}: {kind_of(values)}, expected a list")
    return [as_text(f"{where}, word {n}", column, value) for n, value in enumerate(values, 1)]


# Files with a word in each line


def _from_lines(path: Path, layout: Layout) -> Iterator[Sentence]:
    wanted, comment = layout.words_and_tags(path.name), layout.columns.id
    named = re.compile(rf"\ufeff?#\s*{re.escape(comment or SENT_ID)}\s*=\s*(.+?)\s*")
    has_text = False
    for _, group in groupby(_lines(path, layout), key=lambda line: line.sentence):
        every = list(group)
        words = [line for line in every if line.columns]
        if not words:
            continue
        places = [f"line {line.number}" for line in words]
        ids = [m[1] for line in every if not line.columns and (m := named.fullmatch(line.text))]
        if comment and not ids:
            raise DataError(
                f"{path}, {places[0]}: no comment `# {comment} = …` (columns.id) before it"
            )
        cells = [_cells(path, line, wanted) for line in words]
        has_text |= any(word != "_" for word, _ in cells)
        yield Sentence(
            places[0],
            ids[-1] if ids else None,
            [word for word, _ in cells],
            [tag for _, tag in cells] if wanted[1] else None,
            places,
        )
    if not has_text and layout.format_of(path.name) == "conllu":
        raise DataError(
            f"{path}: every word is '_', or there is none: a treebank without its text?"
        )


def _cells(path: Path, line: Line, wanted: Sequence[str | None]) -> tuple[str, str]:
    """The word and the tag in a line; the word twice if no tag is wanted."""
    size, where, found = len(line.columns), f"{path}, line {line.number}", repr(line.text)
    numbers = [int(column) for column in wanted if column]
    at = [number % size for number in numbers if -size <= number < size]
    if len(set(at)) < len(numbers):
        columns = " and ".join(map(str, numbers))
        raise DataError(f"{where}: {size} columns, expected columns {columns} from 0: {found}")
    word = line.columns[at[0]]
    if not word:
        raise DataError(f"{where}: an empty word: {found}")
    return word, line.columns[at[-1]]


def _lines(path: Path, layout: Layout) -> Iterator[Line]:
    """The lines of a file. Sentences end at blank lines, and at the end of the file."""
    kind = layout.format_of(path.name)
    numbered = kind != "conll"
    commented = numbered if layout.comments is None else layout.comments
    separator = "\t" if numbered else None
    size = 10 if kind == "conllu" else None
    sentence = words = 0
    begun: int | None = None  # the first line since the last blank one
    for number, text in enumerate(chain(lines(path, "utf-8"), [""]), 1):
        body = text.rstrip("\r\n").removeprefix("\ufeff" if number == 1 else "")
        if not body.strip("\t "):
            if numbered and begun and not words:
                raise DataError(f"{path}, line {begun}: a sentence without words")
            yield Line(number, text, sentence, [])
            sentence, words, begun = sentence + (words > 0), 0, None
            continue
        begun = begun or number
        if commented and body.startswith("#"):
            yield Line(number, text, sentence, [])
            continue
        if not numbered and re.split("[\t ]", body)[0] == DOCUMENT:
            yield Line(number, text, sentence, [])
            continue
        separator = separator or ("\t" if "\t" in body else " ")
        columns = body.split("\t") if separator == "\t" else re.split(" +", body.rstrip(" "))
        where = f"{path}, line {number}"
        if len(columns) != (size := size or len(columns)):
            raise DataError(f"{where}: {len(columns)} columns, expected {size}: {body!r}")
        if numbered:
            node = OTHER_NODE.fullmatch(columns[0])
            expected = words if node and "." in columns[0] else words + 1
            if (node[1] if node else columns[0]) != str(expected):
                raise DataError(
                    f"{where}: the number {columns[0]!r} after {words} words, expected {expected}"
                )
            columns = [] if node else columns
        words += bool(columns)
        yield Line(number, text, sentence, columns)


# Writing


def with_predictions(path: Path, layout: Layout, predicted: Sequence[Sequence[str]]) -> str:
    """The text of a file with a word in each line, with the predicted tag of each word as one more
    column, and in CoNLL-U, whose ten columns are fixed, as `Predicted=TAG` in MISC. All else stays
    as it is, line ends and a byte-order mark included.

    Raises DataError as `read_sentences` does, and InputError if the file has another format or
    other sentences than `predicted`: the tags of the words of each sentence.
    """
    if (kind := format_of(path, layout)) not in WORD_A_LINE:
        known = ", ".join(WORD_A_LINE)
        raise InputError(f"{path}: predictions are written into {known}, not into {kind}")
    every = list(_lines(path, layout))
    of_words = [line.sentence for line in every if line.columns]
    sizes = [len(list(group)) for _, group in groupby(of_words)]
    if sizes != (found := [len(tags) for tags in predicted]):
        raise InputError(
            f"{path}: {len(sizes)} sentences with {sum(sizes)} words; predictions for "
            f"{len(found)} with {sum(found)}"
        )
    tags = chain.from_iterable(predicted)
    return "".join(
        _with_tag(line, next(tags), kind) if line.columns else line.text for line in every
    )


def _with_tag(line: Line, tag: str, kind: str) -> str:
    body = line.text.rstrip("\r\n")
    end, columns = line.text[len(body) :], body.split("\t")
    if kind == "conllu":
        old = [] if columns[MISC] == "_" else columns[MISC].split("|")
        kept = [part for part in old if not part.startswith("Predicted=")]
        columns[MISC] = "|".join([*kept, f"Predicted={tag}"])
        return "\t".join(columns) + end
    separator = "\t" if len(columns) == len(line.columns) else " "
    return f"{body}{separator}{tag}{end}"
