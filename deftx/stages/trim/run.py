"""Stage `trim`: a split of a dataset without the items that another dataset was made from."""

from pathlib import Path

from pydantic import Field

from deftx.stages.data.settings import Split
from deftx.stages.trim.math import Nearest, detokenised
from deftx.store.artefact import digests
from deftx.store.errors import ArtefactError
from deftx.store.items import load_items, write_items
from deftx.store.strict import Strict


class Params(Strict):
    """Which split to write, and which splits to search."""

    dataset: str
    language: str
    split: Split
    among: list[Split] = Field(description="the splits that the input files hold, in order")


def trim(params: Params, *, splits: list[Path], made_from: Path, out: Path) -> None:
    """Write one split without the items that another dataset was made from.

    For each text of `made_from` the nearest item among all splits is removed. Distance is the edit
    distance between lower-case texts without a tokenizer's spaces; among equally near items the
    first is removed, in the order of `among`. This is the rule of the public LT-SFT code for SmSA
    and NusaX.

    Raises ArtefactError if an input is missing or corrupt, or if no item is left.
    """
    items = {split: load_items(path) for split, path in zip(params.among, splits, strict=True)}
    places = [(split, number) for split, part in items.items() for number in range(len(part))]
    texts = Nearest([detokenised(items[split][number]["text"]) for split, number in places])
    sought = [detokenised(item["text"]) for item in load_items(made_from)]
    gone = {places[texts.to(text)] for text in sought}
    whole = items[params.split]
    kept = [item for number, item in enumerate(whole) if (params.split, number) not in gone]
    if not kept:
        raise ArtefactError(f"{params.dataset} ({params.split}): no item is left")
    write_items(
        out,
        kept,
        stage="trim",
        dataset=params.dataset,
        language=params.language,
        split=params.split,
        left_out=len(whole) - len(kept),
        inputs=digests(made_from=made_from, **dict(zip(params.among, splits, strict=True))),
    )
