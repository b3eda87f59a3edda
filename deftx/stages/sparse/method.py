"""Methods that train chosen entries: DeFT-X, LT-SFT, SC-SFT, Rand-SFT, BitFit. Free of torch."""

from collections.abc import Collection, Iterator
from math import prod
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from deftx.core.places import in_lower_part
from deftx.core.shares import group_names, largest_remainder
from deftx.engine.settings import Average
from deftx.models.base import Base
from deftx.plan.method import KINDS, Kind, LearningRate, Row, check_truncates, unknown
from deftx.stages.denoise.settings import RankRule
from deftx.stages.mask.settings import ObservedShares, Selection, entries
from deftx.store.errors import InputError


class Sparse(Row, Selection):
    """A sparse vector: score the entries of the difference, choose K of them, train those."""

    stage: ClassVar[str] = "sparse"
    is_sparse: ClassVar[bool] = True
    takes_several_sources: ClassVar[bool] = True

    denoise: RankRule | None = Field(
        default=None, description="choose from the denoised difference; default: from the raw one"
    )
    prune: Literal[True] = Field(
        default=True, description="false: the whole difference is the vector, nothing is chosen"
    )
    retrain: bool = Field(
        default=True, description="false: the vector is the pruned difference itself"
    )
    learning_rate: LearningRate = None
    rounds: Annotated[int, Field(ge=1)] = Field(
        default=1, description="K is chosen in this many rounds, each with its own full phase"
    )
    average_full: Average = None

    @property
    def selection(self) -> Selection:
        """What the stage `mask` reads of the method."""
        return Selection.model_validate(self.model_dump(include=set(Selection.model_fields)))

    @property
    def full_average(self) -> int | None:
        """Entries are chosen from the difference of the averaged full phase."""
        return self.average_full

    @property
    def retrains(self) -> bool:
        """Whether the values of the vector are trained after its entries are selected."""
        return self.retrain

    @property
    def selected(self) -> str:
        """In words, the entries that the method selects."""
        if self.score == "none":
            return "all entries that the method may select"
        words = "entries drawn uniformly at random"
        if self.score == "magnitude":
            words = "the largest entries of the difference that full fine-tuning makes"
        if self.denoise is not None:
            words += ", denoised"
        if self.keep_lower is not None:
            words += (
                f", in the embeddings and the lowest {100 * self.keep_lower:g} % of the layers "
                "(entries of the other layers were trained together with them and discarded)"
            )
        return words

    @property
    def rank_rule(self) -> RankRule | None:
        """How the difference is denoised, if it is."""
        return self.denoise

    @property
    def observes(self) -> str | None:
        """The method whose mask this one counts, if any."""
        return self.shares.observed if isinstance(self.shares, ObservedShares) else None

    def with_budget(self, budget: int | float | str) -> Self:
        """The row with the run's K where it gives none and needs one."""
        if self.score == "none" or self.budget is not None:
            return self
        return self.model_copy(update={"budget": budget})

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        if not self.retrain and self.learning_rate is not None:
            raise ValueError("learning_rate has no effect with retrain: false")
        if not self.retrain and self.average is not None:
            raise ValueError("average has no effect with retrain: false; average_full has")
        if self.score != "magnitude":
            for name, value in (
                ("denoise", self.denoise),
                ("shares", self.shares),
                ("average_full", self.average_full),
            ):
                if value is not None:
                    raise ValueError(f"{name} needs score: magnitude, but score is {self.score}")
            if not self.retrain:
                raise ValueError(f"retrain: false needs score: magnitude, but it is {self.score}")
        if self.rounds > 1 and (self.score != "magnitude" or not self.retrain):
            raise ValueError("rounds needs score: magnitude and retrain: true")
        if self.keep_lower is not None:
            if self.score == "none" or not self.retrain:
                raise ValueError("keep_lower needs a score and retrain: true; see choose_from")
            if self.shares is not None or self.rounds > 1:
                raise ValueError("keep_lower goes neither with shares nor with rounds")
        if self.score == "none" and self.budget is not None:
            raise ValueError("budget has no effect with score: none, which takes everything")
        return self

    def changes(self, base: Base) -> Collection[str]:
        """The names of the parameters that the entries of the vector are chosen from."""
        return self._kept(base)

    def _kept(self, base: Base) -> dict[str, tuple[int, ...]]:
        """Name → shape of these parameters."""
        shapes = base.candidates(self.choose_from, self.layer_norm)
        if self.keep_lower is None:
            return shapes
        base.check_own_layers("keep_lower")
        try:
            lower = in_lower_part(base.known_as, self.keep_lower)
        except InputError as error:
            raise InputError(f"keep_lower: {error}") from None
        return {name: shape for name, shape in shapes.items() if name in lower}

    def check_base(self, base: Base) -> None:
        """Raise InputError if nothing may be chosen on this base, K is larger than what may be or
        too small for the rounds, a group is empty or too small, a tensor is in no group, the rank
        rule truncates no matrix, or there is no lower part of the layers."""
        if self.denoise is not None:
            check_truncates(self.denoise, base)
        shapes = self._kept(base)
        if self.score == "none":
            return
        assert self.budget is not None, "the config fills it in"
        sizes = {name: prod(shape) for name, shape in shapes.items()}
        maskable = sum(map(prod, base.maskable.values()))
        k = entries(self.budget, maskable)
        if not self.rounds <= k <= sum(sizes.values()):
            raise InputError(
                f"budget: K is {k} ({self.budget}, of {maskable} maskable entries), but it must be "
                f"at least {self.rounds} and at most the {sum(sizes.values())} entries that may be "
                "chosen" + " and kept" * (self.keep_lower is not None)
            )
        if not isinstance(self.shares, dict):  # observed shares are known later
            return
        parts = largest_remainder(k, self.shares)
        for group, names in group_names(sizes, self.shares, base.known_as).items():
            if parts[group] > (size := sum(sizes[name] for name in names)):
                raise InputError(
                    f"shares: group '{group}' is to have {parts[group]} of K = {k} entries, but it "
                    f"has only {size}"
                )

    @classmethod
    def problems(cls, config: Any) -> Iterator[str]:
        """Shares that are counted in no mask, or do not sum to 1."""
        for name, method in config.methods.items():
            for kind in KINDS:
                row, key = method.row(kind), f"methods.{name}.shares"
                given = row.shares if isinstance(row, cls) else None
                if isinstance(given, dict) and abs((total := sum(given.values())) - 1) > 1e-9:
                    yield f"{key}: the shares for a {kind} sum to {total:.6g}, not to 1"
                if (other := row.observes) is None:
                    continue
                observed = config.row(other, kind) if other in config.methods else None
                if observed is None:
                    yield unknown(key, other, config.methods, "method")
                elif not isinstance(observed, cls):
                    yield f"{key}: observed: {other} has no mask"
                elif observed.rounds > 1:
                    yield f"{key}: observed: {other} chooses in several rounds"
                elif observed.keep_lower is not None:
                    yield f"{key}: observed: {other} chooses entries that it discards"
                elif _leads_back(config, name, kind):
                    yield f"{key}: observed: {other} leads back to {name}"


def _leads_back(config: Any, method: str, kind: Kind) -> bool:
    """Whether the methods that a method observes, one after another, lead back to itself."""
    seen, current = set(), config.row(method, kind).observes
    while current in config.methods and current not in seen:
        seen.add(current)
        current = config.row(current, kind).observes
    return method in seen
