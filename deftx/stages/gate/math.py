"""The gates of Ada-SFT: M = σ(S), by which W ⊙ M the matrices of linear layers are multiplied.

Source: the SC-SFT paper, section 3.4 (an M for each weight); one M for a transformer block is
the proposal of its section 6, one for a matrix is between them.
"""

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch.nn.functional import hardsigmoid

from deftx.stages.gate.settings import Gate

Function = Callable[[torch.Tensor], torch.Tensor]
FUNCTIONS: dict[str, Function] = {"sigmoid": torch.sigmoid, "hard-sigmoid": hardsigmoid}


def block_of(name: str) -> str:
    """The transformer block of a parameter: its name up to the first number, `encoder.layer.0` of
    `encoder.layer.0.output.dense.weight`. A parameter outside of all blocks is its own."""
    found = re.match(r"(.*?\.)?[0-9]+(?=\.|$)", name)
    return found[0] if found else name


def gate_name(matrix: str, gate: Gate) -> str:
    """The name of the S of a matrix: `{name}.gate`, or `{block}.gate`."""
    return (block_of(matrix) if gate.granularity == "block" else matrix) + ".gate"


def initial_gates(shapes: Mapping[str, tuple[int, ...]], gate: Gate) -> dict[str, torch.Tensor]:
    """S before training, float32, by the names of `gate_name`: of the shape of the matrix for
    gates of entries, else ()."""
    per_entry = gate.granularity == "entry"
    return {
        gate_name(name, gate): torch.full(shape if per_entry else (), gate.initial)
        for name, shape in shapes.items()
    }


def gate_values(
    learned: Mapping[str, torch.Tensor], matrices: Iterable[str], gate: Gate
) -> dict[str, torch.Tensor]:
    """Matrix → M in [0, 1], of its shape or (), from S by the names of `gate_name`."""
    squash = FUNCTIONS[gate.function]
    return {name: squash(learned[gate_name(name, gate)]) for name in matrices}
