"""A server that has imported everything; jobs are forks of it, so they need not import it again.

    Snakemake ── starts ──> server ── forks ──> guard of a job ── forks ──> the job
    shell ── starts ──> client (deftx/run/handover.py) <── socket ──┘

The server itself computes nothing, so a job has what a new process has after its imports: no thread
pools, no CUDA, unused random streams. Linux only: elsewhere these libraries do not survive a fork,
and the system does not end a process with its parent.
"""

import atexit
import gc
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Never

from deftx.run.handover import VARIABLE
from deftx.run.launcher import end_with_parent
from deftx.run.workflow import PACKAGE

SERVE = "--serve-jobs"
"""`python -m deftx --serve-jobs …` is the server; the command line then calls `serve`."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS",
           "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")  # fmt: skip
OF_THE_JOB = {"PATH", "PWD", "OLDPWD", "SHLVL", "_", "PS1", "PS2", "TMPDIR", "TMP", "TEMPDIR",
              "TEMP", "CUDA_VISIBLE_DEVICES"}  # fmt: skip
OF_THE_STEP = ("DEFTX_", "SLURM", "SRUN_", "PMI")
"""Variables that may differ between server and job, and prefixes of such: they are read when a job
runs, or set in the fork, as THREADS are. A library may have read any other when it was imported.
SLURM starts each job of a group as a step of its own."""
QUIET = {"OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Set for the server, so that no library and no allocator starts threads."""


def start(environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server for jobs of this environment, which leads to this package.
    Returns its process and the path of its socket, which listens at once: jobs wait until
    everything is imported.

    The server ends with the thread that started it, however that ends, or by SIGTERM; running jobs
    continue. Raises OSError where the system does not allow it.
    """
    if sys.platform != "linux":
        raise OSError(f"expected Linux, found {sys.platform}")
    folder = tempfile.mkdtemp(prefix="deftx-")  # only this user may enter it
    path = f"{folder}/socket"
    kept = {k: v for k, v in environment.items() if k not in (*THREADS, VARIABLE)}
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            arguments = [SERVE, str(os.getpid()), str(listener.fileno())]
            # -P: the code is where PYTHONPATH says, not in the folder of who starts the server.
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "deftx", *arguments],
                env={**kept, **QUIET},
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # A session of its own: Ctrl-C reaches jobs through their clients, and once.
                start_new_session=True,
            )
    except OSError:
        shutil.rmtree(folder)
        raise
    return process, path


def serve(run: Callable[[], int], prepare: Callable[[], None], arguments: list[str]) -> Never:
    """Call `prepare`, which imports what jobs need, and serve until SIGTERM; a fork that is a job
    calls `run` and exits with its status. `arguments` are those after SERVE."""
    parent, descriptor = map(int, arguments)
    with socket.socket(fileno=descriptor) as listener:
        folder = Path(listener.getsockname()).parent

        def stop(number: int, frame: FrameType | None) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)  # an exception could get lost in an import

        signal.signal(signal.SIGTERM, stop)
        end_with_parent(signal.SIGTERM, parent)
        try:
            code, before = code_on_disk(), dict(os.environ)
            prepare()
            gc.collect()
            gc.freeze()  # else the collector would write to, and so copy, all that forks share
            connection = _client(listener)
        except BaseException:
            shutil.rmtree(folder)
            raise
    _become_the_job(connection, code, before)
    status = run()
    # As multiprocessing ends its forks: freeing objects would copy the memory that all share.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def code_on_disk(package: Path = PACKAGE) -> str:
    """A hash of the files of this package, or of a copy."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _client(listener: socket.socket) -> socket.socket:
    """A client's connection, returned in a fork for each client; the server never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps the guards
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            return connection
        connection.close()


def _become_the_job(connection: socket.socket, code: str, before: dict[str, str]) -> None:
    """Take over what the client hands over and fork once more. Returns in the job, not in its
    guard, which returns the exit status, and kills the job if the client ends."""
    message, streams, _, _ = socket.recv_fds(connection, 1, 3)
    message += connection.makefile("rb").readline()
    if not message.endswith(b"\n"):  # the client has ended
        os._exit(1)
    request = json.loads(message)
    if reason := _difference(request, code, before):
        _reply(connection, reason=reason)
        os._exit(0)
    set_by_imports = {k: v for k, v in os.environ.items() if before.get(k) != v}
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update({**request["environment"], **set_by_imports})
    del os.environ[VARIABLE]  # what the job starts is not itself a job
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())  # type: ignore[union-attr]
    sys.argv = request["arguments"]
    sys.path.insert(0, request["folder"])  # as `python -m` does
    tempfile.tempdir = None
    guard = os.getpid()
    if job := os.fork():
        _watch(connection, job)
    connection.close()
    end_with_parent(parent=guard)
    # As many threads as the libraries would have read from the environment at their import. What
    # they read later, as MKL does, is there already.
    from threadpoolctl import threadpool_limits

    threads = int(os.environ["OMP_NUM_THREADS"])
    blas = min(threads, len(os.sched_getaffinity(0)))  # OpenBLAS takes no more
    threadpool_limits({"openmp": threads, "blas": blas})


def _difference(request: dict[str, Any], code: str, before: dict[str, str]) -> str | None:
    """Why a fork would differ from a new process; None if it would not."""
    given = request["environment"]
    if (request["package"], request["python"]) != (str(PACKAGE), sys.prefix):
        return "the server has another installation"
    if names := [
        name
        for name in sorted({*given, *before} - OF_THE_JOB - {*QUIET, *THREADS})
        if given.get(name) != before.get(name) and not name.startswith(OF_THE_STEP)
    ]:
        return f"the server has another environment: {', '.join(names)}"
    threads = {given[name] for name in THREADS if name in given}
    if "OMP_NUM_THREADS" not in given or len(threads) > 1 or not threads.pop().isdigit():
        return "OMP_NUM_THREADS is not a number, or another library has a different one"
    if code_on_disk() != code:
        return "the code was edited after the server started"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda._is_in_bad_fork():
        return "a library looked for GPUs when it was imported, which a fork cannot undo"
    return None


def _watch(connection: socket.socket, job: int) -> Never:
    def collect(number: int = 0, frame: FrameType | None = None) -> None:
        ended, status = os.waitpid(job, os.WNOHANG)
        if ended:
            _reply(connection, status=os.waitstatus_to_exitcode(status))
            os._exit(0)

    _reply(connection, runs=job)
    signal.signal(signal.SIGCHLD, collect)
    collect()  # it may have ended before
    connection.recv(1)  # it returns when the client has ended
    os.kill(job, signal.SIGKILL)
    os._exit(0)


def _reply(connection: socket.socket, **reply: Any) -> None:
    try:
        connection.sendall(json.dumps(reply).encode() + b"\n")
    except OSError:  # the client has ended
        os._exit(0)
