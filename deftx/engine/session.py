"""What a phase of training needs to know beyond what is learned and how."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from deftx.engine.checkpoint import Checkpoint
from deftx.engine.processes import share
from deftx.engine.settings import Engine
from deftx.models.device import has_kernels
from deftx.store.errors import InputError


@dataclass(frozen=True)
class Session:
    """Seeds of its streams of randomness, the engine, and what may watch or interrupt it.

    Attributes:
        order_seed: of the order of the examples.
        draw_seed: of what the objective draws, such as masked tokens.
        dropout_seed: of dropout.
        engine: precision, compilation, devices.
        checkpoint: where the state is kept in between; None keeps none, and a signal ends the
            process at once.
        report_to: trackers by the names that accelerate has for them, such as `wandb`.
        before_step: called before each step with the number of steps that are done; an exception
            ends training.
    """

    order_seed: int = 0
    draw_seed: int = 0
    dropout_seed: int = 0
    engine: Engine = field(default_factory=Engine)
    checkpoint: Checkpoint | None = None
    report_to: Sequence[str] = ()
    before_step: Callable[[int], None] = lambda step: None


@dataclass(frozen=True)
class Resolved:
    """What training does on this device.

    Attributes:
        device: `cpu` or `cuda`.
        precision: `fp32` or `bf16`.
        compile: mode of torch.compile for the encoder's layers, or None.
        graph: whether a step is a CUDA graph.
        fused: whether Triton's kernels move the values.
    """

    device: str
    precision: str
    compile: str | None
    graph: bool
    fused: bool

    @property
    def low(self) -> torch.dtype:
        """The dtype of matrix products."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32


STEPS_WORTH_COMPILING = 10_000
"""Compiling takes 13 s, or 3 s where its caches are filled, and saves 1.3 ms of a step of XLM-R
base (one H200, `benchmarks.gpu`)."""

STEPS_WORTH_RECORDING = 50
"""Recording takes less than a second, and the steps before it run plainly."""


def resolve(engine: Engine, device: torch.device, steps: int = 0) -> Resolved:
    """The settings with every `auto` decided for `device` and so many steps; see `Engine`. Raises
    InputError if CUDA graphs are asked for where there are none."""
    on_gpu = device.type == "cuda"
    precision = engine.precision
    if precision == "auto":
        has_bf16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if has_bf16 else "fp32"
    worth_it = on_gpu and steps >= STEPS_WORTH_COMPILING
    wanted = worth_it if engine.compile == "auto" else engine.compile
    mode = wanted if isinstance(wanted, str) else "default" if wanted else None
    cuda = on_gpu and torch.version.cuda is not None
    if engine.graph is True and not cuda:
        raise InputError(f"engine.graph is true: CUDA graphs need a GPU, the device is {device}")
    graph = steps >= STEPS_WORTH_RECORDING if engine.graph == "auto" else engine.graph
    fused = on_gpu and has_kernels()
    return Resolved(device.type, precision, mode, cuda and graph and share()[1] == 1, fused)
