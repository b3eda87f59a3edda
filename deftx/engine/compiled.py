"""torch.compile where it pays: of an encoder's layers, which all run the code of one."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from deftx.models.parts import layers

SHAPES = 16
"""Shapes of a batch for which a layer may be compiled."""


@contextmanager
def compiled_layers(model: PreTrainedModel, mode: str | None, or_plainly: bool) -> Iterator[None]:
    """Inside, the layers of the model's encoder are compiled, in the mode of torch.compile, or not
    at all if that is None. One that does not compile is an error, or runs as it is if
    `or_plainly`. Layers of one class are compiled once: their weights are arguments.
    """
    found = layers(model) if mode else []
    if not found:
        yield
        return
    torch.compiler.reset()  # what was compiled for another model counts as a recompilation
    with torch._dynamo.config.patch(suppress_errors=or_plainly, recompile_limit=SHAPES):
        for layer in found:
            # An attribute of the module, which is found before the method of its class.
            vars(layer)["forward"] = torch.compile(layer.forward, mode=mode, dynamic=False)
        try:
            yield
        finally:
            for layer in found:
                del vars(layer)["forward"]
