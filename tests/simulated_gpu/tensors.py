"""Tensors that report a GPU as their device, and modes in which PyTorch creates and moves them."""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

aten = torch.ops.aten
GPU = torch.device("cuda", 0)


class OnGpu(torch.Tensor):
    """Shape, type and device of a tensor on the GPU; `inner` holds its entries on the CPU."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=GPU,
        )

    def __init__(self, inner):
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


def compute(function, args, kwargs):
    """The result of an operation, computed on the CPU but on the device where a machine with a GPU
    would have it. Raises RuntimeError if such a machine would refuse the operation."""
    flat, tree = tree_flatten((args, kwargs))
    device = kwargs.get("device")
    on_gpu = device.type == "cuda" if device else any(isinstance(x, OnGpu) for x in flat)
    if on_gpu and any(isinstance(x, torch.Generator) for x in flat):
        raise RuntimeError(f"{function}: a generator of the CPU for a tensor on the GPU")
    # A GPU accepts scalars of the CPU, and indices of the CPU for a tensor on the GPU.
    alike = flat
    if function in (aten.copy_.default, aten._to_copy.default):
        alike = []
    elif function is aten.index.Tensor or "index_put" in function.__name__:
        alike = [args[0], *args[2:3]] if isinstance(args[0], OnGpu) else flat
    kinds = {isinstance(x, OnGpu) for x in alike if isinstance(x, torch.Tensor) and x.dim()}
    if len(kinds) > 1 or (False in kinds and any(isinstance(x, OnGpu) for x in alike)):
        raise RuntimeError(f"{function}: expected all tensors to be on the same device")
    inner = [x.inner if isinstance(x, OnGpu) else x for x in flat]
    cpu = torch.device("cpu")
    plain = [cpu if isinstance(x, torch.device) and x.type == "cuda" else x for x in inner]
    args, kwargs = tree_unflatten(plain, tree)
    for name in ("pin_memory", "non_blocking"):
        kwargs.pop(name, None)
    given = {id(a): b for a, b in zip(inner, flat, strict=True) if isinstance(b, torch.Tensor)}

    def outer(result):
        if not isinstance(result, torch.Tensor):
            return result
        return given.get(id(result), OnGpu(result) if on_gpu else result)

    return tree_map(outer, function(*args, **kwargs))


class Move(torch.autograd.Function):
    """Copy to the GPU, and the gradient back."""

    @staticmethod
    def forward(ctx, tensor, dtype):
        return OnGpu(tensor.detach().to(dtype, copy=True))

    @staticmethod
    def backward(ctx, gradient):
        return gradient.to("cpu"), None


def to_gpu(tensor, dtype=None):
    if isinstance(tensor, OnGpu):
        return tensor if dtype in (None, tensor.dtype) else tensor.to(dtype)
    if torch.is_grad_enabled() and tensor.requires_grad:
        return Move.apply(tensor, dtype or tensor.dtype)
    return OnGpu(tensor.detach().to(dtype or tensor.dtype, copy=True))


def is_gpu(device):
    return isinstance(device, str | torch.device) and torch.device(device).type == "cuda"


class Functions(TorchFunctionMode):
    """Functions that do not reach the dispatcher."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.Tensor.to:
            facts = [*args[1:], *kwargs.values()]
            facts += [
                part for x in facts if isinstance(x, torch.Tensor) for part in (x.device, x.dtype)
            ]
            if any(is_gpu(x) for x in facts):
                dtype = next((x for x in facts if isinstance(x, torch.dtype)), None)
                return to_gpu(args[0], dtype)
        elif function is torch.Tensor.cuda:
            return to_gpu(args[0])
        elif function in (torch.tensor, torch.as_tensor) and is_gpu(kwargs.get("device")):
            return to_gpu(function(*args, **{**kwargs, "device": "cpu"}))
        elif function is torch.Tensor.pin_memory:
            return args[0]
        elif function is torch.Tensor.tolist and isinstance(args[0], OnGpu):
            return args[0].inner.tolist()
        elif function is torch.Tensor.numpy and isinstance(args[0], OnGpu):
            raise TypeError("numpy() of a tensor on the GPU")
        elif function == torch.Tensor.data.__set__:
            return set_data(function, *args)
        return function(*args, **kwargs)


class Everywhere(TorchDispatchMode):
    """Functions that create tensors without any as input."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


def set_data(function, tensor, data):
    """`tensor.data = data`, by `function`; a tensor that changes the device is replaced."""
    if isinstance(tensor, OnGpu) != isinstance(data, OnGpu):
        new = torch.nn.Parameter(data.detach(), requires_grad=tensor.requires_grad)
        torch.utils.swap_tensors(tensor, new)
        return
    function(tensor, data)
    if isinstance(tensor, OnGpu):
        tensor.inner = data.inner


def begin():
    """Start to simulate, in this thread."""
    nothing = ("_lazy_init", "empty_cache", "manual_seed", "set_device", "synchronize")
    answers = {
        "is_available": True, "is_initialized": True, "is_bf16_supported": True, "device_count": 1,
        "current_device": 0, "get_device_capability": (9, 0), "get_device_name": "a simulated GPU",
        "max_memory_allocated": 1, "reset_peak_memory_stats": None, **dict.fromkeys(nothing),
    }  # fmt: skip
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    torch.__future__.set_swap_module_params_on_conversion(True)
    Functions().__enter__()
    Everywhere().__enter__()
