"""A stand-in of the model hub on this machine: the few addresses that its client asks for, over
folders on disk."""

import base64
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
        private: repository → whether it is private.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.asked, self.private = root, [], {}
        self.endpoint = ""
        self.blobs = {}

    def folder(self, id: str) -> Path:
        return self.root / id

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": "hf_stand_in",
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

        def body(self):
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def do_GET(self):
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            if found := re.fullmatch(
                r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+).*)?", path
            ):
                id, what, revision = found.groups()
                folder = hub.folder(id)
                if not folder.is_dir():
                    return self.missing("RepoNotFound", f"no repository {id}")
                if revision not in (None, "main", COMMIT):
                    return self.missing("RevisionNotFound", f"no revision {revision}")
                files = sorted(p for p in folder.rglob("*") if p.is_file())
                names = [file.relative_to(folder).as_posix() for file in files]
                if what == "tree":
                    return self.reply(
                        [
                            {"type": "file", "path": name, "size": file.stat().st_size,
                             "oid": hashlib.sha1(file.read_bytes()).hexdigest()}
                            for name, file in zip(names, files, strict=True)
                        ]
                    )  # fmt: skip
                return self.reply(
                    {"id": id, "sha": COMMIT, "private": hub.private.get(id, False),
                     "siblings": [{"rfilename": name} for name in names]}
                )  # fmt: skip
            if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                id, revision, name = found.groups()
                file = hub.folder(id) / name
                if not file.is_file():
                    return self.missing("EntryNotFound", f"no file {name}")
                data = file.read_bytes()
                etag = f'"{hashlib.sha1(data).hexdigest()}"'
                return self.reply(data, ETag=etag, X_Repo_Commit=COMMIT)
            if path == "/api/whoami-v2":
                return self.reply({"name": "me", "type": "user"})
            return self.missing("EntryNotFound", f"nothing at {path}")

        do_HEAD = do_GET  # noqa: N815

        def do_PUT(self):
            hub.blobs[self.path.rpartition("/")[2]] = self.body()
            hub.asked.append(f"PUT {self.path}")
            self.reply({}, ETag='"x"')

        def do_POST(self):
            path, body = unquote(urlsplit(self.path).path), self.body()
            hub.asked.append(f"POST {path}")
            if self.headers.get("Authorization") != "Bearer hf_stand_in":
                return self.reply({"error": "log in"}, 401)
            if path == "/api/repos/create":
                asked = json.loads(body)
                id = f"{asked.get('organization') or 'me'}/{asked['name']}"
                hub.folder(id).mkdir(parents=True)
                visibility = asked.get("visibility")
                hub.private[id] = asked.get("private") is True or visibility == "private"
                return self.reply({"url": f"{hub.endpoint}/{id}", "id": id})
            if path == "/api/validate-yaml":
                return self.reply({"errors": [], "warnings": []})
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
                files = json.loads(body)["files"]
                return self.reply(
                    {"files": [{"path": f["path"], "uploadMode": mode(f["path"]),
                                "shouldIgnore": False, "oid": None} for f in files]}
                )  # fmt: skip
            if found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
                objects = json.loads(body)["objects"]
                return self.reply(
                    {"transfer": "basic", "objects": [
                        {**o, "actions": {"upload": {"href": f"{hub.endpoint}/blob/{o['oid']}"}}}
                        for o in objects
                    ]}
                )  # fmt: skip
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
                folder = hub.folder(found[1])
                for line in body.decode().splitlines():
                    part = json.loads(line)
                    if part["key"] == "file":
                        data = base64.b64decode(part["value"]["content"])
                    elif part["key"] == "lfsFile":
                        data = hub.blobs[part["value"]["oid"]]
                    else:
                        continue
                    (folder / part["value"]["path"]).write_bytes(data)
                return self.reply(
                    {"success": True, "commitOid": COMMIT,
                     "commitUrl": f"{hub.endpoint}/{found[1]}/commit/{COMMIT}"}
                )  # fmt: skip
            return self.missing("EntryNotFound", f"nothing at {path}")

    return Answers


def mode(path):
    return "lfs" if path.endswith(".safetensors") else "regular"


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
