"""A stand-in of the model hub on this machine: the few addresses that its client reads, over
folders on disk: `root/owner/name/…`, each with one commit."""

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


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
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+).*)?", path):
            return self.describe(*found.groups())
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            file = self.server.root / found[1] / found[2]
            if file.is_file():
                etag = f'"{sha(file)}"'
                return self.reply(file.read_bytes(), ETag=etag, X_Repo_Commit=COMMIT)
        return self.missing("EntryNotFound", f"nothing at {path}")

    do_HEAD = do_GET  # noqa: N815

    def describe(self, id, what, revision):
        folder = self.server.root / id
        if not folder.is_dir():
            return self.missing("RepoNotFound", f"no repository {id}")
        if revision not in (None, "main", COMMIT):
            return self.missing("RevisionNotFound", f"no revision {revision}")
        files = {p.name: p for p in sorted(folder.iterdir())}
        tree = [
            {"type": "file", "path": name, "size": path.stat().st_size, "oid": sha(path)}
            for name, path in files.items()
        ]
        about = {"id": id, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
        return self.reply(tree if what == "tree" else about)


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
