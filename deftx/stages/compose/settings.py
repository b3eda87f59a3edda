"""How a whole task vector and a whole language vector become one, other than by their sum."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from deftx.store.errors import InputError
from deftx.store.strict import Strict, exactly_one

Density = Annotated[float, Field(gt=0, le=1)]
Layers = Annotated[int, Field(ge=0)]


class Evaluated(Strict):
    """The system, task, language and seed that the stages `compose` and `evaluate` work on."""

    system: str
    task: str
    language: str
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """These four, by name."""
        return self.model_dump(include=set(Evaluated.model_fields))


class Ties(Strict):
    """TIES merging: small entries and entries whose signs disagree are left out."""

    density: Density = Field(
        default=0.2, description="share of each vector's largest entries that stays"
    )


class Dare(Strict):
    """DARE: random entries are dropped, and the others scaled up to compensate."""

    density: Density = Field(description="probability with which an entry stays")


class LayerSwap(Strict):
    """Layer swapping: the outer layers are those of the language, the inner ones of the task."""

    bottom: Layers = Field(
        description="lowest layers that are the language's; if there are any, so are the embeddings"
    )
    top: Layers = Field(description="highest layers that are the language's")
    transition: Layers = Field(
        default=0, description="layers next to these that are the average of both"
    )

    @property
    def ends(self) -> tuple[int, int]:
        """How many layers it takes from below and from above, those of the transition included."""
        below = self.bottom + self.transition * (self.bottom > 0)
        return below, self.top + self.transition * (self.top > 0)

    def check_fits(self, layers: int) -> None:
        """Raise InputError if there are too few layers."""
        if sum(self.ends) > layers:
            raise InputError(
                f"layer_swap: bottom {self.bottom}, top {self.top} and transition "
                f"{self.transition} take {sum(self.ends)} layers, but there are {layers}"
            )

    @model_validator(mode="after")
    def _transition_has_an_effect(self) -> Self:
        if self.transition and not (self.bottom or self.top):
            raise ValueError("transition has no effect with bottom: 0 and top: 0")
        return self


class Combine(Strict):
    """How two vectors are merged; exactly one way is given."""

    ties: Ties | None = None
    dare: Dare | None = None
    layer_swap: LayerSwap | None = None

    _one_way = exactly_one("ties", "dare", "layer_swap")
