"""The optimiser steps of a phase as data: step → its batches, a pure function of seeds.

So a phase can go on from any step, and no state of a random stream need be kept.
"""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, groupby
from typing import NamedTuple

import torch

from deftx.engine.objective import Batch, Objective
from deftx.engine.settings import Training
from deftx.models.token_arrays import Example
from deftx.store.seeds import stream

COST_OF_A_PASS = {"cpu": 64, "cuda": 4096}
"""What a forward and backward pass costs beyond its tokens, in tokens: measured on two CPU cores,
estimated for a GPU, which a short batch does not fill."""


class Step(NamedTuple):
    """The data of a step, on the CPU.

    Attributes:
        labels: how many labels it has, those of other processes included.
        sources: the source of each batch; batches of one source follow each other.
        batches: this process's share of its examples.
    """

    labels: int
    sources: list[int]
    batches: list[Batch]


@dataclass(frozen=True)
class Steps:
    """The steps of a phase by number, in as many batches as memory and padding ask for.

    A step's loss is the mean over all labels of its `batch_size × accumulation` examples: how it
    is cut into batches, and over which processes, changes rounding only. Where there are several
    sources a step takes `accumulation` times up to `batch_size` examples of one of them, in an
    order that is a shuffle of all such portions of an epoch; no batch holds examples of two.

    Attributes:
        order_seed, draw_seed: see `Session`.
        share: (rank, processes): which part of each step is this process's.
        few_shapes: whether batches are filled up, see `Objective.collate`.
        cost: see COST_OF_A_PASS.
    """

    objective: Objective
    settings: Training
    order_seed: int
    draw_seed: int
    share: tuple[int, int] = (0, 1)
    few_shapes: bool = False
    cost: int = COST_OF_A_PASS["cpu"]

    def step(self, step: int, parts: int = 1) -> Step:
        """The data of a step, counted from 0. Each batch is cut into `parts` more."""
        indices, ends = self._indices(step), list(accumulate(self.objective.sources))
        examples = self.objective.examples(indices, stream(self.draw_seed, "step", str(step)))
        labels = sum(self.objective.labels(example) for example in examples)
        rank, processes = self.share
        limit = max(1, self.settings.batch_size // (processes * parts))
        rows = limit if self.few_shapes else 0
        pairs = [(bisect(ends, i), example) for i, example in zip(indices, examples, strict=True)]
        pairs.sort(key=lambda pair: (pair[0], len(pair[1]["input_ids"])))  # stable
        sources, batches = [], []
        for source, few in groupby(pairs[rank::processes], key=lambda pair: pair[0]):
            for batch in cut([example for _, example in few], limit, self.cost):
                sources.append(source)
                batches.append(self.objective.collate(batch, rows))
        return Step(labels, sources, batches)

    def _indices(self, step: int) -> list[int]:
        settings, sources = self.settings, self.objective.sources
        epoch, place = divmod(step, settings.steps_per_epoch(*sources))
        seed = stream(self.order_seed, "epoch", str(epoch))
        if len(sources) > 1:
            portions = _portions(sources, settings.batch_size, seed)
            few = portions[place * settings.accumulation : (place + 1) * settings.accumulation]
            return torch.cat(few).tolist()
        size = settings.batch_size * settings.accumulation
        return _order(*sources, seed)[place * size : (place + 1) * size].tolist()


@lru_cache(maxsize=2)
def _order(examples: int, seed: int) -> torch.Tensor:
    return torch.randperm(examples, generator=torch.Generator().manual_seed(seed))


@lru_cache(maxsize=2)
def _portions(sources: tuple[int, ...], size: int, seed: int) -> list[torch.Tensor]:
    """The examples of an epoch in portions of one source each, at most `size` large, shuffled: each
    source comes up in proportion to its portions, as in the public LT-SFT code."""
    portions: list[torch.Tensor] = []
    for number, examples in enumerate(sources):
        order = _order(examples, stream(seed, "source", str(number)))
        portions += (order + sum(sources[:number])).split(size)
    return [portions[i] for i in _order(len(portions), stream(seed, "portions")).tolist()]


def cut(examples: Sequence[Example], limit: int, cost: int) -> list[Sequence[Example]]:
    """Examples, ascending in length, in consecutive batches of at most `limit`, such that padded
    tokens plus `cost` per batch are fewest. Source: design choice; the reference pads to 128."""
    lengths = [len(example["input_ids"]) for example in examples]
    if not lengths or lengths[0] == lengths[-1]:
        return [examples[at : at + limit] for at in range(0, len(lengths), limit)]
    best = [(0.0, 0)]  # by end: the least cost, and where the last batch starts
    for end in range(1, len(lengths) + 1):
        starts = range(max(0, end - limit), end)
        best.append(min((best[s][0] + (end - s) * lengths[end - 1] + cost, s) for s in starts))
    batches, end = [], len(lengths)
    while end:
        batches.append(examples[best[end][1] : end])
        end = best[end][1]
    return batches[::-1]
