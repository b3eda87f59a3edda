"""What is learned: examples, how they become batches, and what tells a good checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Example = dict[str, Any]


@dataclass(frozen=True)
class Objective:
    """Training and validation examples, and what tells a good checkpoint.

    Attributes:
        train, valid: tokenised examples.
        collate: makes a batch of training or validation examples.
        best: name of the validation value that chooses the checkpoint: `loss`, or a metric.
        score: (logits, labels) → metrics; None where the loss is all there is.
    """

    train: Sequence[Example]
    valid: Sequence[Example]
    collate: Callable[[list[Example]], dict[str, torch.Tensor]]
    best: str
    score: Callable[[np.ndarray, np.ndarray], dict[str, float]] | None = None
