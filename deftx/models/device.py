"""Where to compute. Free of transformers, whose import takes seconds."""

import os
from importlib.util import find_spec

import torch

from deftx.run.devices import VISIBLE, visible_devices
from deftx.store.errors import DeviceError

CONTEXT = 640 * 2**20
"""Bytes of a GPU that CUDA itself uses in each process: about 0.5 GiB."""


def limit_memory(share: int) -> None:
    """Let this process use at most so many bytes of the GPU's memory, its context included. One
    that needs more than it declared then runs out of memory itself, and not a job beside it."""
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((share - CONTEXT) / total, 0)


def available_device() -> torch.device:
    """The GPU, if there is one; of several processes that share a training each has its own.

    Raises DeviceError where PyTorch was built for GPUs and cannot use the one that is there: on
    the CPU a large model would train for weeks before anyone asked why.
    """
    if not torch.cuda.is_available():
        if torch.version.cuda is not None and (names := visible_devices()):
            raise DeviceError(
                f"PyTorch for CUDA {torch.version.cuda} cannot use GPU {', '.join(names)} (its "
                f"driver may be too old for it); set {VISIBLE}= to compute on the CPU"
            )
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def has_kernels() -> bool:
    """Whether Triton can make kernels for the GPU: it comes with PyTorch for CUDA on Linux."""
    return torch.version.cuda is not None and find_spec("triton") is not None


def pinned_for(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU as it is best copied to a device: from pinned memory, from which tensors
    move to a GPU while it computes."""
    return tensor.pin_memory() if device.type == "cuda" else tensor
