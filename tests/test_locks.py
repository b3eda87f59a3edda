"""Locks between processes: one holder at a time, on every file system."""

import os
import subprocess
import sys

import pytest
from filelock import Timeout

from deftx.data.lock import read_lock, record
from deftx.engine.checkpoint import Checkpoint
from deftx.store.errors import CheckpointError
from deftx.store.locks import NO_FLOCK, locked, soft

WITHOUT_FLOCK = """
import fcntl, os
def flock(*_):
    raise OSError({number}, os.strerror({number}))
fcntl.flock = flock
"""


@pytest.fixture(params=[0, *sorted(NO_FLOCK)], ids=lambda number: os.strerror(number))
def without_flock(request, monkeypatch):
    """Code that takes flock away, as it is taken away here: a number answers it instead."""
    if not request.param:
        return ""

    def flock(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr("fcntl.flock", flock)
    return WITHOUT_FLOCK.format(number=request.param)


def test_a_lock_has_one_holder_at_a_time(without_flock, tmp_path):
    path = tmp_path / "lock"
    for _ in range(2):
        lock = locked(path)
        with pytest.raises(Timeout):
            locked(path, timeout=0.1)
        lock.release()


def test_the_lock_of_a_killed_process_is_free(without_flock, tmp_path):
    path = tmp_path / "lock"
    code = "import os, pathlib, sys\nfrom deftx.store.locks import locked\n"
    code += "lock = locked(pathlib.Path(sys.argv[1]))\nos.kill(os.getpid(), 9)\n"
    done = subprocess.run([sys.executable, "-c", without_flock + code, path], check=False)
    assert done.returncode == -9
    locked(path, timeout=30).release()


def test_the_lock_that_a_killed_process_of_another_machine_left_is_named(
    tmp_path, monkeypatch, caplog
):
    def flock(*_):
        raise OSError(min(NO_FLOCK), "not supported")

    monkeypatch.setattr("fcntl.flock", flock)
    path = tmp_path / "lock"
    soft(path).write_text("1\nanother-machine\n")
    with pytest.raises(Timeout):
        locked(path, timeout=0.1)
    assert f"{soft(path)}: held; delete it" in caplog.text


def test_a_checkpoint_has_one_holder_and_leaves_nothing(without_flock, tmp_path):
    out = tmp_path / "model.safetensors"
    with Checkpoint(out, {}), pytest.raises(CheckpointError, match=f"process {os.getpid()} on"):
        Checkpoint(out, {}).__enter__()
    with Checkpoint(out, {}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_jobs_write_one_lock_of_downloads(without_flock, tmp_path):
    path = tmp_path / "data.lock"
    for url in ("a", "b"):
        record(path, url, {"sha256": "0" * 64, "bytes": 1})
    assert [each.name for each in tmp_path.iterdir()] == ["data.lock"]
    assert read_lock(path).keys() == {"a", "b"}
