"""What a phase of training needs to know beyond what is learned and how."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import TrainerCallback

from deftx.engine.checkpoint import Checkpoint
from deftx.engine.settings import Engine


@dataclass(frozen=True)
class Session:
    """Seeds of its streams of randomness, the engine, and what may watch or interrupt it.

    Attributes:
        order_seed: of the order of the examples.
        draw_seed: of what the objective draws, such as masked tokens.
        dropout_seed: of dropout.
        engine: precision, compilation, devices.
        checkpoint: where the state is kept in between; None keeps none, and a signal ends the
            process as ever.
        report_to: trackers by the names that transformers has for them, such as `wandb`.
        callbacks: transformers' TrainerCallbacks.
    """

    order_seed: int = 0
    draw_seed: int = 0
    dropout_seed: int = 0
    engine: Engine = field(default_factory=Engine)
    checkpoint: Checkpoint | None = None
    report_to: Sequence[str] = ()
    callbacks: Sequence[TrainerCallback] = ()
