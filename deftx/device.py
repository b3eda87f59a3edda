"""Where to compute. Free of transformers, whose import takes seconds."""

import os
from importlib import import_module

import torch


def available_device() -> torch.device:
    """The GPU, if there is one; of several processes that share a training each has its own.

    Raises DeviceError where PyTorch was built for GPUs and cannot use the one that is there: on
    the CPU a large model would train for weeks before anyone asked why.
    """
    if not torch.cuda.is_available():
        # By its name: the fingerprint does not follow that, and no result depends on it.
        devices = import_module("deftx.devices")
        if torch.version.cuda is not None and (names := devices.visible_devices()):
            raise devices.DeviceError(
                f"PyTorch for CUDA {torch.version.cuda} cannot use GPU {', '.join(names)} (its "
                f"driver may be too old for it); set {devices.VISIBLE}= to compute on the CPU"
            )
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
