"""Stage `world`: generate the items of the embedded world, in place of the `data` stage."""

from pathlib import Path

from pydantic import Field

from deftx.stages.data.settings import SplitOf, WorldKind
from deftx.stages.world.math import labelled, text
from deftx.stages.world.settings import World
from deftx.store.items import write_items


class Params(SplitOf):
    """Which split of which language is generated, in which world."""

    kind: WorldKind
    items: int = Field(ge=1, description="lines of text, or labelled items")
    world: World = Field(description="the world, with this language only")


def world(params: Params, *, out: Path) -> None:
    """Write text or labelled items of one language of the embedded world as parquet."""
    if params.kind == "text":
        lines = text(params.world, params.language, params.items)
        items = [{"id": str(number), "text": line} for number, line in enumerate(lines)]
    else:
        items = labelled(params.world, params.kind, params.language, params.split, params.items)
    write_items(out, items, stage="world", **params.identity(), world=params.world.model_dump())
