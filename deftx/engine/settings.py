"""How a language or a task is trained, and how training runs on a machine. Free of torch."""

from math import ceil
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deftx.store.errors import InputError
from deftx.store.strict import Strict, absent

Count = Annotated[int, Field(ge=1)]

MetricName = Literal["macro_f1", "accuracy", "entity_f1"]
"""Scores of a task; entity_f1 is of named entities only."""

Average = Annotated[
    Count | None,
    Field(
        description="the mean of the last so many evaluated states, in place of the best one",
        exclude_if=absent,
    ),
]


class Training(Strict):
    """Settings shared by both kinds of target; the defaults are those of the public LT-SFT code
    wherever the two kinds agree. AdamW (0.9, 0.999, 1e-8), linear decay to 0, LayerNorm frozen."""

    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Count = Field(description="examples (or blocks) in one forward pass")
    accumulation: Count = Field(
        default=1, description="batches per optimiser step, whose loss is the mean over all of them"
    )
    epochs: Annotated[float, Field(gt=0)]
    min_steps: Annotated[int, Field(ge=0)] = Field(
        default=0, description="optimiser steps at least, whatever the epochs"
    )
    max_steps: Count | None = Field(
        default=None, description="optimiser steps at most, whatever the epochs"
    )
    max_length: Count = Field(description="tokens per example, or per block of text")
    evaluate_every: Count | Literal["epoch"] = Field(
        description="steps between evaluations on held-out data; the best checkpoint is kept"
    )
    average: Average = None
    l1: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="weight of Σ|p − p_start| / N over all trained parameters"
    )
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip: Annotated[float, Field(gt=0)] = Field(default=1.0, description="largest gradient norm")

    @model_validator(mode="after")
    def _average_is_possible(self) -> Self:
        self.check_average(self.average)
        return self

    def check_average(self, average: int | None) -> None:
        """Raise InputError if fewer states are evaluated than are to be averaged, however many
        examples there are."""
        most: int | None = None
        if self.evaluate_every != "epoch":
            most = self.max_steps and -(-self.max_steps // self.evaluate_every)
        elif self.min_steps == 0:
            most = ceil(self.epochs)
        if average is not None and most is not None and average > most:
            raise InputError(f"average: {average} states, but at most {most} are evaluated")

    def steps(self, *examples: int) -> int:
        """Optimiser steps of one phase over this many training examples of each source."""
        steps = max(round(self.epochs * self.steps_per_epoch(*examples)), self.min_steps, 1)
        return min(steps, self.max_steps) if self.max_steps else steps

    def steps_per_epoch(self, *examples: int) -> int:
        """Optimiser steps of one pass over this many training examples of each source; no batch
        holds examples of two."""
        batches = sum(-(-few // self.batch_size) for few in examples)
        return -(-batches // self.accumulation)


class LanguageTraining(Training):
    """Masked-language modelling on the text of one language."""

    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    batch_size: Count = 8
    epochs: Annotated[float, Field(gt=0)] = 100
    min_steps: Annotated[int, Field(ge=0)] = 10_000
    max_steps: Count | None = 100_000
    max_length: Count = 256
    packed: bool = Field(
        default=True,
        description="run lines together into blocks of max_length tokens; false: each line an "
        "example of its own",
    )
    evaluate_every: Count | Literal["epoch"] = 1_000
    l1: Annotated[float, Field(ge=0)] = 0.1
    mask_probability: Annotated[float, Field(gt=0, lt=1)] = 0.15
    held_out: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.05, description="share of the lines, the first ones, that validates"
    )


class TaskTraining(Training):
    """A task on the labelled data of the source language."""

    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    batch_size: Count = 8
    epochs: Annotated[float, Field(gt=0)] = 5
    max_length: Count = 128
    evaluate_every: Count | Literal["epoch"] = "epoch"
    full_epochs: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        exclude_if=absent,
        description="epochs where all weights are trained, instead of `epochs`: in dense methods "
        "and in the first phase of sparse ones",
    )
    head_seed: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        exclude_if=absent,
        description="the seed that the head's first values are drawn from, whatever the run's "
        "seed; default: the run's seed",
    )
    metric: MetricName = Field(
        default="macro_f1",
        description="what chooses the best checkpoint on validation data, and what tables show; "
        "default of tagging: entity_f1 if there are entities, else accuracy",
    )


class Engine(Strict):
    """What changes the speed and the rounding of training, and nothing else of its meaning.

    `auto` is resolved on the device at hand, and the provenance records the result.
    """

    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="bf16: matrix products in bfloat16, trained values in float32; auto: bf16 on a "
        "GPU that has it, else fp32",
    )
    compile: bool | Literal["auto", "max-autotune"] = Field(
        default="auto",
        description="torch.compile of an encoder's layers: no, its default mode (true), or another "
        "of its modes; auto: true on a GPU for trainings of 10,000 steps and more, and plain "
        "execution if compilation fails there; else false",
    )
    graph: bool | Literal["auto"] = Field(
        default="auto",
        description="one CUDA graph for each step, which replays all its kernels at once; auto: on "
        "an NVIDIA GPU for trainings of 50 steps and more in one process; else false",
    )
    attention: Literal["sdpa", "eager", "flash_attention_2"] = Field(
        default="sdpa",
        description="transformers' implementation of attention; sdpa takes PyTorch's flash kernels "
        "where they apply, flash_attention_2 needs the package flash-attn",
    )
    on_out_of_memory: Literal["stop", "halve"] = Field(
        default="stop",
        description="of the GPU; halve: smaller and more forward passes per step from there on, "
        "the step's examples and loss staying the same",
    )
    devices: Annotated[int, Field(ge=1)] = Field(
        default=1, description="GPUs that share the forward passes of one training job"
    )
