"""MAD-X as a method. Free of torch."""

from typing import ClassVar

from pydantic import Field

from deftx.models.base import Base
from deftx.plan.method import LearningRate, Row
from deftx.stages.adapter.settings import Adapter, check_takes_adapters


class MadX(Row):
    """MAD-X: adapters of languages and tasks, stacked."""

    stage: ClassVar[str] = "adapter"
    key: ClassVar[str] = "adapter"
    is_stacked: ClassVar[bool] = True

    adapter: Adapter = Field(description="MAD-X: adapters instead of a difference of weights")
    learning_rate: LearningRate = None

    def check_base(self, base: Base) -> None:
        """Raise InputError if this base takes no adapters, or all its layers go without."""
        check_takes_adapters(base.model_type, base.depth, self.adapter.drop_last)
