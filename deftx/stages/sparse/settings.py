"""What the stages `mask` and `sparse` have in common. Free of torch."""

from typing import Annotated

from pydantic import Field

from deftx.store.strict import absent

KeepLower = Annotated[
    Annotated[float, Field(ge=0, lt=1)] | None,
    Field(
        exclude_if=absent,
        description="all K entries are in the embeddings and this share of the layers, the lowest; "
        "what is chosen without this setting in the other layers trains too, and is discarded",
    ),
]
