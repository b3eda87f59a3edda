"""Where interrupted training goes on from: state on disk, used by exactly the job that made it.

Design choice; transformers' own checkpoints hold pickles and whole models.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch
from filelock import FileLock, Timeout
from transformers import TrainerCallback, TrainerState

from deftx.engine.guards import KeepBest, LossGuard
from deftx.engine.processes import is_first, share
from deftx.models.device import available_device
from deftx.run.fingerprint import fingerprint
from deftx.store.artefact import canonical, manifest_path
from deftx.store.errors import ArtefactError, CheckpointError, InputError, NotFiniteError, Stopped
from deftx.store.tensors import TensorFile, save_tensors

log = logging.getLogger(__name__)

OTHERS_KEPT = 2
"""Checkpoints of the same artefact with other parameters: kept until the artefact is made."""
HOLDER = "holder.json"
"""The file that names the process that holds a checkpoint."""


class Checkpoint:
    """The newest state of one phase of training, in `<folder of out>/.checkpoints/<key>/`.

    A context manager: inside, this process holds it and no other can, but for those that share
    its training. The key is a hash of `facts`, everything that the state depends on. It is no
    declared output of a workflow, which would be deleted with the failed job.

    Raises CheckpointError on entering if another process holds it; the message names that process.
    """

    _held: FileLock | None = None

    def __init__(self, out: Path, facts: Mapping[str, Any]) -> None:
        key = hashlib.sha256(canonical(facts).encode()).hexdigest()[:16]
        self.folder = out.parent / ".checkpoints" / f"{out.stem}-{key}"

    @classmethod
    def of_stage(
        cls, stage: str, out: Path, params: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> Self:
        """The checkpoint of a stage's training: its facts are all that bits depend on."""
        facts = {
            "stage": stage,
            "params": params,
            "inputs": inputs,
            "code": fingerprint(stage),
            "versions": [version("torch"), version("transformers")],
            "threads": torch.get_num_threads(),
            "device": available_device().type,
            "processes": share()[1],
        }
        return cls(out, facts)

    def __enter__(self) -> Self:
        if not is_first():  # it reads with the process that holds it
            return self
        lock = _lock(self.folder)
        if lock is None:
            raise CheckpointError(
                f"{self.folder}: already being trained by {_holder(self.folder)}; wait for it, or "
                "stop it and start again"
            )
        here = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        (self.folder / HOLDER).write_text(json.dumps(here), encoding="utf-8")
        self._held = lock
        self._remove_others(OTHERS_KEPT)
        return self

    def __exit__(self, *_: object) -> None:
        if self._held is None:
            return
        if not self._states():  # nothing in it: do not leave an empty folder
            self._delete(self.folder)
        self._held.release()

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Tensors and facts of the newest state that is whole; None if there is none. One that is
        not is set aside as `*.corrupt`, and the log says so."""
        for path in reversed(self._states()):
            try:
                file = TensorFile(path)
            except ArtefactError as error:
                log.warning("a checkpoint cannot be used: %s", error)
                continue
            return dict(file), file.provenance["state"]
        return None

    def save(
        self, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]
    ) -> None:
        """Write the state of a step, then delete the older one: a kill in between leaves one."""
        path = self.folder / f"step-{step:09d}.safetensors"
        save_tensors(path, tensors, stage="checkpoint", state=dict(state))
        for old in self._states():
            if old != path:
                _unlink(old)

    def remove(self) -> None:
        """The artefact is made: delete this checkpoint and those with other parameters."""
        for path in self._states():
            _unlink(path)
        self._remove_others(0)

    def _states(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"))

    def _remove_others(self, kept: int) -> None:
        stem = self.folder.name.rpartition("-")[0]
        others = [path for path in self.folder.parent.glob(f"{stem}-*") if path != self.folder]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[kept:]:
            if (lock := _lock(path)) is not None:
                self._delete(path)
                lock.release()

    @staticmethod
    def _delete(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # others are still in it
            folder.parent.rmdir()


def _lock(folder: Path) -> FileLock | None:
    """A lock on a folder, released with this process; None if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    # A second attempt is needed if the last holder deletes the file during the first.
    lock = FileLock(folder / "lock", timeout=0.2)
    with contextlib.suppress(Timeout):
        lock.acquire()
        return lock
    return None


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "another process"
    job = f", SLURM job {holder['slurm_job']}" if holder["slurm_job"] else ""
    return f"process {holder['pid']} on {holder['host']}{job}, since {holder['since']}"


