"""How unlabelled text is cleaned."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from deftx.store.strict import Strict

Count = Annotated[int, Field(ge=1)]


class Cleaning(Strict):
    """What is left out of a language's text, once its lines are in NFC and their white space is
    collapsed."""

    min_characters: Count = Field(default=3, description="shorter lines are left out")
    max_characters: Count | None = Field(default=None, description="longer lines are left out")
    duplicates: bool = Field(
        default=True,
        description="leave out lines whose key, their words alone, has been seen",
    )
    evaluation: bool = Field(
        default=True,
        description="leave out lines with the key of a sentence of the language's test and "
        "validation sets, or with a run of its words",
    )
    run: Annotated[int, Field(ge=2)] | None = Field(
        default=10, description="words in a row that are such a run; null: equal keys only"
    )

    @model_validator(mode="after")
    def _some_length(self) -> Self:
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError(
                f"max_characters ({self.max_characters}) is less than min_characters "
                f"({self.min_characters}): no line could stay"
            )
        return self
