"""What `deftx predict` reads and writes for a task of words: one tag for each word."""

import json
import re
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deftx.data.read import read_items
from deftx.data.rows import format_of, rows
from deftx.stages.data.settings import NO_TAGS, WORD_A_LINE, Columns, Layout
from deftx.stages.data.settings import format_of as ending_of
from deftx.store.errors import InputError
from deftx.store.items import Item
from deftx.tasks.tagging.rows import with_predictions


def prediction(
    options: Namespace,
) -> tuple[list[Item], Callable[[Sequence[str], np.ndarray], str]]:
    """The sentences that are to be tagged, by the options of `deftx predict`; and what makes the
    text to write of the classes and the probabilities (words, classes):

    - a file with a word in each line as it is, with the predicted tags, see `with_predictions`;
    - of texts, whose words are between white space, a word, a tab and its tag in each line, and a
      blank line after each sentence, also after one without words;
    - of lists of words, and of all if the output ends in .jsonl, JSON lines with `id`, `words`,
      `tags`, and `p`, the probability of each tag.

    Raises InputError for options that do not go together, and DataError as `read_items` does.
    """
    if options.pair or options.pair_column:
        raise InputError("--pair, --pair-column: this is a task of words, not of pairs of texts")
    file, out, layout = options.file, options.out, Layout()
    endings: list[str] = []
    if file is None:
        items: list[Item] = [{"id": str(n), "text": text} for n, text in enumerate(options.text)]
    else:
        layout = _layout(options)
        items = read_items(file, layout, whole=True)
        if (kind := format_of(file, layout)) in WORD_A_LINE:
            endings = [kind, ending_of(file.name)]
    in_columns = "text" in items[0]
    known = [f".{end}" for end in [*endings, *["conll"] * in_columns, "jsonl"]]
    if out and out.suffix not in known:
        raise InputError(f"{out}: expected a name that ends in {' or '.join(dict.fromkeys(known))}")
    words = [item["text"].split() if in_columns else item["words"] for item in items]
    sentences = [{"id": item["id"], "words": own} for item, own in zip(items, words, strict=True)]

    def as_text(classes: Sequence[str], probabilities: np.ndarray) -> str:
        parts = np.split(probabilities, np.cumsum(list(map(len, words)))[:-1])
        tags = [[classes[tag] for tag in part.argmax(1)] for part in parts]
        if endings and not (out and out.suffix == ".jsonl"):
            return with_predictions(file, layout, tags)
        if in_columns and not (out and out.suffix == ".jsonl"):
            return "".join(map(_columns, words, tags))
        best = [part.max(1).round(6).tolist() for part in parts]
        return "".join(
            json.dumps({**sentence, "tags": own, "p": p}, ensure_ascii=False) + "\n"
            for sentence, own, p in zip(sentences, tags, best, strict=True)
        )

    return [sentence for sentence in sentences if sentence["words"]], as_text


def _columns(words: Sequence[str], tags: Sequence[str]) -> str:
    return "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True)) + "\n"


def _layout(options: Namespace) -> Layout:
    """How a file is read: in formats with a word in each line its column of words; in others lists
    of words if the first row has one, else texts."""
    file: Path = options.file
    column: str | None = options.column
    layout = Layout(
        format=options.format,
        header=not options.no_header,
        quoting=options.quoting,
        comments=options.comments,
    )
    words = Columns(words=column, tags=NO_TAGS, id=options.id_column)
    lists = words.model_copy(update={"words": column or "words"})
    texts = Columns(text=column or "text", id=options.id_column)
    if format_of(file, layout) in WORD_A_LINE:
        if column and not re.fullmatch("-?[0-9]+", column):
            raise InputError(f"--column {column}: expected the number of a column, from 0 or -1")
        return layout.model_copy(update={"columns": words})
    first = next(rows(file, layout.model_copy(update={"columns": lists})), None)
    has_lists = first is not None and isinstance(first.cells.get(column or "words"), list)
    return layout.model_copy(update={"columns": lists if has_lists else texts})
