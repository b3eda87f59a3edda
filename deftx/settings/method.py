"""A method is a row of data: how entries are scored, how the budget is shared out, what may be
chosen, and how it is trained."""

import re
from fractions import Fraction
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from deftx.settings.denoise import RankRule
from deftx.settings.strict import Strict

Kind = Literal["task", "language"]
T = TypeVar("T")


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]


def _budget(value: int | float | str) -> int | float | str:
    if isinstance(value, str):
        try:
            fraction = Fraction(value)
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{value!r} is neither a number nor a ratio such as 1/20") from None
        if not 0 < fraction <= 1:
            raise ValueError(f"the ratio {value} must lie above 0 and not above 1")
    elif isinstance(value, float) and not 0 < value <= 1:
        raise ValueError(f"a share must lie above 0 and not above 1, got {value}")
    elif isinstance(value, int) and value < 1:
        raise ValueError(f"K must be at least 1, got {value}")
    return value


Budget = Annotated[
    int | float | str,
    AfterValidator(_budget),
    Field(
        description="a whole number is K itself; a share (0.05) or a ratio of two whole numbers "
        "('14155776/277414656') is taken of the model's maskable entries and rounded",
    ),
]


def entries(budget: int | float | str, maskable: int) -> int:
    """K for a model with this many maskable entries."""
    if isinstance(budget, int):
        return budget
    return round(Fraction(str(budget)) * maskable)


class ObservedShares(Strict):
    """Shares counted in the mask that another method chose for the same target and seed."""

    observed: str = Field(description="the method whose mask is counted")
    groups: Annotated[list[Pattern], Field(min_length=1)] | None = Field(
        default=None, description="regular expressions; without them each tensor is its own group"
    )


FixedShares = Annotated[dict[Pattern, Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]
Shares = FixedShares | ObservedShares


class Selection(Strict):
    """How the entries that train are chosen; what the `mask` stage reads of a method."""

    score: Literal["magnitude", "random", "none"] = Field(
        default="magnitude",
        description="magnitude: of the (denoised) difference; random: drawn uniformly; none: "
        "everything that may be chosen is",
    )
    choose_from: Pattern = Field(
        default="", description="only tensors in whose name this regular expression is found"
    )
    layer_norm: bool = Field(default=False, description="normalisation layers may be chosen too")
    budget: Budget | None = None
    shares: Shares | None = Field(
        default=None, description="groups of tensors (regular expressions) and their part of K"
    )


class Row(Strict):
    """A method for one kind of target, with nothing left open."""

    selection: Selection
    denoise: RankRule | None
    prune: bool
    retrain: bool
    learning_rate: float | None

    @property
    def dense(self) -> bool:
        """Whether the vector is a whole difference, with nothing chosen."""
        return not self.prune

    @property
    def needs_full(self) -> bool:
        """Whether the method looks at fully fine-tuned weights."""
        return self.dense or not self.retrain or self.selection.score == "magnitude"


class PerKind(Strict, Generic[T]):
    """One value for tasks and another for languages; what is left out is unset."""

    task: T | None = None
    language: T | None = None


def _is_per_kind(value: Any) -> str:
    if isinstance(value, PerKind):
        return "per kind"
    return "per kind" if isinstance(value, dict) and value.keys() <= {"task", "language"} else "one"


def _one_or_per_kind(kind: Any) -> Any:
    return Annotated[
        Annotated[kind, Tag("one")] | Annotated[PerKind[kind], Tag("per kind")],
        Discriminator(_is_per_kind),
    ]


class Method(Strict):
    """A method as the config writes it. `denoise`, `shares`, `budget` and `learning_rate` may be
    given for both kinds of target, or as `{task: …, language: …}`."""

    score: Literal["magnitude", "random", "none"] = "magnitude"
    denoise: _one_or_per_kind(RankRule) | None = None  # type: ignore[valid-type]
    shares: _one_or_per_kind(Shares) | None = None  # type: ignore[valid-type]
    choose_from: Pattern = ""
    layer_norm: bool = False
    budget: _one_or_per_kind(Budget) | None = None  # type: ignore[valid-type]
    prune: bool = Field(
        default=True, description="false: the whole difference is the vector, nothing is chosen"
    )
    retrain: bool = Field(
        default=True, description="false: the vector is the pruned difference itself"
    )
    learning_rate: (
        _one_or_per_kind(Annotated[float, Field(gt=0)]) | None  # type: ignore[valid-type]
    ) = Field(default=None, description="of the sparse phase, instead of the target's own")

    @model_validator(mode="after")
    def _cells(self) -> Self:
        if not self.prune and self.retrain:
            raise ValueError(
                "prune: false with retrain: true would train everything again; "
                "say retrain: false as well"
            )
        if not self.prune:
            for name in ("shares", "budget", "choose_from", "layer_norm"):
                if getattr(self, name) not in (None, "", False):
                    raise ValueError(f"{name} has no effect with prune: false")
        if not self.retrain and self.learning_rate is not None:
            raise ValueError("learning_rate has no effect with retrain: false")
        if self.score != "magnitude":
            for name in ("denoise", "shares"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} needs score: magnitude, here it is {self.score}")
        if self.score != "magnitude" and not self.retrain:
            raise ValueError(f"retrain: false needs score: magnitude, here it is {self.score}")
        if self.score == "none" and self.budget is not None:
            raise ValueError("budget has no effect with score: none, which takes everything")
        return self

    def row(self, kind: Kind) -> Row:
        """The method for one kind of target."""

        def pick(value: Any) -> Any:
            return getattr(value, kind) if isinstance(value, PerKind) else value

        selection = Selection(
            score=self.score,
            choose_from=self.choose_from,
            layer_norm=self.layer_norm,
            budget=pick(self.budget),
            shares=pick(self.shares),
        )
        return Row(
            selection=selection,
            denoise=pick(self.denoise),
            prune=self.prune,
            retrain=self.retrain,
            learning_rate=pick(self.learning_rate),
        )


class System(Strict):
    """A pair: a method for the task vector and one for the language vectors."""

    task: str = Field(description="method of the task vector")
    language: str = Field(
        default="", description="method of the language vectors, or none; default: that of the task"
    )
    task_scale: float = 1.0
    language_scale: float = 1.0

    @model_validator(mode="before")
    @classmethod
    def _same_for_both(cls, value: Any) -> Any:
        if isinstance(value, dict) and "task" in value and "language" not in value:
            return {**value, "language": value["task"]}
        return value
