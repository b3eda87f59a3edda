"""What the adapters of MAD-X look like."""

from typing import Annotated, Any, Literal

from pydantic import Field

from deftx.store.errors import InputError
from deftx.store.strict import Strict

BEFORE_DECODER = {
    "bert": "cls.predictions.transform",
    "camembert": "lm_head.layer_norm",
    "roberta": "lm_head.layer_norm",
    "xlm-roberta": "lm_head.layer_norm",
}
"""Model types whose layers end as those of BERT do → the part of their masked-language model whose
output goes into the decoder. Not the decoder itself, which training takes out of the model."""

Reduction = Annotated[int, Field(ge=1)]


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
        default=2, description="of each half of a language's invertible adapter; null: it has none"
    )
    non_linearity: Literal["relu", "gelu", "swish", "tanh"] = Field(
        default="relu", description="inside bottlenecks and invertible adapters"
    )
    drop_last: Annotated[int, Field(ge=0)] = Field(
        default=1,
        description="number of last layers without adapters, the language's included, when a task "
        "is trained and evaluated: 1 is MAD-X 2.0, 0 is MAD-X",
    )

    def relevant(self, *, language: bool) -> dict[str, Any]:
        """What an adapter of a language, or of a task, depends on, as plain values."""
        of_tasks = {"task_reduction", "drop_last"}
        of_languages = {"language_reduction", "invertible_reduction"}
        return self.model_dump(exclude=of_tasks if language else of_languages)


def check_takes_adapters(model_type: str, layers: int, drop_last: int) -> None:
    """Raise InputError if a model takes no adapters, or none of its layers is left for them."""
    if model_type not in BEFORE_DECODER:
        raise InputError(
            f"the base is of model type {model_type!r}, which takes no adapters; those that do: "
            f"{', '.join(BEFORE_DECODER)}"
        )
    if drop_last >= layers:
        raise InputError(
            f"adapter.drop_last is {drop_last}, the base has {layers} layers: none is left"
        )
