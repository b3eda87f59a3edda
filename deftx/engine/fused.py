"""The update on a GPU, by Triton's kernels: one pass over gradients, for their norm, and one over
values and moments. That moves 46 bytes for each value, where PyTorch's own parts move 72, and
nothing for rows of the word embeddings that were never looked up.
"""

import math
from collections.abc import Collection, Mapping

import torch

from deftx.engine.lookup import RowGradient
from deftx.engine.update import BETAS, MOMENTS, Gradient, Rules, Update
from deftx.models.device import pinned_for


class FusedUpdate(Update):
    """What `PlainUpdate` does, without weight decay.

    Values of one kind are slices of one vector. The model computes with those of `low` in
    bfloat16, which autocast would make anew in each step; the table `rows` is moved row by row.
    `start` is emptied: there is no room for two copies.
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
    """A table whose rows are looked up, few in each step, with all that the update knows of it.

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
