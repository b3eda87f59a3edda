"""Stage `world`: generate the items of the embedded world, in place of the `data` stage."""

from pathlib import Path

from pydantic import Field

from deftx.stages.data.settings import SplitOf, WorldKind
from deftx.stages.world.math import labelled, tagged, text
from deftx.stages.world.settings import World
from deftx.store.items import Item, write_items


class Params(SplitOf):
    """Which split of which language is generated, in which world."""

    kind: WorldKind
    items: int = Field(ge=1, description="lines of text, labelled items, or sentences")
    world: World = Field(description="the world, with this language only")


def world(params: Params, *, out: Path) -> None:
    """Write text, labelled items or sentences of one language of the embedded world as parquet."""
    some = params.world, params.language, params.split, params.items
    items: list[Item]
    if params.kind == "text":
        lines = text(params.world, params.language, params.items)
        items = [{"id": str(number), "text": line} for number, line in enumerate(lines)]
    elif params.kind == "tags":
        items = tagged(*some)
    else:
        items = [*labelled(params.world, params.kind, *some[1:])]
    write_items(out, items, stage="world", **params.identity(), world=params.world.model_dump())
