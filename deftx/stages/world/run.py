"""Stage `world`: generate the items of the embedded world, in place of the `data` stage."""

from pathlib import Path

from pydantic import Field

from deftx.stages.data.settings import Split, WorldKind
from deftx.stages.world.math import inference, sentiment, text
from deftx.stages.world.settings import World
from deftx.store.items import write_items
from deftx.store.strict import Strict


class Params(Strict):
    """Which split of which language is generated, in which world."""

    dataset: str
    language: str
    split: Split
    kind: WorldKind
    items: int = Field(ge=1, description="lines of text, or labelled items")
    world: World = Field(description="the world, with this language only")


def world(params: Params, *, out: Path) -> None:
    """Write text or labelled items of one language of the embedded world as parquet."""
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
