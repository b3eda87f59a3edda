"""Stage `world`: the `data` stage of the embedded world, whose items are made and not read."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from deftx.stages.data.settings import WorldKind
from deftx.stages.world.math import inference, sentiment, text
from deftx.stages.world.settings import World
from deftx.store.items import write_items
from deftx.store.strict import Strict


class Params(Strict):
    """What decides the items of one split of one language of the world."""

    dataset: str
    language: str
    split: Literal["train", "valid", "test"]
    kind: WorldKind
    items: int = Field(ge=1, description="lines of text, or labelled items")
    world: World = Field(description="the world, with this one language in it")


def world(params: Params, *, out: Path) -> None:
    """Make text or labelled items of one language of the embedded world, as parquet."""
    arguments = (params.world, params.language, params.split, params.items)
    if params.kind == "text":
        lines = text(params.world, params.language, params.items)
        items = [{"id": str(number), "text": line} for number, line in enumerate(lines)]
    elif params.kind == "sentiment":
        items = sentiment(*arguments)
    else:
        items = inference(*arguments)
    write_items(
        out,
        items,
        stage="world",
        dataset=params.dataset,
        language=params.language,
        split=params.split,
        world=params.world.model_dump(),
    )
