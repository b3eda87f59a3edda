"""What moves the values that train: AdamW, after the L1 term and clipping.

Plainly, by PyTorch's own parts, wherever it runs; and on a GPU in a tenth of the passes over
memory, which for XLM-R take longer than forward and backward pass together. Both keep float32
values and moments by the names of what trains, so a phase may go on with the other.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from deftx.engine.lookup import RowGradient
from deftx.engine.processes import add_up_gradients
from deftx.models.device import pinned_for

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


class FusedUpdate(Update):
    """The same on a GPU, in one pass over values and moments, and one over gradients for the norm.

    Values of one kind are slices of one vector. The model computes with those of `low` in
    bfloat16, which autocast would make anew in each step; the table `rows` is moved row by row.
    Without weight decay. `start` is emptied: there is no room for two copies.
    """

    def __init__(
        self,
        trained: Mapping[str, torch.nn.Parameter],
        rules: Rules,
        start: dict[str, torch.Tensor],
        low: Collection[str] = (),
        rows: str | None = None,
    ) -> None:
        self._rules, self._trained = rules, trained
        self._rates = list(dict.fromkeys(rules.rates.values()))
        device = next(iter(trained.values())).device
        # For each rate the step size over its bias correction, and 1 / √ of the other correction.
        self._numbers = torch.zeros(len(self._rates), 2, device=device)
        self._steps = 0
        kinds: dict[tuple[int, bool], list[str]] = {}
        for name in trained:
            if name != rows:
                kind = self._rates.index(rules.rates[name]), name in low
                kinds.setdefault(kind, []).append(name)
        flats = [
            _Flat({n: trained[n] for n in names}, start, self._numbers[rate], lowered)
            for (rate, lowered), names in kinds.items()
        ]
        tables = []
        if rows is not None:
            rate = self._rates.index(rules.rates[rows])
            tables = [_Table(rows, trained[rows], start.pop(rows, None), self._numbers[rate])]
        self._parts: list[_Flat | _Table] = [*flats, *tables]
        found = {name: value for part in self._parts for name, value in part.values.items()}
        self.values = {name: found[name] for name in trained}

    def begin(self, number: int, factor: float) -> None:
        """Send the step sizes to the device."""
        self._steps = number + 1
        first, second = (1 - beta**self._steps for beta in BETAS)
        numbers = [[rate * factor / first, 1 / math.sqrt(second)] for rate in self._rates]
        new = pinned_for(torch.tensor(numbers), self._numbers.device)
        self._numbers.copy_(new, non_blocking=True)

    @torch.no_grad()
    def add(self, gradients: Mapping[str, Gradient]) -> None:
        """Add gradients, each where its values are."""
        for part in self._parts:
            part.add(gradients)

    @torch.no_grad()
    def step(self) -> torch.Tensor:
        """Find the norm in one pass, and move the values in another one."""
        pull, clip = self._rules.pull, self._rules.clip
        squares = torch.stack([part.squares(pull) for part in self._parts]).sum()
        for part in self._parts:
            part.move(squares, pull=pull, clip=clip)
        return squares.sqrt()

    def forget(self) -> None:
        """Drop what `add` has added."""
        for part in self._parts:
            part.forget()

    def moments(self) -> dict[str, dict[str, torch.Tensor]]:
        """Slices of the vectors of moments."""
        if not self._steps:
            return {}
        found = {name: pair for part in self._parts for name, pair in part.moments().items()}
        steps = {name: torch.tensor(float(self._steps)) for name in self.values}
        return {n: dict(zip(MOMENTS, (*found[n], steps[n]), strict=True)) for n in self.values}

    @torch.no_grad()
    def restore(self, moments: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Put moments back, and find out which rows of the table have moved."""
        for part in self._parts:
            for name, pair in part.moments().items():
                for moment, values in zip(MOMENTS, pair, strict=False):
                    if name in moments:
                        values.copy_(moments[name][moment])
        self._steps = max((int(few["step"]) for few in moments.values()), default=0)
        self.changed()

    def changed(self) -> None:
        """Round the values anew for the model."""
        for part in self._parts:
            part.changed()

    def close(self) -> None:
        """Give each parameter its own values again."""
        for name, parameter in self._trained.items():
            parameter.data = self.values[name].clone()


