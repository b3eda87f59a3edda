"""Settings of the figures: which systems differ in one value only."""

from typing import Annotated

from pydantic import Field

from deftx.store.strict import Strict


class Sweep(Strict):
    """Systems that differ in the value of one setting."""

    name: str = Field(description="the setting, such as rank")
    label: str = Field(description="the setting with its unit, as an axis is labelled")
    points: Annotated[list[tuple[float, str]], Field(min_length=1)] = Field(
        description="value and the system that has it"
    )
