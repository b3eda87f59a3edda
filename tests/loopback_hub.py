"""A stand-in of the model hub on this machine: the few addresses that its client reads, over
folders on disk."""

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories as folders: `root/owner/name/…`, each with one commit.

    Attributes:
        asked: method and path of each request.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.asked = root, []
        self.endpoint = ""

    def folder(self, id: str) -> Path:
        return self.root / id

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }


def answers(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def reply(self, value, status=200, **headers):
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name.replace("_", "-"), text)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def missing(self, code, text):
            self.reply({"error": text}, 404, X_Error_Code=code, X_Error_Message=text)

        def do_GET(self):
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            if found := re.fullmatch(
                r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+).*)?", path
            ):
                return self.describe(*found.groups())
            if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                file = hub.folder(found[1]) / found[3]
                if file.is_file():
                    data = file.read_bytes()
                    etag = f'"{hashlib.sha1(data).hexdigest()}"'
                    return self.reply(data, ETag=etag, X_Repo_Commit=COMMIT)
            return self.missing("EntryNotFound", f"nothing at {path}")

        do_HEAD = do_GET  # noqa: N815

        def describe(self, id, what, revision):
            folder = hub.folder(id)
            if not folder.is_dir():
                return self.missing("RepoNotFound", f"no repository {id}")
            if revision not in (None, "main", COMMIT):
                return self.missing("RevisionNotFound", f"no revision {revision}")
            files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*"))}
            files = {name: path for name, path in files.items() if path.is_file()}
            if what == "tree":
                return self.reply(
                    [
                        {"type": "file", "path": name, "size": path.stat().st_size,
                         "oid": hashlib.sha1(path.read_bytes()).hexdigest()}
                        for name, path in files.items()
                    ]
                )  # fmt: skip
            return self.reply(
                {"id": id, "sha": COMMIT, "private": False,
                 "siblings": [{"rfilename": name} for name in files]}
            )  # fmt: skip

    return Answers


@contextmanager
def loopback_hub(root: Path):
    """The stand-in, running until the block ends."""
    hub = Hub(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers(hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
