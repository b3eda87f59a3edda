"""What `deftx predict` reads and writes for a task of texts: a row with its label for each."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from deftx.data.read import read_items
from deftx.stages.data.settings import WORD_A_LINE, Columns, Layout
from deftx.store.errors import InputError
from deftx.store.items import Item

TEXTS = ("text", "text_pair")


def prediction(
    options: Namespace,
) -> tuple[list[Item], Callable[[Sequence[str], np.ndarray], str]]:
    """The items that are to be predicted, by the options of `deftx predict`; and what makes the
    text to write of the classes and the probabilities (items, classes). Raises InputError for
    options that do not go together, and DataError as `read_items` does."""
    out = options.out
    if out and out.suffix not in (".csv", ".jsonl"):
        raise InputError(f"{out}: expected a name that ends in .csv or .jsonl")
    items = _items(options)
    filled = [any(item.get(role, "").strip() for role in TEXTS) for item in items]

    def as_text(classes: Sequence[str], probabilities: np.ndarray) -> str:
        rows = np.full((len(items), len(classes)), np.nan)
        rows[filled] = probabilities
        frame = pd.DataFrame(items).filter(["id", *TEXTS])
        frame["label"] = [
            classes[i] if has_text else None
            for i, has_text in zip(rows.argmax(1), filled, strict=True)
        ]
        for number, name in enumerate(classes):
            frame[f"p_{name}"] = rows[:, number].round(6)
        if out is not None and out.suffix == ".jsonl":
            return str(frame.to_json(orient="records", lines=True, force_ascii=False))
        # A carriage return would not be quoted, and readers would take it for the end of a row.
        text = frame.replace("\r\n?", "\n", regex=True).to_csv(index=False, lineterminator="\n")
        return str(text)

    return [item for item, has_text in zip(items, filled, strict=True) if has_text], as_text


def layout(file: Path, options: Namespace, id_column: str | None = None) -> Layout:
    """How the rows of a file with texts are read. Raises InputError if it has a word in each
    line."""
    found = Layout(
        columns=Columns(text=options.column or "text", text_pair=options.pair_column, id=id_column),
        format=options.format,
        header=not options.no_header,
        quoting=options.quoting,
    )
    if found.format_of(file.name) in WORD_A_LINE:
        raise InputError(f"{file}: a word in each line; expected texts, as this is a task of texts")
    return found


def _items(options: Namespace) -> list[Item]:
    if options.file is not None:
        file: Path = options.file
        return read_items(file, layout(file, options, options.id_column), whole=True)
    if options.pair is not None and len(options.pair) != len(options.text):
        raise InputError(f"{len(options.pair)} --pair for {len(options.text)} --text")
    items: list[Item] = [{"id": str(i), "text": text} for i, text in enumerate(options.text)]
    for item, pair in zip(items, options.pair or (), strict=False):
        item["text_pair"] = pair
    return items