def _unlink(path: Path) -> None:
    manifest_path(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest(contextlib.ExitStack):
    """A context manager inside of which the first signal of SIGNALS is remembered in `received`.
    Further ones change nothing, except SIGINT, which has its usual effect. Nothing is caught
    outside of the main thread, where Python cannot do so, nor unless `catch`."""

    def __init__(self, catch: bool = True) -> None:
        super().__init__()
        self.received: signal.Signals | None = None
        self._catch, self._usual = catch, signal.getsignal(signal.SIGINT)

    def __enter__(self) -> Self:
        if self._catch and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self.callback(signal.signal, number, signal.signal(number, self._note))
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number)
        # A cluster signals each process of a job, and its parent passes the signal on at the same
        # moment: the second one must not end the saving. A person's second Ctrl-C is meant.
        signal.signal(signal.SIGINT, self._usual)


MINUTES = 10.0
"""Between two checkpoints, unless DEFTX_CHECKPOINT_MINUTES says otherwise. When they are taken
changes nothing in the result, so it is no setting."""

MOMENTS = ("exp_avg", "exp_avg_sq")


class SaveState(TrainerCallback):
    """Saves what a phase needs to go on with the same bits: trained values, moments of the
    optimiser, the best checkpoint so far. Everything random is a function of the step.

    `progress` is what else has changed while training, by name, as plain values.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        stop: StopRequest,
        trained: Mapping[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        keeper: KeepBest,
        guard: LossGuard,
        progress: dict[str, Any],
    ) -> None:
        self._checkpoint, self._stop = checkpoint, stop
        self._trained, self._optimizer = trained, optimizer
        self._keeper, self._guard, self._progress = keeper, guard, progress
        given = os.environ.get("DEFTX_CHECKPOINT_MINUTES", str(MINUTES))
        try:
            self._seconds = 60 * float(given)
        except ValueError:
            raise InputError(
                f"DEFTX_CHECKPOINT_MINUTES is {given!r}, expected a number of minutes"
            ) from None
        self._saved_step, self._saved_at = 0, time.monotonic()

    @torch.no_grad()
    def restore(self) -> int:
        """Put the newest state back, if there is one; how many steps are done."""
        found = self._checkpoint.load()
        if found is None:
            return 0
        tensors, state = found
        moments: dict[int, dict[str, torch.Tensor]] = {}
        # The optimiser has the parameters in the same order.
        for number, (name, parameter) in enumerate(self._trained.items()):
            parameter.copy_(tensors[f"trained.{name}"])
            if f"{MOMENTS[0]}.{name}" in tensors:
                moments[number] = {moment: tensors[f"{moment}.{name}"] for moment in MOMENTS}
                moments[number]["step"] = torch.tensor(state["optimizer_steps"][name])
            if f"best.{name}" in tensors:
                self._keeper.kept[name] = tensors[f"best.{name}"].to(parameter.device)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self._keeper.facts = state["keeper"]
        self._guard.first = state["first_loss"]
        self._progress.update(state["progress"])
        self._saved_step = state["step"]
        log.info("going on from step %d (%s)", self._saved_step, self._checkpoint.folder)
        return self._saved_step

    def kept(self) -> str:
        """Where the newest state is, as the end of a message about a failure."""
        if not self._saved_step:
            return ""
        return f"; the state after step {self._saved_step} is kept ({self._checkpoint.folder})"

    def on_train_begin(self, args: Any, state: TrainerState, *_: Any, **__: Any) -> None:
        """Let the Trainer count from the steps that are already done."""
        state.global_step = self._saved_step

    def on_step_begin(self, args: Any, state: TrainerState, *_: Any, **__: Any) -> None:
        """Save if it is time or a signal came. At the beginning of a step, when the evaluation
        that belongs to the last one is over. Raises Stopped after a signal. If
        several processes train, the first one does this, and the others end when they miss it."""
        if not is_first():
            return
        signalled = self._stop.received
        if signalled is not None or time.monotonic() - self._saved_at >= self._seconds:
            self._save(state.global_step)
        if signalled is not None:
            log.warning(
                "stopped by %s after step %d of %d; the same command goes on from there (%s)",
                signalled.name,
                state.global_step,
                state.max_steps,
                self._checkpoint.folder,
            )
            raise Stopped(128 + signalled)

    def _save(self, step: int) -> None:
        self._saved_at = time.monotonic()
        if step == self._saved_step:
            return
        self._guard.check()
        tensors: dict[str, torch.Tensor] = {}
        counts: dict[str, float] = {}
        for name, parameter in self._trained.items():
            if not torch.isfinite(parameter).all():
                raise NotFiniteError(f"step {step}: not all trained values are finite ({name})")
            tensors[f"trained.{name}"] = parameter
            moments = self._optimizer.state.get(parameter)
            if moments:
                tensors |= {f"{moment}.{name}": moments[moment] for moment in MOMENTS}
                counts[name] = float(moments["step"])
        tensors |= {f"best.{name}": kept for name, kept in self._keeper.kept.items()}
        state = {
            "step": step,
            "optimizer_steps": counts,
            "keeper": self._keeper.facts,
            "first_loss": self._guard.first,
            "progress": self._progress,
        }
        self._checkpoint.save(step, tensors, state)
        self._saved_step = step
