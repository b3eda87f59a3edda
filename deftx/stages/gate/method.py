"""Ada-SFT as a method. Free of torch."""

from typing import ClassVar

from pydantic import Field

from deftx.plan.method import LearningRate, Row
from deftx.stages.gate.settings import Gate


class AdaSft(Row):
    """Ada-SFT: a learned soft mask, and weights that are trained behind it."""

    stage: ClassVar[str] = "gated"
    key: ClassVar[str] = "gate"

    gate: Gate = Field(description="Ada-SFT: a learned soft mask")
    learning_rate: LearningRate = None
