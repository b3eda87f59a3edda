"""Methods whose vector is the whole difference: plain fine-tuning, task arithmetic. Free of
torch."""

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from deftx.models.base import Base
from deftx.plan.method import Row, check_truncates
from deftx.stages.denoise.settings import RankRule


class Dense(Row):
    """The whole difference, denoised or not: plain fine-tuning, task arithmetic."""

    takes_several_sources: ClassVar[bool] = True

    prune: Literal[False]
    retrain: bool = True
    denoise: RankRule | None = None

    @property
    def stage(self) -> str:
        """The stage whose artefact is the vector."""
        return "denoise" if self.denoise else "full"

    @property
    def rank_rule(self) -> RankRule | None:
        """How the difference is denoised, if it is."""
        return self.denoise

    @property
    def full_average(self) -> int | None:
        """The full phase is the only one."""
        return self.average

    @model_validator(mode="after")
    def _is_not_trained_again(self) -> Self:
        if self.retrain:
            raise ValueError(
                "prune: false with retrain: true would train everything again; add retrain: false"
            )
        return self

    def check_base(self, base: Base) -> None:
        """Raise InputError if the rank rule truncates no matrix of this base."""
        if self.denoise is not None:
            check_truncates(self.denoise, base)
