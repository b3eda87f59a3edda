"""A job handed over to a server that has imported everything (deftx/run/warm.py), if there is one.
Standard library only: it is what a job costs before it runs."""

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

VARIABLE = "DEFTX_WARM"
"""The environment variable that names the server's socket, or says `off`."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
SECONDS_TO_BEGIN = 120
"""For so long a job waits for a server that still imports."""


def handed_over(arguments: list[str]) -> int | None:
    """Run the verb in a fork of the server; its exit status, 128 + n if signal n ended it. None
    where nothing has run and the job is to start plainly: no server is named or answers, or it is
    not what a new process would be, for which standard error tells the reason.

    The fork has this process' arguments, folder, environment and standard streams. Signals of
    FORWARDED go on to it; it is killed if this process ends.
    """
    path = os.environ.get(VARIABLE, "off")
    if path == "off":
        return None
    request = _request(arguments)
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.settimeout(SECONDS_TO_BEGIN)
            connection.connect(path)
            socket.send_fds(connection, [request[:1]], [0, 1, 2])
            connection.sendall(request[1:])
            replies = connection.makefile("r", encoding="utf-8")
            reply = json.loads(replies.readline() or "{}")
        except OSError:
            return None
        if "runs" not in reply:
            if "plainly" in reply:
                print(f"a new process for this job: {reply['plainly']}", file=sys.stderr)
            return None
        connection.settimeout(None)

        def forward(number: int, frame: FrameType | None) -> None:
            with suppress(OSError):  # it may have ended just now
                connection.send(bytes([number]))

        for number in FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, forward)
        with suppress(OSError):
            reply = json.loads(replies.readline() or "{}")
    return _status(arguments, reply.get("status"))


def _request(arguments: list[str]) -> bytes:
    request = {
        "package": str(Path(__file__).resolve().parents[1]),
        "python": sys.prefix,
        "arguments": [sys.argv[0], *arguments],
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
    }
    return json.dumps(request).encode() + b"\n"


def _status(arguments: list[str], status: int | None) -> int:
    if status is None:
        end = "ended without a status: its process was killed, or what watches over it"
    elif status < 0:
        end = f"was ended by {signal.Signals(-status).name}"
    else:
        return status
    print(f"deftx {' '.join(arguments[:1])}: {end}", file=sys.stderr)
    return 1 if status is None else 128 - status
