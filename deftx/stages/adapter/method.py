"""MAD-X as a method. Free of torch."""

from typing import ClassVar

from pydantic import Field

from deftx.plan.method import LearningRate, Row
from deftx.stages.adapter.settings import Adapter


class MadX(Row):
    """MAD-X: adapters of languages and tasks, stacked."""

    stage: ClassVar[str] = "adapter"
    key: ClassVar[str] = "adapter"
    is_stacked: ClassVar[bool] = True

    adapter: Adapter = Field(description="MAD-X: adapters instead of a difference of weights")
    learning_rate: LearningRate = None
