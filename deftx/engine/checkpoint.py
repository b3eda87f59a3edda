"""Where interrupted training goes on from: state on disk, used by exactly the job that made it.

Design choice; transformers' own checkpoints hold pickles and whole models.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import torch
from filelock import BaseFileLock, Timeout

from deftx.engine.processes import is_first, share
from deftx.models.device import available_device
from deftx.run.fingerprint import fingerprint
from deftx.store.artefact import canonical, manifest_path
from deftx.store.errors import ArtefactError, CheckpointError
from deftx.store.locks import locked
from deftx.store.tensors import TensorFile, save_tensors

log = logging.getLogger(__name__)

LAYOUT = 2
"""Which tensors and facts a state has; one of another layout cannot be used."""

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

    _held: BaseFileLock | None = None

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
        not, or that another version wrote, is set aside, and the log says so."""
        for path in reversed(self._states()):
            try:
                file = TensorFile(path)
                if (found := file.provenance.get("layout")) == LAYOUT:
                    return dict(file), file.provenance["state"]
                aside = path.replace(path.with_suffix(".other"))
                log.warning(
                    "%s: layout %s, expected %d; renamed to %s: training starts again",
                    path,
                    found,
                    LAYOUT,
                    aside.name,
                )
            except ArtefactError as error:
                log.warning("a checkpoint cannot be used: %s", error)
        return None

    def save(
        self, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]
    ) -> None:
        """Write the state of a step, then delete the older one: a kill in between leaves one."""
        path = self.folder / f"step-{step:09d}.safetensors"
        save_tensors(path, tensors, stage="checkpoint", layout=LAYOUT, state=dict(state))
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


def _lock(folder: Path) -> BaseFileLock | None:
    """A lock on a folder, released with this process; None if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    # A second attempt is needed if the last holder deletes the file during the first.
    with contextlib.suppress(Timeout):
        return locked(folder / "lock", timeout=0.2)
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
