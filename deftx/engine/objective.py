"""What is learned: examples, how they become a loss, and the value that chooses a checkpoint."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from deftx.models.token_arrays import Example, Examples

Batch = dict[str, torch.Tensor]


class Learner(torch.nn.Module):
    """A model with a loss: its forward pass takes a batch to the sum of the cross-entropies of its
    labels, ()."""

    model: PreTrainedModel

    def close(self) -> None:
        """Leave the model as it was made; most learners change nothing."""


class Objective(ABC):
    """Training and validation examples of a target, and their loss.

    Everything random in it is a pure function of a seed that is given with each step, so that
    training can go on from any step.

    Attributes:
        best: name of the validation value that chooses the checkpoint: `loss`, or a metric.
        validates: whether there are validation examples.
        sources: how many training examples each source has, in whose order the examples are; most
            targets have one source.
    """

    best: str
    validates: bool = True

    def __init__(self, train: Examples, sources: tuple[int, ...] = ()) -> None:
        self._train = train
        self.sources = sources or (len(train),)

    def __len__(self) -> int:
        return len(self._train)

    @abstractmethod
    def examples(self, indices: Sequence[int], seed: int) -> list[Example]:
        """Training examples by number, drawn anew from `seed` where something is random in them."""

    @abstractmethod
    def collate(self, examples: Sequence[Example], rows: int = 0) -> Batch:
        """Examples as one padded batch for `learner`. With `rows`, filled up to so many by rows
        that do not count, and other sizes rounded up: code is compiled for each shape."""

    @abstractmethod
    def labels(self, example: Example) -> int:
        """How many labels of an example the loss sums over."""

    @abstractmethod
    def learner(self, model: PreTrainedModel, low: torch.dtype = torch.float32) -> Learner:
        """A module around `model`; `low` is the dtype of matrix products."""

    @abstractmethod
    def validate(self, learner: Learner, device: torch.device) -> dict[str, float]:
        """Validation values, `best` among them, of a learner in evaluation mode."""


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32 if its own precision is lower; a model in float64 keeps that."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def rounded_up(size: int, multiple: int) -> int:
    """The smallest multiple that is not below `size`."""
    return -(-size // multiple) * multiple
