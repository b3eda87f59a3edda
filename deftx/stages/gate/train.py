"""The two phases of Ada-SFT: gates train with the weights fixed, then weights with the gates fixed.

Source: the SC-SFT paper, section 3.4. Biases, embeddings and normalisation layers train in
neither, as its gates are those of linear layers.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations
from transformers import PreTrainedModel

from deftx.core.parameters import matrices
from deftx.engine.loop import freeze, train_with_head
from deftx.engine.objective import Objective
from deftx.engine.session import Session
from deftx.engine.settings import Training
from deftx.stages.gate.math import FUNCTIONS, Function, gate_name, initial_gates
from deftx.stages.gate.settings import Gate
from deftx.store.errors import ArtefactError


def fit_gates(
    model: PreTrainedModel,
    objective: Objective,
    settings: Training,
    gate: Gate,
    session: Session | None = None,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Train S at the learning rate of `gate`, and the head, in place, at that of `settings`; the
    backbone keeps its bits. Returns S at the best checkpoint, on the CPU, by the names of
    `gate_name`; and what `train_with_head` returns. Raises as it does.
    """
    session = session or Session()
    total = freeze(model, session.engine.attention)
    weights = matrices(model)
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    learned = {
        name: torch.nn.Parameter(initial.to(model.device, model.dtype))
        for name, initial in initial_gates(shapes, gate).items()
    }
    squash = FUNCTIONS[gate.function]
    gates = {name: Gating(learned[gate_name(name, gate)], squash) for name in weights}
    with gated(model, gates):
        outcome = train_with_head(
            model, learned, objective, settings, session, total=total, rate=gate.learning_rate
        )
    return {name: s.detach().cpu() for name, s in learned.items()}, outcome


def fit_gated(
    model: PreTrainedModel,
    objective: Objective,
    settings: Training,
    gates: Mapping[str, torch.Tensor],
    session: Session | None = None,
) -> dict[str, Any]:
    """Train the matrices W of the backbone's linear layers and the head, in place, in a model that
    computes with W ⊙ M; `gates` holds M by the names of the matrices. The model is left with W ⊙ M
    at the best checkpoint. Returns and raises what `train_with_head` does, and raises ArtefactError
    if the gates do not fit.
    """
    session = session or Session()
    total = freeze(model, session.engine.attention)
    weights = matrices(model)
    for name, weight in weights.items():
        if name not in gates:
            raise ArtefactError(f"{name}: there is no gate for this matrix")
        if gates[name].shape not in (weight.shape, ()):
            raise ArtefactError(
                f"{name}: the gate has shape {tuple(gates[name].shape)}, expected "
                f"{tuple(weight.shape)} or one number"
            )
    fixed = {name: gates[name].to(weight.device) for name, weight in weights.items()}
    with gated(model, {name: Gating(values) for name, values in fixed.items()}):
        outcome = train_with_head(model, weights, objective, settings, session, total=total)
    with torch.no_grad():
        for name, weight in weights.items():
            weight.mul_(fixed[name])
    return outcome


class Gating(torch.nn.Module):
    """W → W ⊙ M, or with a `function` σ W ⊙ σ(S), where S may train and be shared."""

    def __init__(self, gate: torch.Tensor, function: Function | None = None) -> None:
        super().__init__()
        self._gate, self._function = gate, function

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The gated matrix, of the shape of `weight`."""
        return weight * (self._function(self._gate) if self._function else self._gate)


@contextmanager
def gated(model: PreTrainedModel, gates: Mapping[str, Gating]) -> Iterator[None]:
    """Inside, the linear layers of the backbone compute with their gated matrices; `gates` goes by
    the names of the matrices. Afterwards the model is as it was made, with W as it then is."""
    layers = [m for m in model.base_model.modules() if isinstance(m, torch.nn.Linear)]
    layer_of = {id(layer.weight): layer for layer in layers}
    with ExitStack() as undone:
        for name, weight in matrices(model).items():
            layer = layer_of[id(weight)]
            register_parametrization(layer, "weight", gates[name])
            undone.callback(_remove_gate, layer)
        yield


def _remove_gate(layer: torch.nn.Linear) -> None:
    remove_parametrizations(layer, "weight", leave_parametrized=False)
    # Now the weight comes after the bias; everything that goes by position expects it first.
    layer.register_parameter("bias", layer._parameters.pop("bias"))
