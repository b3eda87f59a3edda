"""The sheet of items that a speaker labels or translates: drawn before anything is predicted,
and written for a spreadsheet program. docs/adapt-scoring.md has the rules."""

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import ValidationError

from deftx.adapt.text import split_line
from deftx.stages.clean.math import runs, tidy, words
from deftx.stages.clean.settings import Cleaning
from deftx.store.artefact import write_json, write_text
from deftx.store.errors import ArtefactError, DataError
from deftx.store.items import Item
from deftx.store.strict import Strict

COUNT = 50
FEWEST = 10
"""Fewer labels give no figure: with 10 the interval of an accuracy is up to 53 points wide."""

LARGEST_SHARE = 0.2
"""At most this share of a text that trains is held out."""

READABLE = (10, 500)
"""Letters that a line has at least, and characters at most, to be drawn from a running text."""

CELL = 32_000
"""Characters that a cell of a spreadsheet can hold."""

NAMES = {"label": "to-label", "translate": "to-translate"}
"""Kind of a sheet → its name in the folder of an adapted model."""

TEXTS = ("text", "text_pair")
DELIMITERS = (",", ";", "\t")
FORMULA = tuple("=+-@＝＋－＠")
"""Characters with which a formula may begin. Source: OWASP, "CSV injection"."""


class Sheet(Strict):
    """What a sheet was made from. It is stored as JSON beside the CSV, which people edit.

    Attributes:
        kind: `label`: people label texts; `translate`: they translate labelled texts.
        origin: where the items come from, in words.
        items: `id` of the row, `source` (the item's id where it comes from), `text`, perhaps
            `text_pair`, and for `translate` the `label`.
    """

    kind: Literal["label", "translate"]
    language: str
    task: str
    classes: list[str]
    origin: str
    seed: int
    items: list[dict[str, str]]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `path`, the JSON file. Raises ArtefactError if it is missing or damaged."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ArtefactError(f"{path}: not the record of a sheet: {error}") from None

    @property
    def shown(self) -> dict[str, str]:
        """Column of the CSV that people only read → key of the item."""
        roles = [role for role in TEXTS if role in self.items[0]]
        if self.kind == "label":
            return {role: role for role in roles}
        return {**{f"source_{role}": role for role in roles}, "label": "label"}

    @property
    def asked(self) -> list[str]:
        """Columns of the CSV that people fill."""
        if self.kind == "label":
            return ["label"]
        return ["translation", *(["translation_pair"] if "text_pair" in self.items[0] else [])]

    def csv(self, delimiter: str = ",") -> str:
        """The empty sheet, with a byte-order mark, without which Excel destroys letters."""
        out = io.StringIO()
        writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
        writer.writerow(["id", *self.shown, *self.asked])
        for item in self.items:
            shown = (guarded(tidy(item[key])) for key in self.shown.values())
            writer.writerow([item["id"], *shown, *[""] * len(self.asked)])
        return "\ufeff" + out.getvalue()


def draw(
    items: Sequence[Item],
    count: int = COUNT,
    seed: int = 0,
    *,
    classes: Sequence[str] | None = None,
    letters: int = 1,
    characters: int = CELL,
    share: float = 1.0,
) -> list[Item]:
    """At most `count` random items in random order, no two with the same words. With `classes` the
    items have labels, and each class has as many as the next (some may have too few).

    Only items with at least `letters` letters and at most `characters` characters are drawn, and
    at most this share of them. If that leaves fewer than FEWEST, none is drawn.

    The order is that of the hashes of seed and words. So the draw does not depend on the order of
    the items, and a longer text changes few of those that are drawn. Design choice.
    """
    distinct: dict[str, Item] = {}
    for item in items:
        texts = [item[role] for role in TEXTS if role in item]
        enough = all(sum(map(str.isalpha, text)) >= letters for text in texts)
        if enough and max(map(len, texts)) <= characters:
            distinct.setdefault(words_of(item), item)
    count = min(count, int(len(distinct) * share))
    if count < FEWEST:
        return []
    order = sorted(distinct, key=lambda key: hashed(str(seed), key))
    if classes is not None:
        places = {name: [k for k in order if distinct[k]["label"] == name] for name in classes}
        turn = {key: number for keys in places.values() for number, key in enumerate(keys)}
        quota, more = divmod(count, len(classes))
        extra = [keys[quota] for keys in places.values() if len(keys) > quota][:more]
        order = [key for key in order if turn[key] < quota or key in extra]
    return [distinct[key] for key in order[:count]]


def hold_out(
    items: Sequence[Item], count: int = COUNT, seed: int = 0
) -> tuple[list[Item], list[Item]]:
    """Lines drawn from those of a text that would train, see `draw`, or sentences of lines that are
    too long to be read; and the lines that may train. At most a fifth of them is drawn. Give lines
    after they are cleaned, with an id each."""
    letters, longest = READABLE
    parts: list[Item] = []
    for item in items:
        text = item["text"]
        pieces = split_line(text, longest) if len(text) > longest else [text]
        parts += [{**item, "text": piece} for piece in pieces]
    count = min(count, int(len(items) * LARGEST_SHARE))
    drawn = draw(parts, count, seed, letters=letters, characters=longest, share=LARGEST_SHARE)
    held = {item["id"] for item in drawn}
    return drawn, [item for item in remaining(items, drawn) if item["id"] not in held]


