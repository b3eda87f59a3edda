"""Several processes that share the steps of one training, through torch.distributed.

They start under PyTorch's launcher, which sets RANK and WORLD_SIZE. What they exchange is the
gradients of what trains: in the sparse phase K values and the head, not the whole model.
Design choice; DistributedDataParallel would exchange dense gradients.
"""

import os
from collections.abc import Iterable
from datetime import timedelta

import torch

from deftx.store.errors import ProcessLostError

PATIENCE = timedelta(minutes=30)
"""How long processes wait for the first one, which alone validates and saves."""


def share() -> tuple[int, int]:
    """(rank, processes): this process's number, and how many there are."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return share()[0] == 0


def join_processes(device: torch.device) -> None:
    """Meet the other processes of this training, if there are any."""
    if share()[1] == 1 or torch.distributed.is_initialized():
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)


def add_up_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its sum over all processes; a missing one counts as zeros. Raises
    ProcessLostError if another process has ended."""
    if share()[1] == 1:
        return
    waiting = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        waiting.append(torch.distributed.all_reduce(parameter.grad, async_op=True))
    try:
        for work in waiting:
            work.wait()
    except RuntimeError as error:
        raise ProcessLostError(
            f"process {share()[0]} of {share()[1]} ends, since another one did: see its messages. "
            f"PyTorch: {error}"
        ) from None
