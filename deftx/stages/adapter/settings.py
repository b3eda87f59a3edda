"""What the adapters of MAD-X look like."""

from typing import Annotated, Any, Literal

from pydantic import Field

from deftx.store.strict import Strict

Reduction = Annotated[int, Field(ge=1)]

_OF_TASKS = {"task_reduction", "drop_last"}
_OF_LANGUAGES = {"language_reduction", "invertible_reduction"}


class Adapter(Strict):
    """Sizes and shape of bottleneck and invertible adapters; the defaults are those of MAD-X 2.0
    as a baseline (the tlr-adapters scripts)."""

    task_reduction: Reduction = Field(
        default=16, description="hidden size over the bottleneck of a task's adapter"
    )
    language_reduction: Reduction = Field(
        default=2, description="hidden size over the bottleneck of a language's adapter"
    )
    invertible_reduction: Reduction | None = Field(
        default=2,
        description="of each half of a language's invertible adapter; null: it has none",
    )
    non_linearity: Literal["relu", "gelu", "swish", "tanh"] = Field(
        default="relu", description="inside of bottlenecks and invertible adapters"
    )
    drop_last: Annotated[int, Field(ge=0)] = Field(
        default=1,
        description="so many of the last layers have no adapter where a task's adapter is trained "
        "and evaluated, that of the language left out too: 1 is MAD-X 2.0, 0 is MAD-X",
    )

    def relevant(self, *, language: bool) -> dict[str, Any]:
        """What an adapter of a language, or of a task, depends on, as plain values."""
        return self.model_dump(exclude=_OF_TASKS if language else _OF_LANGUAGES)