class _Flat:
    """Parameters as slices of one vector, float32, with all that the update knows of them.

    Attributes:
        values: name → its slice, in the parameter's shape.
    """

    def __init__(
        self,
        trained: Mapping[str, torch.nn.Parameter],
        start: dict[str, torch.Tensor],
        numbers: torch.Tensor,
        lowered: bool,
    ) -> None:
        self._numbers = numbers
        self._trained = trained
        self._sizes = [p.numel() for p in trained.values()]
        self._values = torch.cat([p.detach().reshape(-1) for p in trained.values()])
        self._start = None
        if start:
            self._start = torch.cat([start.pop(name).reshape(-1) for name in trained])
        self._moments = torch.zeros_like(self._values), torch.zeros_like(self._values)
        self._low = self._values.to(torch.bfloat16) if lowered else None
        self.values = self._by_name(self._values)
        used = self.values if self._low is None else self._by_name(self._low)
        for name, parameter in trained.items():
            parameter.data = used[name]
        self._gradient: torch.Tensor | None = None

    def _by_name(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        pairs = zip(self._trained.items(), flat.split(self._sizes), strict=True)
        return {name: part.view_as(parameter) for (name, parameter), part in pairs}

    def add(self, gradients: Mapping[str, Gradient]) -> None:
        parts = []
        for name, parameter in self._trained.items():
            gradient = gradients[name]
            assert not isinstance(gradient, RowGradient)
            if gradient is None:
                gradient = torch.zeros_like(parameter)
            parts.append(gradient.reshape(-1))
        found = torch.cat(parts)
        # The products of one batch may stay in bfloat16; sums of several are made in float32.
        self._gradient = found if self._gradient is None else self._gradient.float() + found

    def squares(self, pull: float) -> torch.Tensor:
        from deftx.engine.kernels import squares_of

        assert self._gradient is not None
        return squares_of(self._values, self._gradient, self._start, pull)

    def move(self, squares: torch.Tensor, *, pull: float, clip: float) -> None:
        from deftx.engine.kernels import move_

        assert self._gradient is not None
        move_(
            self._values, self._gradient, self._moments, self._start, self._low, self._numbers,
            squares, pull=pull, clip=clip,
        )  # fmt: skip
        self._gradient = None

    def forget(self) -> None:
        self._gradient = None

    def moments(self) -> dict[str, tuple[torch.Tensor, ...]]:
        first, second = (self._by_name(moment) for moment in self._moments)
        return {name: (first[name], second[name]) for name in self._trained}

    @torch.no_grad()
    def changed(self) -> None:
        if self._low is not None:
            self._low.copy_(self._values)


class _Table:
    """A table of which a step looks few rows up, with all that the update knows of it.

    Attributes:
        values: its name → itself.
    """

    def __init__(
        self,
        name: str,
        parameter: torch.nn.Parameter,
        start: torch.Tensor | None,
        numbers: torch.Tensor,
    ) -> None:
        self._name, self._values, self._start = name, parameter.detach(), start
        self._numbers, self.values = numbers, {name: parameter.detach()}
        self._moments = torch.zeros_like(self._values), torch.zeros_like(self._values)
        rows, device = len(parameter), parameter.device
        self._seen = torch.zeros(rows, dtype=torch.int8, device=device)
        self._apart = torch.zeros(rows, device=device)
        self.changed()
        self._waiting: list[RowGradient] = []
        self._place = self._sums = self._values[:0]

    def add(self, gradients: Mapping[str, Gradient]) -> None:
        gradient = gradients[self._name]
        assert isinstance(gradient, RowGradient)
        self._waiting.append(gradient)

    def squares(self, pull: float) -> torch.Tensor:
        tokens, slope = (torch.cat(few) for few in zip(*self._waiting, strict=True))
        self._waiting = []
        self._place, sums = RowGradient(tokens, slope).by_row(len(self._values))
        self._sums = sums
        if self._start is None:
            return sums.square().sum()
        # The rows looked up, each once; of the others the L1 term is all the gradient.
        once = self._place[tokens] == torch.arange(len(tokens), device=tokens.device)
        signs = (self._values[tokens] - self._start[tokens]).sign()
        here = ((sums + pull * signs) * once.unsqueeze(1)).square().sum()
        return here + pull**2 * (self._apart * (self._place < 0)).sum()

    def move(self, squares: torch.Tensor, *, pull: float, clip: float) -> None:
        from deftx.engine.kernels import move_rows_

        move_rows_(
            self._values, self._sums, self._place, self._moments, self._start, self._seen,
            self._apart, self._numbers, squares, pull=pull, clip=clip,
        )  # fmt: skip
        self._place = self._sums = self._values[:0]

    def forget(self) -> None:
        self._waiting = []

    def moments(self) -> dict[str, tuple[torch.Tensor, ...]]:
        return {self._name: self._moments}

    @torch.no_grad()
    def changed(self) -> None:
        """Find out anew which rows are not as they started."""
        moved = (self._moments[0] != 0).any(1) | (self._moments[1] != 0).any(1)
        if self._start is not None:
            apart = (self._values != self._start).sum(1)
            self._apart.copy_(apart)
            moved |= apart > 0
        self._seen.copy_(moved)
