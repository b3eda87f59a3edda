"""A method is a row of data: how entries are scored, how the budget is shared out, what may be
chosen, and how it is trained."""

from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import Discriminator, Field, Tag, model_validator

from deftx.stages.adapter.settings import Adapter
from deftx.stages.compose.settings import Combine
from deftx.stages.convert.settings import Foreign
from deftx.stages.denoise.settings import RankRule
from deftx.stages.gate.settings import Gate
from deftx.stages.lora.settings import Lora
from deftx.stages.mask.settings import Budget, Pattern, Selection, Shares
from deftx.store.strict import Strict

Kind = Literal["task", "language"]

FAMILIES = {
    "adapter": ["learning_rate"],
    "gate": ["learning_rate"],
    "lora": ["learning_rate", "budget"],
    "vector": [],
}
"""Field that makes a method one of a family of its own → the other fields that it may have."""

T = TypeVar("T")


class Row(Strict):
    """A method for one kind of target, with nothing left open."""

    selection: Selection
    denoise: RankRule | None
    prune: bool
    retrain: bool
    learning_rate: float | None
    rounds: int = 1
    adapter: Adapter | None = None
    gate: Gate | None = None
    lora: Lora | None = None
    vector: Foreign | None = None

    @property
    def stage(self) -> str:
        """The stage whose artefact is the vector."""
        if self.vector:
            return "convert"
        if self.adapter:
            return "adapter"
        if self.gate:
            return "gated"
        if self.lora:
            return "lora"
        if self.prune:
            return "sparse"
        return "denoise" if self.denoise else "full"

    @property
    def chooses(self) -> bool:
        """Whether the vector is sparse, by a mask that is chosen here."""
        return self.stage == "sparse"

    @property
    def is_sparse(self) -> bool:
        """Whether the vector is sparse, wherever it was made."""
        return self.stage in ("sparse", "convert")


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
    ) = Field(
        default=None, description="of what the method trains by itself, instead of the target's own"
    )
    rounds: Annotated[int, Field(ge=1)] = Field(
        default=1, description="K is chosen in so many rounds, each with a full phase of its own"
    )
    adapter: Adapter | None = Field(
        default=None, description="MAD-X: adapters instead of a difference of weights"
    )
    gate: Gate | None = Field(default=None, description="Ada-SFT: a learned soft mask")
    lora: Lora | None = Field(default=None, description="a low-rank vector, trained as such")
    vector: _one_or_per_kind(Foreign | str) | None = Field(  # type: ignore[valid-type]
        default=None, description="vectors that exist already; nothing is trained"
    )

    @model_validator(mode="after")
    def _one_family(self) -> Self:
        families = [name for name in FAMILIES if getattr(self, name) is not None]
        if len(families) > 1:
            raise ValueError(
                f"give at most one of {', '.join(FAMILIES)}; given: {', '.join(families)}"
            )
        for family in families:
            allowed = {family, *FAMILIES[family]}
            for name, field in type(self).model_fields.items():
                if name not in allowed and getattr(self, name) != field.default:
                    raise ValueError(f"{name} has no effect on a method with {family}")
        if self.lora is not None and self.lora.rank is not None and self.budget is not None:
            raise ValueError("give one of budget and lora.rank, not both")
        return self

    @model_validator(mode="after")
    def _cells(self) -> Self:
        if not self.prune and self.retrain:
            raise ValueError(
                "prune: false with retrain: true would train everything again; "
                "say retrain: false as well"
            )
        if not self.prune:
            for name in ("shares", "budget", "choose_from", "layer_norm", "rounds"):
                if getattr(self, name) not in (None, "", False, 1):
                    raise ValueError(f"{name} has no effect with prune: false")
        if not self.retrain and self.learning_rate is not None:
            raise ValueError("learning_rate has no effect with retrain: false")
        if self.score != "magnitude":
            for name in ("denoise", "shares"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} needs score: magnitude, here it is {self.score}")
        if self.score != "magnitude" and not self.retrain:
            raise ValueError(f"retrain: false needs score: magnitude, here it is {self.score}")
        if self.rounds > 1 and (self.score != "magnitude" or not self.retrain):
            raise ValueError("rounds needs score: magnitude and retrain: true")
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
            rounds=self.rounds,
            adapter=self.adapter,
            gate=self.gate,
            lora=self.lora,
            vector=pick(self.vector),
        )


class System(Strict):
    """A pair: a method for the task vector and one for the language vectors."""

    task: str = Field(description="method of the task vector")
    language: str = Field(
        default="", description="method of the language vectors, or none; default: that of the task"
    )
    task_scale: float = 1.0
    language_scale: float = 1.0
    combine: Combine | None = Field(
        default=None, description="how the two become one; default: their sum"
    )
    task_start: str | None = Field(
        default=None, description="where its task vector starts, instead of the run's task_start"
    )

    @model_validator(mode="before")
    @classmethod
    def _same_for_both(cls, value: Any) -> Any:
        if isinstance(value, dict) and "task" in value and "language" not in value:
            return {**value, "language": value["task"]}
        return value
