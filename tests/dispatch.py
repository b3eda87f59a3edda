"""Modes that see every operation which PyTorch dispatches: they count kernels and bytes, refuse to
wait for a device, and record and replay as a CUDA graph does."""

from collections import Counter
from contextlib import contextmanager, nullcontext
from functools import wraps
from inspect import signature

import plain_kernels
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten

NO_KERNEL = {
    aten._unsafe_view, aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty,
    aten.new_empty_strided, aten.promote_types,
}  # fmt: skip
"""Operations that neither make views nor launch anything."""

KERNELS = ("squares_of", "move_", "move_rows_")
"""Of an update; on a GPU each is one launch."""


def is_kernel(function):
    """Whether an operation launches a kernel; one that makes a view does not."""
    aliases = [result.alias_info for result in function._schema.returns]
    view = any(alias is not None and not alias.is_write for alias in aliases)
    aside = function.namespace != "aten" or function.overloadpacket in NO_KERNEL
    return not view and not aside


def tensors_in(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def bytes_of(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Kernels(TorchDispatchMode):
    """Counts kernels by name, and the bytes that they read and write: those of every tensor that an
    operation is given or writes, once each.

    Those of an update are the plain ones here, and one kernel each. Such a one reads what it is
    given, but for what it only writes, and writes every tensor whose version has changed; of a
    table `move_rows_` reads and writes the rows that were ever looked up.
    """

    def __init__(self, monkeypatch):
        super().__init__()
        self.counts, self.bytes, self._inside = Counter(), Counter(), False
        plain_kernels.put_in(monkeypatch)
        for name in KERNELS:
            launched = self._launched(name, getattr(plain_kernels, name))
            monkeypatch.setattr(plain_kernels, name, launched)

    def _launched(self, name, kernel):
        names = list(signature(kernel).parameters)

        @wraps(kernel)
        def launched(*args, **given):
            operands = dict(zip(names, args, strict=False))
            # Without a start nothing pulls the values, and the norm is that of the gradient.
            needless = name == "squares_of" and operands["start"] is None
            only_written = {"low", "values"} if needless else {"low"}
            tensors = [
                (tensor, tensor._version, operand not in only_written)
                for operand, given in operands.items()
                for tensor in tensors_in(given)
            ]
            self._inside = True
            try:
                found = kernel(*args, **given)
                moved = int(operands["seen"].sum()) if name == "move_rows_" else 0
            finally:
                self._inside = False
            for tensor, version, read in tensors:
                size = bytes_of([tensor])
                if name == "move_rows_" and tensor.shape == operands["values"].shape:
                    size = size * moved // len(tensor)
                self.bytes[name] += size * (read + (tensor._version > version))
            self.counts[name] += 1
            return found

        return launched

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kind = function.overloadpacket
        found = function(*args, **(kwargs or {}))
        if not self._inside and is_kernel(function):
            written = [
                given
                for argument, given in zip(function._schema.arguments, args, strict=False)
                # AdamW's would write gradients if there were a scale of them.
                if argument.is_write and (kind, argument.name) != (aten._fused_adamw_, "grads")
            ]
            self.counts[kind.__name__] += 1
            self.bytes[kind.__name__] += bytes_of(tensors_in([args, kwargs, written or found]))
        return found


WAITS = {
    aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero,
    aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.bincount,
}  # fmt: skip
"""Operations that read values of a tensor, or whose result has a shape that depends on them."""

INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index, aten._index_put_impl_}

READS = {
    torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu,
    torch.Tensor.__array__, torch.Tensor.__bool__, torch.Tensor.__int__, torch.Tensor.__float__,
    torch.Tensor.__index__, torch.tensor, torch.as_tensor,
}  # fmt: skip
"""Functions that do so without an operation where the tensor is on the CPU."""


MOVES = {torch.Tensor.to, torch.Tensor.cuda}
"""Functions that may copy from one device to another."""


class WaitError(Exception):
    """Something waits for the device."""


class _NoReads(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in READS:
            raise WaitError(function.__name__)
        found = function(*args, **(kwargs or {}))
        if function in MOVES and found.device != args[0].device:
            raise WaitError(f"from {args[0].device} to {found.device}")
        return found


def waits(function, args, kwargs):
    """Whether an operation waits for the device of its operands."""
    kind = function.overloadpacket
    if kind is aten.repeat_interleave:
        return kwargs.get("output_size") is None
    if kind is aten.lift_fresh:  # Python's numbers are copied to the device; a single one fills
        return args[0].dim() > 0
    indices = args[1] if kind in INDEXED else []
    boolean = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)
    return boolean or kind in WAITS


class _NoWaits(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if waits(function, args, kwargs or {}):
            raise WaitError(str(function))
        found = function(*args, **(kwargs or {}))
        if (
            function.overloadpacket in (aten._to_copy, aten.copy_)
            and args[-1].device != found.device
        ):
            raise WaitError(f"{function} from {args[-1].device} to {found.device}")
        return found


@contextmanager
def no_waits():
    """Inside, what waits for a device raises WaitError, on whichever device it is computed."""
    with _NoReads(), _NoWaits():
        yield


class SimulatedGraph(TorchDispatchMode):
    """A CUDA graph on the CPU: operations in the order in which they were recorded, on the same
    tensors. It computes while it records, so the first replay does nothing; a CUDA graph records
    without computing and then computes."""

    def __init__(self):
        super().__init__()
        self._recorded, self._computed, self.replays = [], False, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if waits(function, args, kwargs or {}):
            raise RuntimeError(f"operation not permitted when stream is capturing: {function}")
        found = function(*args, **(kwargs or {}))
        if is_kernel(function):
            self._recorded.append((function, args, kwargs or {}, found))
        self._computed = True
        return found

    @torch.no_grad()
    def replay(self):
        """Compute what was recorded."""
        self.replays += 1
        if self._computed:
            self._computed = False
            return
        for function, args, kwargs, found in self._recorded:
            again = function(*args, **kwargs)
            for kept, new in zip(tensors_in(found), tensors_in(again), strict=True):
                if kept is not new:
                    kept.copy_(new)


class SimulatedStream:
    """A stream; everything here is computed at once."""

    def wait_stream(self, other):
        """Nothing to wait for."""


def simulate_graphs(monkeypatch):
    """Let CUDA graphs be recorded and replayed on the CPU; the list of those that are made."""
    made, mode = [], {"sync": 0}

    def graph():
        made.append(SimulatedGraph())
        return made[-1]

    answers = {
        "CUDAGraph": graph,
        "graph": lambda recorded, **_: recorded,
        "graph_pool_handle": object,
        "Stream": SimulatedStream,
        "current_stream": SimulatedStream,
        "stream": lambda _: nullcontext(),
        "get_sync_debug_mode": lambda: mode["sync"],
        "set_sync_debug_mode": lambda value: mode.update(sync=value),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor, **_: tensor.clone())
    return made
