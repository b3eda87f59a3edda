"""LoRA as a method. Free of torch."""

from collections.abc import Collection
from math import prod
from typing import ClassVar, Self

from pydantic import Field, model_validator

from deftx.models.base import Base
from deftx.plan.method import LearningRate, Row
from deftx.stages.lora.settings import Lora, largest_rank
from deftx.stages.mask.settings import Budget, entries


class LowRankTraining(Row):
    """LoRA: trained low-rank factors, of a given rank or the largest that the budget allows."""

    stage: ClassVar[str] = "lora"
    key: ClassVar[str] = "lora"

    lora: Lora = Field(description="a low-rank vector, trained as such")
    budget: Budget | None = None
    learning_rate: LearningRate = None

    def with_budget(self, budget: int | float | str) -> Self:
        """The row with the run's K where it gives none and needs one."""
        if self.lora.rank is not None or self.budget is not None:
            return self
        return self.model_copy(update={"budget": budget})

    @model_validator(mode="after")
    def _one_source_of_the_rank(self) -> Self:
        if self.lora.rank is not None and self.budget is not None:
            raise ValueError("give one of budget and lora.rank, not both")
        return self

    def changes(self, base: Base) -> Collection[str]:
        """The names of the matrices of linear layers."""
        return base.linear

    def check_base(self, base: Base) -> None:
        """Raise InputError if the budget has no room for rank 1 on this base."""
        if self.budget is not None:
            linear = list(base.linear.values())
            largest_rank(linear, entries(self.budget, sum(map(prod, base.maskable.values()))))
