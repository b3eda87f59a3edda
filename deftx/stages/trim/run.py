"""Stage `trim`: a split of a dataset without the items that another dataset was made from."""

import logging
import re
from pathlib import Path

from pydantic import Field
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import extractOne

from deftx.data.contradictions import leaked
from deftx.stages.data.settings import Split, SplitOf
from deftx.store.artefact import digests
from deftx.store.errors import ArtefactError
from deftx.store.items import load_items, texts_of, write_items

log = logging.getLogger(__name__)


class Params(SplitOf):
    """Which split to write, and which splits to search."""

    among: list[Split] = Field(description="the splits that the input files hold, in order")


def trim(params: Params, *, splits: list[Path], made_from: Path, out: Path) -> None:
    """Write one split without the items that another dataset was made from: for each text of
    `made_from` the nearest item among all splits, by edit distance between lower-case texts without
    a tokenizer's spaces; the first in the order of `among`, if several are as near. Source: the
    public LT-SFT code for SmSA and NusaX.

    Raises ArtefactError if an input is missing or corrupt, or if no item is left.
    """
    items = {split: load_items(path) for split, path in zip(params.among, splits, strict=True)}
    every = [item for part in items.values() for item in part]
    texts = [detokenised(texts_of(item)[0]) for item in every]
    other = load_items(made_from)
    sought = [detokenised(texts_of(item)[0]) for item in other]
    gone = {id(every[nearest(text, texts)]) for text in sought}
    whole = items[params.split]
    kept = [item for item in whole if id(item) not in gone]
    if not kept:
        raise ArtefactError(f"{params.dataset} ({params.split}): no item is left")
    if count := leaked(other, kept):
        log.warning("%d of %d items of %s are left in %s", count, len(other), made_from, out)
    write_items(
        out,
        kept,
        stage="trim",
        **params.identity(),
        left_out=len(whole) - len(kept),
        inputs=digests(made_from=made_from, **dict(zip(params.among, splits, strict=True))),
    )


def detokenised(text: str) -> str:
    """The text in lower case, without the spaces that a tokenizer puts around punctuation."""
    return re.sub(r"([(\[])\s+", r"\1", re.sub(r"\s+([.,!?;:%)\]])", r"\1", text.lower()))


def nearest(text: str, others: list[str]) -> int:
    """Position of the one with the smallest edit distance (insertions, deletions and substitutions
    of characters) to the text; the first of several."""
    return extractOne(text, others, scorer=Levenshtein.distance)[2]
