"""The chosen entries of a model as one trainable vector.

Weights stay dense, but gradients and optimiser state exist for K entries only. AdamW on the
packed vector gives the same bits as AdamW on dense tensors with masked gradients and no decay;
with decay it leaves every other entry alone, which masked gradients do not.
"""

from collections.abc import Mapping

import torch

from deftx.mask import Mask


class PackedEntries:
    """The entries of `weights` that `mask` chooses, packed into `values`.

    While training, call `write_back` after each optimiser step; `close` ends it.

    Attributes:
        values: (K,) float32 parameter: the weights themselves, not differences, by tensor name
            and position. Its gradient is gathered from each dense gradient as soon as backward
            has made it, and the dense one is dropped: so at most one is alive.
    """

    def __init__(self, weights: Mapping[str, torch.nn.Parameter], mask: Mask) -> None:
        mask.check_fits({name: tuple(w.shape) for name, w in weights.items()})
        device = next(iter(weights.values())).device
        self._places: list[tuple[torch.nn.Parameter, torch.Tensor, slice]] = []
        self._hooks = []
        chunks, end = [], 0
        for name in sorted(mask.index):
            weight, index = weights[name], mask.index[name].to(device)
            place = slice(end, end := end + len(index))
            self._places.append((weight, index, place))
            chunks.append(weight.detach().view(-1)[index])
            weight.requires_grad_(True)
            self._hooks.append(
                weight.register_post_accumulate_grad_hook(
                    lambda w, index=index, place=place: self._gather(w, index, place)
                )
            )
        self.values = torch.nn.Parameter(torch.cat(chunks))

    def _gather(self, weight: torch.nn.Parameter, index: torch.Tensor, place: slice) -> None:
        assert weight.grad is not None
        if self.values.grad is None:
            self.values.grad = torch.zeros_like(self.values)
        self.values.grad[place] += weight.grad.view(-1)[index]
        weight.grad = None

    @torch.no_grad()
    def write_back(self) -> None:
        """Put `values` into the dense weights; every other entry keeps its bits."""
        for weight, index, place in self._places:
            weight.view(-1)[index] = self.values[place]

    def close(self) -> None:
        """Stop gathering gradients."""
        for hook in self._hooks:
            hook.remove()
