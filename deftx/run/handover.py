"""Hand a job over to a server that has imported everything (deftx/run/warm.py), if one runs.
Standard library only: every job pays for these imports."""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

VARIABLE = "DEFTX_WARM"
"""The environment variable with the path of the server's socket, or `off`."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""Signals that go on to the process that does the work."""
SECONDS_TO_BEGIN = 120
"""How long a job waits for a server that is still importing."""


def handed_over(arguments: list[str]) -> int | None:
    """Run the verb in a fork of the server. Returns its exit status, 128 + n if signal n ended it.
    Returns None if nothing has run and the job must start as a new process: no server is named or
    answers, or a fork would differ from a new process; standard error then states why.

    The fork has the arguments, folder, environment and standard streams of this process, gets the
    signals of FORWARDED, and is killed if this process ends.
    """
    path = os.environ.get(VARIABLE, "off")
    if path == "off":
        return None
    request = {
        "package": str(Path(__file__).resolve().parents[1]),
        "python": sys.prefix,
        "arguments": [sys.argv[0], *arguments],
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
    }
    message = json.dumps(request).encode() + b"\n"
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.settimeout(SECONDS_TO_BEGIN)
            connection.connect(path)
            socket.send_fds(connection, [message[:1]], [0, 1, 2])
            connection.sendall(message[1:])
            replies = connection.makefile("r", encoding="utf-8")
            reply = json.loads(replies.readline() or "{}")
        except OSError:
            return None
        if "runs" not in reply:
            if "reason" in reply:
                print(f"a new process for this job: {reply['reason']}", file=sys.stderr)
            return None
        connection.settimeout(None)
        forward_signals(partial(os.kill, reply["runs"]))
        with suppress(OSError):
            reply = json.loads(replies.readline() or "{}")
    status: int | None = reply.get("status")
    if status is None:
        status, end = 1, "ended without a status: its process or its guard was killed"
    elif status >= 0:
        return status
    else:
        status, end = 128 - status, f"ended by {signal.Signals(-status).name}"
    print(f"deftx {' '.join(arguments[:1])}: {end}", file=sys.stderr)
    return status


def forward_signals(send: Callable[[int], object]) -> None:
    """Call `send` with each signal of FORWARDED that arrives from now on, except ignored ones."""

    def forward(number: int, frame: FrameType | None) -> None:
        with suppress(OSError):  # the receiver may have ended just now
            send(number)

    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, forward)
