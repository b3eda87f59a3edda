"""How unlabelled text is cleaned."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from deftx.store.strict import Strict

Count = Annotated[int, Field(ge=1)]


class Cleaning(Strict):
    """Which lines of a language's text are left out, after its lines are put in NFC and their white
    space is collapsed."""

    min_characters: Count = Field(default=3, description="shorter lines are left out")
    max_characters: Count | None = Field(default=None, description="longer lines are left out")
    duplicates: bool = Field(default=True, description="leave out lines whose words have been seen")
    evaluation: bool = Field(
        default=True,
        description="leave out lines with the words of a sentence of the language's test and "
        "validation sets, or with a run of them",
    )
    run: Annotated[int, Field(ge=2)] | None = Field(
        default=10, description="length of such a run in words; null: whole sentences only"
    )

    @model_validator(mode="after")
    def _some_length(self) -> Self:
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError(
                f"max_characters ({self.max_characters}) is less than min_characters "
                f"({self.min_characters}): no line could stay"
            )
        return self