def remaining(items: Iterable[Item], drawn: Sequence[Item]) -> list[Item]:
    """The items that have neither all words of a drawn text nor ten in a row of one, which is the
    rule of cleaning for evaluation sentences."""
    run = Cleaning().run
    sentences = [words(item[role]) for item in drawn for role in TEXTS if role in item]
    keys = {"".join(sentence) for sentence in sentences} - {""}
    forbidden = {part for sentence in sentences for part in runs(sentence, run)}

    def is_drawn(text: str) -> bool:
        found = words(text)
        return "".join(found) in keys or not forbidden.isdisjoint(runs(found, run))

    return [i for i in items if not any(is_drawn(i[role]) for role in TEXTS if role in i)]


def make_sheet(
    kind: Literal["label", "translate"],
    drawn: Sequence[Item],
    *,
    language: str,
    task: str,
    classes: Sequence[str],
    origin: str,
    seed: int = 0,
) -> Sheet:
    """The sheet of drawn items. Rows get ids that no spreadsheet program takes for a number or a
    date. Raises DataError if there are fewer than FEWEST items."""
    if len(drawn) < FEWEST:
        raise DataError(
            f"{origin}: {len(drawn)} items to label; at least {FEWEST} are needed. Name a file "
            "with other texts of the language, one a line"
        )
    kept = (*TEXTS, *(["label"] if kind == "translate" else []))
    return Sheet(
        kind=kind,
        language=language,
        task=task,
        classes=list(classes),
        origin=origin,
        seed=seed,
        items=[
            {
                "id": f"s{number:03}",
                "source": item["id"],
                **{name: item[name] for name in kept if name in item},
            }
            for number, item in enumerate(drawn, 1)
        ],
    )


def write_sheet(path: Path, sheet: Sheet, delimiter: str = ",") -> bool:
    """Write the CSV that people fill, `.json` beside it (what it was made from) and `.txt` (what to
    do); whether anything was written. A sheet that is there is kept if it is of the same items.

    Raises DataError if a sheet of other items is there and somebody has changed it.
    """
    record = path.with_suffix(".json")
    if path.exists():
        old = Sheet.load(record) if record.exists() else None
        if old == sheet:
            return False
        empty = [old.csv(each).encode() for each in DELIMITERS] if old else []
        if path.read_bytes() not in empty:
            raise DataError(
                f"{path}: somebody has changed this sheet, and the text or the settings give other "
                f"items now. Score it first (deftx score {path}), then move it away with "
                f"{record.name}, and run this command again"
            )
    write_text(path.with_suffix(".txt"), instructions(path, sheet))
    write_json(record, sheet.model_dump())
    write_text(path, sheet.csv(delimiter))
    return True


def instructions(path: Path, sheet: Sheet) -> str:
    """What a speaker should know who fills the sheet, and the next command."""
    classes = "\n".join(f"    {name}" for name in sheet.classes)
    if sheet.kind == "label":
        task = f"""\
Read each text and write its label ({sheet.task}) into the column `label`. The labels are:

{classes}

Leave the cell empty if the text has none of these labels or cannot be understood. Please do not
leave it empty because the text is difficult: difficult texts belong to the test."""
    else:
        task = f"""\
Translate each text into the language and write it into the column `translation` (and the second
text into `translation_pair`, if there is one). Each text has one of these labels ({sheet.task}):

{classes}

The translation should have the same label. Leave the cell empty if that is not possible."""
    return f"""\
{path.name}: {len(sheet.items)} texts for somebody who speaks the language ({sheet.language}).

{task}

- Open the file in a spreadsheet program (Excel, LibreOffice, Google Sheets). If everything is in
  one column, import it as text in UTF-8, with columns separated by commas.
- Do not change the columns `id` and `{next(iter(sheet.shown))}`.
  You may add columns and reorder rows.
- The rows are in random order. If time is short, fill them from the top: {FEWEST} rows are the
  least that gives a figure, and more give a better one.
- Do not look at the answers of the model before you have finished.
- Save it as CSV in UTF-8 under the same name. The next command is then:

    deftx score {path}
"""


def guarded(cell: str) -> str:
    """A cell that no program takes for a formula: an apostrophe before it."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def words_of(item: Item) -> str:
    """All words of an item, or its characters if it has none."""
    texts = [item[role] for role in TEXTS if role in item]
    return "\n".join("".join(words(text)) or tidy(text) for text in texts)


def hashed(seed: str, key: str) -> str:
    """A hash of a key, in hexadecimal; another seed gives another order of keys."""
    return hashlib.sha256(f"{seed}/{key}".encode()).hexdigest()[:24]
