"""Stands in for deftx/__main__.py in a test's copy of the project: asks fork_server.py to run the
verb, which saves the seconds of importing torch and transformers in each of hundreds of jobs.
`FAIL=<stage>` in the environment makes that stage fail."""

import json
import os
import socket
import sys
from pathlib import Path

if os.environ.get("FAIL") == sys.argv[1]:
    sys.exit(f"{sys.argv[1]}: told to fail")
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(os.environ["DEFTX_FORK_SERVER"])
    socket.send_fds(connection, [json.dumps([str(Path.cwd()), sys.argv[1:]]).encode()], [1, 2])
    connection.shutdown(socket.SHUT_WR)
    sys.exit(int(connection.recv(16) or b"1"))
