"""How training runs on a machine: precision, compilation, devices."""

from typing import Annotated, Literal

from pydantic import Field

from deftx.store.strict import Strict


class Engine(Strict):
    """What changes the speed and the rounding of training, and nothing else of its meaning.

    `auto` is resolved on the device that is there; what came out of it stands in the provenance.
    """

    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="bf16: matrix products in bfloat16, trained values in float32; auto: bf16 on a "
        "GPU that has it, else fp32",
    )
    compile: bool | Literal["auto", "reduce-overhead", "max-autotune"] = Field(
        default="auto",
        description="torch.compile: no, its default mode (true), or another of its modes; auto: "
        "true on a GPU for trainings of 2,000 steps and more, and plain execution if compilation "
        "fails there; else false",
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
