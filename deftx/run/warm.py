"""A server that has imported everything, from which jobs fork instead of importing it again.

    Snakemake ── starts ──> server ── forks ──> guard of a job ── forks ──> the job
    shell ── starts ──> client (deftx/run/handover.py) <── socket ──┘

The server itself computes nothing, so a job has what a new process has after its imports: no thread
pools, no CUDA, random streams that nobody has drawn from. Linux only: elsewhere forks are not safe
with these libraries, and the system does not end a process with its parent.
"""

import atexit
import gc
import hashlib
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from deftx.run.handover import VARIABLE

PACKAGE = Path(__file__).resolve().parents[1]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS",
           "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")  # fmt: skip
OF_THE_JOB = {"PATH", "PWD", "OLDPWD", "SHLVL", "_", "PS1", "PS2", "TMPDIR", "TMP", "TEMPDIR",
              "TEMP", "CUDA_VISIBLE_DEVICES"}  # fmt: skip
"""What may differ between the environments of server and job, with THREADS and what begins with one
of OF_THE_STEP: it is read when a job runs, or set in the fork. Any other a library may have read at
its import."""
OF_THE_STEP = ("DEFTX_", "SLURM", "SRUN_", "PMI")
"""SLURM starts each job of a group as a step of its own, and tells it which."""
QUIET = {"OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Set for the server, so that no library, nor pyarrow's allocator, makes a pool of threads."""
LATE = (
    "accelerate",
    "deftx.run.progress",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "peft",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "sklearn.metrics",
    "threadpoolctl",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.xlm_roberta.modeling_xlm_roberta",
    "transformers.models.xlm_roberta.tokenization_xlm_roberta",
)
"""Modules that libraries import when a job first needs them."""


def start(environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server for jobs of this environment, whose PYTHONPATH leads to this package; its
    process and the path of its socket, which listens at once: jobs wait until everything is
    imported.

    It ends with the thread that started it, however that ends, or by SIGTERM; jobs that run go on.
    Raises OSError where the system does not allow it.
    """
    if sys.platform != "linux":
        raise OSError(f"expected Linux, found {sys.platform}")
    folder = tempfile.mkdtemp(prefix="deftx-")  # only this user may enter it
    path = f"{folder}/socket"
    environment = {k: v for k, v in environment.items() if k not in THREADS}
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            descriptor = listener.fileno()
            # -P: the code is where PYTHONPATH says, not in the folder of who starts the server.
            command = [sys.executable, "-P", "-m", "deftx.run.warm"]
            process = subprocess.Popen(
                [*command, str(os.getpid()), folder, str(descriptor)],
                env={**environment, **QUIET},
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # A session of its own: Ctrl-C reaches jobs through their clients, and once.
                start_new_session=True,
            )
    except OSError:
        shutil.rmtree(folder)
        raise
    return process, path


def main() -> None:
    """Serve until told to stop; in a fork that is a job: run it, and exit with its status."""
    from deftx.run.launcher import end_with_parent

    parent, folder, descriptor = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])

    def stop(number: int, frame: FrameType | None) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    end_with_parent(signal.SIGTERM)
    try:
        if os.getppid() != parent:  # it ended before the system was asked to tell
            stop(0, None)
        code, before = code_on_disk(), dict(os.environ)
        import_everything()
        with socket.socket(fileno=descriptor) as listener:
            connection = _connection_in_a_fork(listener)
    except BaseException:
        shutil.rmtree(folder)
        raise
    _become_the_job(connection, code, before)
    from deftx.cli.main import main as run

    status = run()
    # What the end of an interpreter does, but for taking down what nobody uses any more: that would
    # copy all the memory that is shared with the server. As multiprocessing ends its forks.
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


def import_everything() -> None:
    """Import what any stage imports. Asks for no device and computes nothing."""
    from deftx.cli.main import STAGES

    for stage in STAGES:
        importlib.import_module(f"deftx.stages.{stage}.run")
    for name in LATE:
        with suppress(ImportError):  # where another version has it elsewhere, the job imports it
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else the collector would write to, and so copy, all that forks share


def _connection_in_a_fork(listener: socket.socket) -> socket.socket:
    """For each client a fork that returns its connection; in the server itself it never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries the guards
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            return connection
        connection.close()


def _become_the_job(connection: socket.socket, code: str, before: dict[str, str]) -> None:
    """Take over what the client hands over and fork once more: returns in the job, never in its
    guard, which passes signals on and the exit status back, and kills the job if the client is
    gone."""
    from deftx.run.launcher import end_with_parent

    message, streams, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while not message.endswith(b"\n"):
        if not (part := connection.recv(1 << 16)):
            os._exit(1)
        message += part
    request = json.loads(message)
    if reason := _differs(request, code, before):
        _reply(connection, plainly=reason)
        os._exit(0)
    of_imports = {k: v for k, v in os.environ.items() if before.get(k) != v}
    _take_over(request, streams, of_imports)
    _reply(connection, runs=True)
    guard = os.getpid()
    if (job := os.fork()) == 0:
        connection.close()
        end_with_parent(signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)
        _set_threads()
        return
    _watch(connection, job)


def _differs(request: dict[str, Any], code: str, before: dict[str, str]) -> str | None:
    """Why a new process would not be what this one is; None where it would be."""
    given = request["environment"]
    names = sorted(
        name
        for name in {*given, *before} - OF_THE_JOB - {*QUIET, *THREADS}
        if given.get(name) != before.get(name) and not name.startswith(OF_THE_STEP)
    )
    if (request["package"], request["python"]) != (str(PACKAGE), sys.prefix):
        return "the server has another installation"
    if names:
        return f"the server has another environment: {', '.join(names)}"
    threads = {given[name] for name in THREADS if name in given}
    if "OMP_NUM_THREADS" not in given or len(threads) > 1 or not threads.pop().isdigit():
        return "OMP_NUM_THREADS is no number for all libraries"
    if code_on_disk() != code:
        return "the code was edited after the server started"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda._is_in_bad_fork():
        return "a library looked for GPUs when it was imported, which a fork cannot undo"
    return None


def _take_over(request: dict[str, Any], streams: list[int], of_imports: dict[str, str]) -> None:
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update({**request["environment"], **of_imports})
    del os.environ[VARIABLE]  # what the job starts is no job
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())  # type: ignore[union-attr]
    sys.argv = request["arguments"]
    sys.path.insert(0, request["folder"])  # as `python -m` does
    tempfile.tempdir = None


def _set_threads() -> None:
    """As many threads as the libraries would have read from the environment at their import. What
    they read later, as MKL does, they find there."""
    from threadpoolctl import threadpool_limits

    threads = int(os.environ["OMP_NUM_THREADS"])
    blas = min(threads, len(os.sched_getaffinity(0)))  # OpenBLAS takes no more
    threadpool_limits({"openmp": threads, "blas": blas})


def _watch(connection: socket.socket, job: int) -> None:
    def collect(number: int = 0, frame: FrameType | None = None) -> None:
        ended, status = os.waitpid(job, os.WNOHANG)
        if ended:
            _reply(connection, status=os.waitstatus_to_exitcode(status))
            os._exit(0)

    signal.signal(signal.SIGCHLD, collect)
    collect()  # it may have ended before
    while numbers := connection.recv(16):
        for number in numbers:
            os.kill(job, number)
    os.kill(job, signal.SIGKILL)
    os._exit(0)


def _reply(connection: socket.socket, **reply: Any) -> None:
    try:
        connection.sendall(json.dumps(reply).encode() + b"\n")
    except OSError:  # the client is gone
        os._exit(0)


if __name__ == "__main__":
    main()
