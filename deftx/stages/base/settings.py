"""Where the base model comes from."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deftx.store.strict import Strict, exactly_one

Count = Annotated[int, Field(ge=1)]


class Pretrain(Strict):
    """A small XLM-R made by the workflow itself."""

    text: str = Field(description="dataset that holds the text")
    languages: Annotated[list[str], Field(min_length=1)]
    vocabulary: Annotated[int, Field(ge=32)] = 2_000
    layers: Count = 3
    hidden: Count = 96
    heads: Count = 4
    intermediate: Count = 384
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    max_length: Count = 64
    steps: Count = 1_000
    batch_size: Count = 64
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    seed: int = 0

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden % self.heads or self.hidden % 2:
            raise ValueError(
                f"hidden ({self.hidden}) must be even and a multiple of heads ({self.heads})"
            )
        return self


class BaseModelSource(Strict):
    """A pretrained encoder by hub id or local folder, or one pretrained here."""

    model: str | None = Field(
        default=None, description="hub id, or a folder (absolute, or below data_dir)"
    )
    revision: str | None = Field(default=None, description="of a hub model: a commit")
    head: Literal["fresh"] | None = Field(
        default=None, description="fresh: draw a language-model head that the model does not store"
    )
    head_seed: int = Field(default=0, description="which a fresh head is a function of")
    allow_pickle: bool = Field(
        default=False,
        description="read pytorch_model.bin where there are no safetensors, as tensors only",
    )
    pretrain: Pretrain | None = None

    _one_source = exactly_one("model", "pretrain")
