"""LoRA, the control with as many trained parameters: thin factors in place of chosen entries."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from deftx.store.strict import Strict


class Lora(Strict):
    """Low-rank adaptation (Hu et al. 2022) of every linear layer, without dropout."""

    rank: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="of every product; default: the largest with at most K parameters"
    )
    alpha: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="products are scaled by alpha / rank; default: twice the rank"
    )

    def alpha_of(self, rank: int) -> float:
        """alpha for factors of this rank."""
        return 2.0 * rank if self.alpha is None else self.alpha


def largest_rank(shapes: Iterable[tuple[int, ...]], k: int) -> int:
    """The largest rank at which the factors of all matrices of these shapes have together at most
    k parameters. Raises ValueError if rank 1 already has more."""
    each = sum(rows + columns for rows, columns in shapes)
    if k < each:
        raise ValueError(
            f"budget: K is {k}, but LoRA of rank 1 has {each} parameters: give a larger budget"
        )
    return k // each
