"""The L1 term of LT-SFT, which holds trained weights near their start."""

from collections.abc import Sequence

import torch


class L1:
    """The gradient of λ·Σ|p − p_start| / N in closed form, N counting every parameter of the
    model, trained or not (as the LT-SFT code does). p_start is what p is when this is made."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], weight: float, total: int) -> None:
        self._scale = weight / total
        self._parameters = list(parameters)
        self._start = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def add_gradient(self) -> None:
        """Add the gradient to that of each parameter that has one."""
        pairs = zip(self._parameters, self._start, strict=True)
        found = [(p, p.grad, start) for p, start in pairs if p.grad is not None]
        if not found:
            return
        parameters, gradients, start = (list(column) for column in zip(*found, strict=True))
        # All tensors at once: on a GPU a launch for each would cost more than the sums.
        signs = torch._foreach_sub(parameters, start)
        torch._foreach_sign_(signs)
        torch._foreach_add_(gradients, signs, alpha=self._scale)
