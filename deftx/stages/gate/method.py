"""Ada-SFT as a method. Free of torch."""

from collections.abc import Collection
from typing import ClassVar

from pydantic import Field

from deftx.models.base import Base
from deftx.plan.method import LearningRate, Row
from deftx.stages.gate.settings import Gate


class AdaSft(Row):
    """Ada-SFT: a learned soft mask, and weights that are trained behind it."""

    stage: ClassVar[str] = "gated"
    key: ClassVar[str] = "gate"

    gate: Gate = Field(description="Ada-SFT: a learned soft mask")
    learning_rate: LearningRate = None

    def changes(self, base: Base) -> Collection[str]:
        """The names of the matrices of linear layers."""
        return base.linear
