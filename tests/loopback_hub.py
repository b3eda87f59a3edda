"""A stand-in of the hub on this machine: the few addresses that its clients read, over folders on
disk: `root/owner/name/…` for models and data sets, each with one commit."""

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
API = re.compile(r"/api/(?:models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.+))?)?")
FILE = re.compile(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/[^/]+/(.+)")


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, value, status=200, **headers):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, code, text):
        self.reply({"error": text}, 404, X_Error_Code=code, X_Error_Message=text)

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        if found := API.fullmatch(path):
            return self.describe(*found.groups())
        if found := FILE.fullmatch(path):
            file = self.server.root / found[1] / found[2]
            if file.is_file():
                etag = f'"{sha(file)}"'
                return self.reply(file.read_bytes(), ETag=etag, X_Repo_Commit=COMMIT)
        return self.missing("EntryNotFound", f"nothing at {path}")

    do_HEAD = do_GET  # noqa: N815

    def describe(self, id, what, revision, below):
        folder = self.server.root / id
        if not folder.is_dir():
            return self.missing("RepoNotFound", f"no repository {id}")
        if revision not in (None, "main", COMMIT):
            return self.missing("RevisionNotFound", f"no revision {revision}")
        if what == "tree":
            parts = (folder / (below or "")).iterdir()
            return self.reply([entry(folder, path) for path in sorted(parts)])
        files = [entry(folder, path) for path in sorted(folder.rglob("*")) if path.is_file()]
        siblings = [{"rfilename": file["path"]} for file in files]
        return self.reply({"id": id, "sha": COMMIT, "siblings": siblings})


def entry(folder: Path, path: Path) -> dict:
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "size": 0, "oid": COMMIT}
    return {"type": "file", "path": name, "size": path.stat().st_size, "oid": sha(path)}


def sha(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def loopback_hub(root: Path):
    """The stand-in, running until the block ends; `asked` are the paths of the requests."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.root, server.asked = root, []
    server.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
