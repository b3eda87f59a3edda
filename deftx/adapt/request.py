"""What a person asks `deftx adapt` for, checked before anything is done."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from deftx.adapt.sheet import words_of
from deftx.adapt.text import layout_of
from deftx.data.read import read_items
from deftx.exchange.foreign import classes_of
from deftx.exchange.found import find_base, find_vector
from deftx.stages.clean.math import tidy
from deftx.stages.data.settings import Columns
from deftx.store.artefact import file_sha256
from deftx.store.errors import DataError, InputError
from deftx.store.hub import commit_of
from deftx.store.items import Item

LANGUAGE = re.compile(r"[a-z]{3}(_[A-Z][a-z]{3})?")
TASK = re.compile(r"[a-z0-9][a-z0-9.-]*")

FEW = 50
"""Fewer labelled items than this are refused: nothing is learned from them."""

VALID_SHARE, VALID_MOST = 0.1, 500
"""The part of the labelled items that chooses the best state of training; design choice."""


class Source(NamedTuple):
    """Labelled items of the source language, divided into those that train and those that choose
    the best state."""

    classes: list[str]
    train: list[Item]
    valid: list[Item]


class AskedTask(NamedTuple):
    """A task by its labelled data, or by a vector that exists; one of the two is None."""

    name: str
    labelled: Path | None
    vector: str | None


class Request(NamedTuple):
    """What is asked for; see the options of `deftx adapt`."""

    text: Path
    folder: Path
    language: str
    name: str
    task: AskedTask
    base: dict[str, str]
    source: str
    columns: Columns
    classes: list[str]
    minutes: float
    to_label: Path | None
    few: Path | None
    text_column: str | None
    translate: bool
    anyway: bool
    seed: int

    @property
    def base_name(self) -> str:
        """The base as `find_base` takes it."""
        return "@".join(self.base.values())

    @property
    def facts(self) -> dict[str, Any]:
        """What decides whether a folder was made for the same request."""
        return {
            "text": content(self.text),
            "task": content(self.task.labelled or self.task.vector),
            "columns": self.columns.model_dump(),
            "language": self.language,
            "base": self.base,
            "source": self.source,
            "classes": self.classes,
            "minutes": self.minutes,
            "text_column": self.text_column,
            "translate": self.translate,
            "seed": self.seed,
        }


def asked_task(text: str) -> AskedTask:
    """`NAME=FILE` for labelled data, `NAME=VECTOR` or `VECTOR` for the folder, file or hub id of a
    task vector. Raises InputError if the name is none, or a file does not exist."""
    name, equals, place = text.partition("=")
    if not equals:
        name, place = "task", text
    if not TASK.fullmatch(name):
        raise InputError(f"--task {text}: {name!r} is no name: small letters, digits, - and .")
    path = Path(place)
    is_vector = path.is_dir() or path.suffix in (".safetensors", ".bin", ".pt")
    if path.exists() and not is_vector:
        return AskedTask(name, path, None)
    if not path.exists() and (
        not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", place) or path.suffix
    ):
        raise InputError(
            f"--task {text}: no such file: {place}. Expected a file of labelled items (csv, tsv, "
            "jsonl, parquet), or the folder or hub id of a task vector"
        )
    return AskedTask(name, None, place)


def check_language(key: str) -> str:
    """The key of a language, as ISO 639-3 has it. Raises InputError else."""
    if not LANGUAGE.fullmatch(key):
        raise InputError(
            f"--language {key}: expected the three letters of ISO 639-3, such as mad for Madurese, "
            "where needed with a script: mad_Java. Look it up at https://iso639-3.sil.org"
        )
    return key


def read_source(path: Path, columns: Columns, seed: int) -> Source:
    """Labelled items of a file, divided at random, each class in the same proportion; items with
    the same words stay together.

    Raises DataError, with file and row, as `read_items` does, if two labels differ in case or
    blanks only, if one is blank, or if there are too few items or classes.
    """
    layout = layout_of(path, columns)
    if layout.words_and_tags(path.name)[0] is not None:
        raise DataError(
            f"{path}: has a label for each word; only tasks that label whole texts are possible "
            "here. The workflow does others: docs/config.md"
        )
    items = read_items(path, layout)
    counts = Counter(item["label"] for item in items)
    spellings: dict[str, str] = {}
    for name in counts:
        if not (key := tidy(name).casefold()):
            raise DataError(f"{path}: {counts[name]} items have a blank label")
        if (other := spellings.setdefault(key, name)) != name:
            raise DataError(
                f"{path}: the labels {other!r} and {name!r} differ in case or blanks only: write "
                "them in one way"
            )
    if len(counts) < 2:
        raise DataError(
            f"{path}: every label is {items[0]['label']!r}: expected two classes or more"
        )
    if len(items) < FEW:
        raise DataError(f"{path}: {len(items)} labelled items, expected {FEW} at least")
    if len(counts) > len(items) / 5:
        raise DataError(
            f"{path}: {len(counts)} different labels in {len(items)} items: is "
            f"{columns.label!r} the column of the labels?"
        )
    alone = [name for name, count in counts.items() if count < 2]
    if alone:
        raise DataError(f"{path}: the label {alone[0]!r} occurs once: expected each several times")
    draw, valid = np.random.default_rng(seed), set()
    share = min(VALID_SHARE, VALID_MOST / len(items))
    keys = [words_of(item) for item in items]
    for name in sorted(counts):
        mine = sorted({key for key, i in zip(keys, items, strict=True) if i["label"] == name})
        valid |= {*draw.permutation(mine)[: max(1, round(share * len(mine)))].tolist()}
    parts: tuple[list[Item], list[Item]] = ([], [])
    for key, item in zip(keys, items, strict=True):
        parts[key in valid].append(item)
    if {item["label"] for item in parts[0]} != {*counts}:
        raise DataError(f"{path}: the items of a label are all the same text")
    return Source(sorted(counts), *parts)


def classes_of_vector(name: str, base: str, given: Sequence[str]) -> list[str]:
    """The classes of a task vector that fits a base. Raises InputError if it
    records none and none are given, or if it is of no task of whole texts; ArtefactError if there
    is no such vector or base, or if they do not fit."""
    found = find_vector(name)
    classes = [*(classes_of(found.vector) or given)]
    if not found.vector.head:
        raise InputError(f"--task {name}: this vector has no head: it is not of a task")
    if not classes:
        raise InputError(f"--task {name}: it does not record its classes: give --classes A,B,…")
    with TemporaryDirectory() as scratch:
        fits = find_base(base, Path(scratch))
        if (kind := found.kind(fits, None)) != "classification":
            raise InputError(
                f"--task {name}: a vector for {kind}; only tasks that label whole texts are "
                "possible here. The workflow does others: docs/config.md"
            )
        found.fitting(fits, classes, kind)
    return classes


def pinned(name: str, key: str) -> dict[str, str]:
    """A base or a vector as a config names it, its place under `key`: a path, or a hub id with its
    commit. Raises ArtefactError if it is a hub id whose commit cannot be found."""
    if Path(name).exists():
        return {key: str(Path(name).absolute())}
    id, _, revision = name.partition("@")
    return {key: id, "revision": commit_of(id, revision or None)}


def content(path: Path | str | None) -> str | None:
    """A file in words that change with its content, for people and for comparison; anything else,
    such as a hub id, as it is."""
    if path is None or not Path(path).is_file():
        return None if path is None else str(path)
    return f"{Path(path).name} (sha256 {file_sha256(Path(path))[:12]})"
