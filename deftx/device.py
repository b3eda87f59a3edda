"""Where to compute. Free of transformers, whose import takes seconds."""

import torch


def available_device() -> torch.device:
    """The GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
