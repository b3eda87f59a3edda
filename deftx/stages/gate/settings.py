"""How the gates of Ada-SFT are parametrised and learned."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deftx.store.strict import Strict

FLAT_BEYOND = {"sigmoid": 16.0, "hard-sigmoid": 3.0}
"""Where σ has no slope left, in float32: gates that start there never move."""


class Gate(Strict):
    """The gates M = σ(S) that multiply the matrices of the backbone's linear layers."""

    granularity: Literal["entry", "matrix", "block"] = Field(
        default="entry",
        description="what has its own gate: each weight (as in the paper), each matrix, "
        "or each transformer block",
    )
    function: Literal["sigmoid", "hard-sigmoid"] = Field(
        default="sigmoid",
        description="σ; hard-sigmoid: min(1, max(0, S/6 + 1/2)), which reaches 0 and 1",
    )
    initial: Annotated[float, Field(allow_inf_nan=False)] = Field(
        default=4.0, description="of every S; σ(4) is 0.982, near the base itself"
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        default=1e-2, description="of S; the head has that of the target"
    )

    @model_validator(mode="after")
    def _starts_where_it_can_move(self) -> Self:
        limit = FLAT_BEYOND[self.function]
        if not abs(self.initial) < limit:
            raise ValueError(
                f"initial is {self.initial}: {self.function} is flat there and no gate would ever "
                f"move; expected a number between {-limit} and {limit}"
            )
        return self
