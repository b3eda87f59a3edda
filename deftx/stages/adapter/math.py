"""MAD-X: bottleneck and invertible adapters, and putting a stack of them into a model.

Source: Pfeiffer et al. 2020 (arXiv 2005.00052). What is computed equals the `adapters` library
1.3.0 (its `SeqBnConfig` and `SeqBnInvConfig`, with its own heads), which does not work with
transformers 5.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from deftx.stages.adapter.settings import BEFORE_DECODER, Adapter, check_takes_adapters
from deftx.store.errors import InputError


def _bottleneck(
    given: int, wanted: int, reduction: int, non_linearity: str
) -> OrderedDict[str, torch.nn.Module]:
    """The parts of up(activation(down(x))), with given // reduction entries in the middle."""
    middle = max(1, given // reduction)
    down, up = torch.nn.Linear(given, middle), torch.nn.Linear(middle, wanted)
    return OrderedDict(down=down, activation=ACT2FN[non_linearity], up=up)


class Invertible(torch.nn.Module):
    """The coupling of NICE (Dinh et al. 2015) on the two halves of the hidden size:
    y1 = x1 + f(x2), y2 = x2 + g(y1). f and g shrink their half by `reduction` in the middle."""

    def __init__(self, hidden: int, reduction: int, non_linearity: str) -> None:
        super().__init__()
        first = hidden // 2
        self.sizes = [first, hidden - first]
        self.f, self.g = (
            torch.nn.Sequential(*_bottleneck(given, wanted, reduction, non_linearity).values())
            for given, wanted in (self.sizes[::-1], self.sizes)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (…, hidden), as what comes out."""
        x1, x2 = features.split(self.sizes, dim=-1)
        y1 = x1 + self.f(x2)
        return torch.cat([y1, x2 + self.g(y1)], dim=-1)

    def inverse(self, features: torch.Tensor) -> torch.Tensor:
        """The features that forward maps to these."""
        y1, y2 = features.split(self.sizes, dim=-1)
        x2 = y2 - self.g(y1)
        return torch.cat([y1 - self.f(x2), x2], dim=-1)


class AdapterModule(torch.nn.Module):
    """The weights of one adapter: a bottleneck for each of the first `layers` layers of a model
    and, for a language, an invertible adapter. They are a function of `seed`: normal with standard
    deviation 0.02 as in BERT, biases zero."""

    def __init__(
        self, settings: Adapter, hidden: int, layers: int, *, language: bool, seed: int = 0
    ) -> None:
        super().__init__()
        self.hidden = hidden
        reduction = settings.language_reduction if language else settings.task_reduction
        self.layers = torch.nn.ModuleList(
            torch.nn.Sequential(_bottleneck(hidden, hidden, reduction, settings.non_linearity))
            for _ in range(layers)
        )
        self.invertible = None
        if language and (narrow := settings.invertible_reduction) is not None:
            self.invertible = Invertible(hidden, narrow, settings.non_linearity)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0.0, 0.02, generator=generator)
                else:
                    parameter.zero_()


def fresh_adapter(
    model: PreTrainedModel, settings: Adapter, *, language: bool, seed: int
) -> AdapterModule:
    """An adapter for a model: of a language with all layers, of a task without the last
    `drop_last`.

    Raises InputError if the model is of a type that takes no adapters, or if no layer is left.
    """
    layers = len(_layers(model, 0 if language else settings.drop_last))
    hidden = model.config.hidden_size
    return AdapterModule(settings, hidden, layers, language=language, seed=seed)


@contextmanager
def installed(
    model: PreTrainedModel, stack: Sequence[AdapterModule], drop_last: int = 0
) -> Iterator[PreTrainedModel]:
    """The model with a stack of adapters in all layers but the last `drop_last`; after the block it
    is as it was. The names of its parameters stay, and the adapters' are not among them.

    The first of the stack is nearest to the model: a language's, with a task's on top of it. Its
    invertible adapter, if any, is used forward after the embeddings and backward before the decoder
    of a masked-language model, also where only masked positions reach the decoder.

    Raises InputError, before anything is changed, if the model takes no adapters, has some already,
    or if one of these does not fit it.
    """
    layers = _layers(model, drop_last)
    if any(isinstance(layer.output, _AdaptedOutput) for layer in layers):
        raise InputError("the model has adapters already; leave the block that put them in first")
    hidden, depth = model.config.hidden_size, model.config.num_hidden_layers
    for adapter in stack:
        if adapter.hidden != hidden:
            raise InputError(
                f"an adapter for hidden size {adapter.hidden} does not fit a base of hidden size "
                f"{hidden}"
            )
        if not len(layers) <= len(adapter.layers) <= depth:
            raise InputError(
                f"an adapter of {len(adapter.layers)} layers does not fit a base of {depth} "
                f"layers: the first {len(layers)} need one each"
            )
    for adapter in stack:
        adapter.to(model.device, model.dtype)
    invertible = stack[0].invertible
    with ExitStack() as undo:
        for layer, *bottlenecks in zip(layers, *(a.layers for a in stack), strict=False):
            undo.callback(setattr, layer, "output", layer.output)
            layer.output = _AdaptedOutput(layer.output, bottlenecks)
        if invertible is not None:
            embeddings = cast(torch.nn.Module, model.base_model.embeddings)
            undo.callback(_hook(embeddings, invertible.forward).remove)
            if model.get_output_embeddings() is not None:
                last = model.get_submodule(BEFORE_DECODER[model.config.model_type])
                undo.callback(_hook(last, invertible.inverse).remove)
        yield model


class _AdaptedOutput(torch.nn.Module):
    """The end of a layer, with its parts under their names: h = dropout(dense(·)) is the output of
    the feed-forward block and x its input; each adapter in turn makes
    h + bottleneck(LayerNorm(h + x)) of h, and the layer's own LayerNorm closes it as usual."""

    def __init__(self, output: Any, bottlenecks: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.dense, self.LayerNorm, self.dropout = output.dense, output.LayerNorm, output.dropout
        # In a tuple, where the model's tree of modules does not find them.
        self._bottlenecks = tuple(bottlenecks)

    def forward(self, hidden_states: torch.Tensor, input_tensor: torch.Tensor) -> torch.Tensor:
        features = self.dropout(self.dense(hidden_states))
        for bottleneck in self._bottlenecks:
            features = bottleneck(self.LayerNorm(features + input_tensor)) + features
        return self.LayerNorm(features + input_tensor)


def _hook(module: torch.nn.Module, function: Any) -> Any:
    """Put what a module computes through a function."""
    return module.register_forward_hook(lambda _module, _given, found: function(found))


def _layers(model: PreTrainedModel, drop_last: int) -> list[Any]:
    """The layers of a model that get adapters."""
    depth = model.config.num_hidden_layers
    check_takes_adapters(model.config.model_type, depth, drop_last)
    layers = list(cast(Any, model.base_model).encoder.layer)
    return layers[: depth - drop_last]
