"""The ids of an evaluation's items as a tensor: UTF-8 with a line feed between them."""

from collections.abc import Iterable

import numpy as np
import torch


def encode_ids(ids: Iterable[str]) -> torch.Tensor:
    """The ids as uint8 (bytes,)."""
    return torch.frombuffer(bytearray("\n".join(ids).encode()), dtype=torch.uint8)


def decode_ids(tensor: torch.Tensor) -> np.ndarray:
    """The inverse of `encode_ids`: strings (items,)."""
    return np.array(tensor.numpy().tobytes().decode().split("\n"))
