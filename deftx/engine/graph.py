"""A step as a CUDA graph: recorded once for each shape of its batches, then replayed.

Launching the thousand kernels of a step one by one takes a CPU longer than computing them takes
the GPU; a replay is one launch. What it computes is what the step computes plainly, with the same
random numbers: a replay, too, reads the seed that was set before it.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import masking_utils

from deftx.engine.objective import Batch

Compute = Callable[[Sequence[Batch], torch.Tensor], tuple[torch.Tensor, ...]]

PLAINLY = 3
"""Steps that run plainly before the first recording, while libraries set up and compile what they
may not in a recording. Before each further one, of other shapes, it is one less."""

MOST = 16
"""Recordings that are kept: shapes beyond these run plainly."""


class CannotRecordError(Exception):
    """A step waits for the GPU, so it cannot be recorded; nothing has been moved by it."""


@dataclass
class _Recording:
    batches: list[Batch]
    labels: torch.Tensor
    waits: int
    graph: torch.cuda.CUDAGraph | None = None
    results: tuple[torch.Tensor, ...] = ()


class Replay:
    """`compute`, of batches on the device and the number of their labels, as CUDA graphs.

    Between two calls `compute` may read nothing that is not on the device, and its tensors must
    stay where they are. A call returns copies of its results and waits for no device. It raises
    CannotRecordError, before anything is recorded, if `compute` does wait.
    """

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._recordings: dict[object, _Recording] = {}
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, batches: Sequence[Batch], labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The results of a step on batches that are still in (pinned) memory of the CPU."""
        recording = self._recording(batches, labels)
        if recording is None:
            return self._compute([_to_device(batch) for batch in batches], labels.cuda())
        for kept, batch in zip(recording.batches, batches, strict=True):
            for name, tensor in batch.items():
                kept[name].copy_(tensor, non_blocking=True)
        recording.labels.copy_(labels, non_blocking=True)
        if recording.waits:
            recording.waits -= 1
            return self._aside(recording)
        if recording.graph is None:
            recording.graph = torch.cuda.CUDAGraph()
            # Recording computes nothing: the replay below is this step.
            with torch.cuda.graph(recording.graph, pool=self._pool, stream=self._stream):
                recording.results = self._compute(recording.batches, recording.labels)
        recording.graph.replay()
        return tuple(result.clone() for result in recording.results)

    def _recording(self, batches: Sequence[Batch], labels: torch.Tensor) -> _Recording | None:
        shapes = tuple(tuple((n, *t.shape) for n, t in batch.items()) for batch in batches)
        if shapes not in self._recordings:
            if len(self._recordings) == MOST:
                return None
            waits = PLAINLY - 1 if self._recordings else PLAINLY
            kept = [_to_device(batch) for batch in batches]
            self._recordings[shapes] = _Recording(kept, labels.cuda(), waits)
        return self._recordings[shapes]

    def _aside(self, recording: _Recording) -> tuple[torch.Tensor, ...]:
        """Compute plainly, on the stream of the recordings, and the last time find out whether
        anything waits for the GPU."""
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        before = torch.cuda.get_sync_debug_mode()
        try:
            if not recording.waits:
                with warnings.catch_warnings(action="ignore"):  # it is called a prototype
                    torch.cuda.set_sync_debug_mode("error")
            with torch.cuda.stream(self._stream):
                results = self._compute(recording.batches, recording.labels)
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
            raise CannotRecordError(" ".join(str(error).split())[:300]) from error
        finally:
            torch.cuda.set_sync_debug_mode(before)
        here.wait_stream(self._stream)
        return results

    def forget(self) -> None:
        """Forget all recordings, and give their memory back."""
        self._recordings.clear()
        self._pool = torch.cuda.graph_pool_handle()


def _to_device(batch: Batch) -> Batch:
    return {name: tensor.cuda(non_blocking=True) for name, tensor in batch.items()}


@contextmanager
def masks_as_recorded() -> Iterator[None]:
    """Inside, a model keeps every attention mask that it is given, and makes none.

    transformers leaves out a mask that masks nothing. To find that out it reads the mask, which
    waits for the GPU, so in a recording it keeps every mask; its versions before 5.23 also make one
    there where none was given. A step that is recorded and one that runs plainly must do the same.
    """
    names = vars(masking_utils)
    original = names["is_tracing"]
    names["is_tracing"] = lambda tensor=None: tensor is not None
    try:
        yield
    finally:
        names["is_tracing"] = original
