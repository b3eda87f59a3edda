"""Where to compute. Free of transformers, whose import takes seconds."""

import os

import torch


def available_device() -> torch.device:
    """The GPU, if there is one; of several processes that share a training each has its own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
