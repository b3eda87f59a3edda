"""How a task vector and a language vector become one: scales by depth, and merges other than their
sum."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Self

from pydantic import Field, FiniteFloat, model_validator

from deftx.core.places import in_embeddings, layer_of, layers_among, lower_layers
from deftx.store.errors import InputError
from deftx.store.strict import Strict, absent, exactly_one

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


class Slope(Strict):
    """Scales on a line over the layers: layer l of L has alpha + beta · (l - 1) / (L - 1). Source:
    LiNeS, Wang et al. 2025."""

    alpha: FiniteFloat = Field(description="the scale of the lowest layer")
    beta: FiniteFloat = Field(description="by how much that of the highest layer is larger")


class Depth(Strict):
    """The scales of a vector by depth; either a share of the layers is given or a slope."""

    share: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="the lower layers, as a share of all: the nearest whole number of layers, of "
        "two the smaller",
    )
    lower: FiniteFloat = Field(default=1.0, description="scale of the lower layers")
    upper: FiniteFloat = Field(default=0.0, description="scale of the other layers")
    slope: Slope | None = Field(default=None, description="a scale for each layer, on a line")
    embeddings: FiniteFloat | None = Field(
        default=None, description="scale of the embeddings; default: `lower`, or the slope's alpha"
    )
    above: FiniteFloat | None = Field(
        default=None,
        description="scale of what comes after the layers; default: that of the highest layer",
    )

    _one_way = exactly_one("share", "slope")

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        if self.slope is not None:
            if (self.lower, self.upper) != (1, 0):
                raise ValueError("lower and upper have no effect with slope; they need share")
            layers = [self.slope.alpha, self.slope.alpha + self.slope.beta]
        else:
            layers = [self.lower] * (self.share != 0) + [self.upper] * (self.share != 1)
            if self.share == 1 and self.upper:
                raise ValueError("upper has no effect with share: 1, which is all layers")
        if not any([self._embeddings, *layers, self.above]):
            raise ValueError("every scale is 0, so nothing of the vector is left")
        return self

    @property
    def _embeddings(self) -> float:
        """The scale of the embeddings."""
        if self.embeddings is not None:
            return self.embeddings
        return self.lower if self.slope is None else self.slope.alpha

    @property
    def words(self) -> str:
        """The settings that are not the default, as a page shows them."""
        given = self.model_dump(exclude_defaults=True)
        given |= given.pop("slope", {})
        return ", ".join(f"{name} {value:g}" for name, value in given.items())

    def scales(self, names: Iterable[str]) -> Callable[[str], float]:
        """Name of a parameter in BERT's scheme → its scale. The number of layers is inferred from
        `names`, those of all of a base's parameters. Raises InputError as `lower_layers` does, or
        if there is no slope because there is one layer."""
        count = layers_among(names)
        if self.slope is not None:
            if count < 2:
                raise InputError(f"slope: needs at least 2 layers, but there are {count}")
            alpha, beta = self.slope.alpha, self.slope.beta
            layers = [alpha + beta * number / (count - 1) for number in range(count)]
        else:
            assert self.share is not None
            few = lower_layers(self.share, count)
            layers = [self.lower] * few + [self.upper] * (count - few)
        highest = layers[-1] if layers else self._embeddings
        above = highest if self.above is None else self.above

        def scale(name: str) -> float:
            number = layer_of(name)
            if number is not None:
                return layers[number]
            return self._embeddings if in_embeddings(name) else above

        return scale


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


class Tsv(Strict):
    """TSV-M, merging by task singular vectors."""


class Combine(Strict):
    """How two vectors are merged; exactly one way is given."""

    ties: Ties | None = None
    dare: Dare | None = None
    layer_swap: LayerSwap | None = None
    tsv: Tsv | None = Field(default=None, exclude_if=absent)

    _one_way = exactly_one("ties", "dare", "layer_swap", "tsv")
