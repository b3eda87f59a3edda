"""Entries chosen in several rounds: which round of how many it is. Source: `n_ft_iterations` of the
public LT-SFT code."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from deftx.store.strict import Strict


class Round(Strict):
    """A round of training, the first one or a later one."""

    round: Annotated[int, Field(ge=1)] = Field(
        default=1, description="later ones begin with the vector of the round before"
    )

    def phase(self, name: str) -> str:
        """The name under which a phase of this round draws its randomness: in the first round that
        of the phase itself, so that all methods share it."""
        return name if self.round == 1 else f"{name}-{self.round}"


class RoundOf(Round):
    """A round of a known number of them."""

    rounds: Annotated[int, Field(ge=1)] = Field(
        default=1, description="in how many rounds K is chosen"
    )

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if self.round > self.rounds:
            raise ValueError(f"round is {self.round}, but rounds is {self.rounds}")
        return self

    def budgets(self, k: int) -> tuple[int, int]:
        """How many of all k entries are chosen before this round, and at its end."""
        return k * (self.round - 1) // self.rounds, k * self.round // self.rounds
