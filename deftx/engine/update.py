"""What moves the values that train: AdamW, after the L1 term and clipping.

Here by PyTorch's own parts, wherever it runs; `fused.py` does the same on a GPU. Both keep float32
values and moments by the names of what trains, so a phase may go on with the other.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from deftx.engine.lookup import RowGradient
from deftx.engine.processes import add_up_gradients

BETAS, EPS = (0.9, 0.999), 1e-8
"""AdamW's, as PyTorch and the public LT-SFT code have them."""

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""What AdamW remembers of a tensor."""

Gradient = torch.Tensor | RowGradient | None


@dataclass(frozen=True)
class Rules:
    """How values move.

    Attributes:
        rates: name → learning rate, before warm-up and decay.
        l1: λ of the L1 term λ·Σ|p - p_start| / N.
        total: its N, the number of all parameters of the model (as the LT-SFT code counts).
        clip: largest norm of the gradient of all that trains, the L1 term's included.
        weight_decay: of AdamW.
    """

    rates: Mapping[str, float]
    l1: float
    total: int
    clip: float
    weight_decay: float = 0.0

    @property
    def pull(self) -> float:
        """The size of the L1 term's gradient."""
        return self.l1 / self.total


class Update(ABC):
    """Moves what trains, given its gradients batch by batch.

    Attributes:
        values: name → what trains, float32; `changed` must be called after it was written to.
    """

    values: dict[str, torch.Tensor]

    @abstractmethod
    def begin(self, number: int, factor: float) -> None:
        """Set what differs from step to step: its number, from 0, and the factor of the rates."""

    @abstractmethod
    def add(self, gradients: Mapping[str, Gradient]) -> None:
        """Add the gradients of a batch; None is no gradient."""

    @abstractmethod
    def step(self) -> torch.Tensor:
        """Move the values by the sum of the gradients, which is then forgotten; the norm of the
        gradient before clipping, (). Waits for no device."""

    @abstractmethod
    def forget(self) -> None:
        """Forget the gradients of a step that is tried again."""

    @abstractmethod
    def moments(self) -> dict[str, dict[str, torch.Tensor]]:
        """Name → MOMENTS of what has moved."""

    @abstractmethod
    def restore(self, moments: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Put moments back, after the values."""

    @abstractmethod
    def changed(self) -> None:
        """Let the model compute with values that were written from outside."""

    @abstractmethod
    def close(self) -> None:
        """Leave the values in the parameters."""


class PlainUpdate(Update):
    """The L1 term in closed form, `clip_grad_norm_` and `torch.optim.AdamW`.

    `start` are the values at the L1 term's start, by name; `order` says in which order the norm
    adds up, on which its bits depend. `on_device` keeps what differs from step to step there, for
    a step that is replayed.
    """

    def __init__(
        self,
        trained: Mapping[str, torch.nn.Parameter],
        rules: Rules,
        start: Mapping[str, torch.Tensor],
        order: Sequence[torch.nn.Parameter],
        on_device: bool = False,
    ) -> None:
        self.values = {name: parameter.detach() for name, parameter in trained.items()}
        self._trained, self._rules, self._start, self._order = trained, rules, start, order
        self._sums: dict[str, torch.Tensor] = {}
        some = next(iter(trained.values()))
        groups: list[dict[str, Any]] = []
        for rate in dict.fromkeys(rules.rates.values()):
            few = [p for name, p in trained.items() if rules.rates[name] == rate]
            lr = torch.tensor(rate, device=some.device) if on_device else rate
            groups.append({"params": few, "lr": lr, "rate": rate})
        self._optimizer = torch.optim.AdamW(
            groups,
            betas=BETAS,
            eps=EPS,
            weight_decay=rules.weight_decay,
            fused=some.is_cuda or None,
            capturable=on_device,
        )

    def begin(self, number: int, factor: float) -> None:
        """Set the rates of the groups."""
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(group["rate"] * factor)
            else:
                group["lr"] = group["rate"] * factor

    @torch.no_grad()
    def add(self, gradients: Mapping[str, Gradient]) -> None:
        """Add gradients; those of rows as dense ones."""
        for name, gradient in gradients.items():
            if isinstance(gradient, RowGradient):
                gradient = gradient.dense(len(self._trained[name]))
            if gradient is None:
                continue
            if name in self._sums:
                self._sums[name].add_(gradient)
            else:
                self._sums[name] = gradient

    @torch.no_grad()
    def step(self) -> torch.Tensor:
        """Add up over processes, add the L1 term, clip, and let AdamW move the values."""
        for name, gradient in self._sums.items():
            self._trained[name].grad = gradient
        add_up_gradients(self._trained.values())
        if self._rules.l1:
            self._pull()
        norm = torch.nn.utils.clip_grad_norm_(self._order, self._rules.clip)
        self._optimizer.step()
        self.forget()
        return norm

    def _pull(self) -> None:
        """Add the gradient of the L1 term to that of each parameter that has one."""
        gradients = {n: p.grad for n, p in self._trained.items() if p.grad is not None}
        if not gradients:
            return
        values, start = [self.values[n] for n in gradients], [self._start[n] for n in gradients]
        # All tensors at once: on a GPU a launch for each would cost more than the sums.
        signs = torch._foreach_sub(values, start)
        torch._foreach_sign_(signs)
        torch._foreach_add_(list(gradients.values()), signs, alpha=self._rules.pull)

    def forget(self) -> None:
        """Drop what `add` has added."""
        self._sums.clear()
        for parameter in self._order:
            parameter.grad = None

    def moments(self) -> dict[str, dict[str, torch.Tensor]]:
        """The state of AdamW."""
        state = self._optimizer.state
        return {n: dict(state[p]) for n, p in self._trained.items() if p in state}

    def restore(self, moments: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Put a state of AdamW back."""
        numbers = {id(p): n for n, p in enumerate(self._parameters())}
        groups = self._optimizer.state_dict()["param_groups"]
        state = {numbers[id(self._trained[name])]: dict(few) for name, few in moments.items()}
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    def changed(self) -> None:
        """Nothing to do: the model computes with the values themselves."""

    def close(self) -> None:
        """Nothing to do: the values are the parameters."""
