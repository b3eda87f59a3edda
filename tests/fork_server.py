"""Runs verbs of `deftx` in forks of a process that has imported everything already.

Started as `python fork_server.py SOCKET` with the copy of the project first on PYTHONPATH. The
server itself computes nothing, so that its forks start with fresh threads and caches.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

import deftx.cli
import deftx.fingerprint
from deftx.stages import (  # noqa: F401
    base,
    compose,
    data,
    denoise,
    evaluate,
    figures,
    full,
    mask,
    sparse,
    tables,
    world,
)


def serve(path):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(connection)
        connection.close()


def answer(connection):
    message, files, _, _ = socket.recv_fds(connection, 1 << 20, 2)
    while part := connection.recv(1 << 20):
        message += part
    folder, arguments = json.loads(message)
    os.chdir(folder)
    os.dup2(files[0], 1)
    os.dup2(files[1], 2)
    # The code that counts is that of the copy from which the job came, edits included.
    deftx.fingerprint.PACKAGE = Path(folder) / "deftx"
    status = 1
    try:
        status = deftx.cli.main(arguments)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(str(status).encode())
        os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
