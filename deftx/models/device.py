"""Where to compute. Free of transformers, whose import takes seconds."""

import os
from importlib.util import find_spec

import torch

from deftx.run.devices import VISIBLE, visible_devices
from deftx.store.errors import DeviceError


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
