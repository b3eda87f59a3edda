"""Downloads: a file with the final name is whole and as locked, whatever a server does."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from loopback_hub import COMMIT as HUB_COMMIT
from loopback_hub import loopback_hub

from deftx.data import download as fetching
from deftx.data.download import FetchError
from deftx.data.lock import read_lock, record
from deftx.data.read import read_items
from deftx.stages.data.settings import Columns, Dataset, Layout
from deftx.stages.download.run import Params, download
from deftx.store.errors import DataError

CONTENT = b"id,text,label\n" + b"".join(b"%d,line %d,good\n" % (n, n) for n in range(20_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "c0ffee" * 6 + "beef"


class Server(ThreadingHTTPServer):
    """A server on this machine whose answers a test chooses; `asked` is what it was asked."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.asked = answer, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        self.server.answer(self, len(self.server.asked))

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_):
        pass

    def begin(self, status, length, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


def answering(body):
    def answer(handler, number):
        handler.begin(200, len(body), ETag='"one"')
        handler.wfile.write(body)

    return answer


whole = answering(CONTENT)


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(fetching, "RETRY", fetching.RETRY.new(total=2, backoff_factor=0.01))
    with ExitStack() as servers:
        yield lambda answer: servers.enter_context(Server(answer))


class Place:
    """Where a download goes, and what it says."""

    def __init__(self, folder):
        self.lock, self.file = folder / "data.lock", folder / "data/nusax/test.csv"
        self.out = folder / "results/download.json"

    def get(self, url, given=None, **more):
        params = Params(dataset="nusax", language="ace", split="test", url=url, given=given, **more)
        download(params, lock=self.lock, file=self.file, out=self.out)
        return json.loads(self.out.read_text())

    def fails(self, url, match, error=FetchError, **more):
        with pytest.raises(error, match=match) as raised:
            self.get(url, **more)
        for part in (r"datasets.nusax.url (test of ace)", url, str(self.file)):
            assert part in str(raised.value)
        assert not self.out.exists()
        self.has_no_leavings()

    def has_no_leavings(self):
        folders = [self.file.parent, self.lock.parent]
        assert not [p for folder in folders if folder.is_dir() for p in folder.glob(".*")]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_the_first_download_is_recorded_and_the_next_one_held_to_it(place, serve):
    server = serve(whole)
    url = f"{server.url}/ace/test.csv"
    facts = place.get(url)
    assert facts == {"sha256": SHA256, "bytes": len(CONTENT), "url": url, "given": None}
    assert place.file.read_bytes() == CONTENT
    assert read_lock(place.lock) == {url: {"sha256": SHA256, "bytes": len(CONTENT)}}
    place.has_no_leavings()
    assert place.get(url) == facts and len(server.asked) == 1
    place.file.unlink()
    assert place.get(url) == facts and len(server.asked) == 2


def test_a_tampered_file_never_gets_the_final_name(place, serve):
    url = f"{serve(answering(CONTENT.replace(b'line 7,good', b'line 7,evil'))).url}/x.csv"
    record(place.lock, url, {"sha256": SHA256, "bytes": len(CONTENT)})
    place.fails(
        url, rf"its sha256 is (?!{SHA256})\w+ .* records {SHA256} .*another file than at the"
    )
    assert not place.file.exists()


def test_a_transfer_that_is_cut_short_is_an_error_and_the_next_run_begins_again(place, serve):
    def cut(handler, number):
        handler.begin(200, len(CONTENT))
        handler.wfile.write(CONTENT[:1000] if number == 1 else CONTENT)

    url = f"{serve(cut).url}/x.csv"
    place.fails(url, "IncompleteRead")
    assert not place.file.exists() and not place.lock.exists()
    assert place.get(url)["sha256"] == SHA256


def test_a_server_that_does_not_answer_is_given_up(place, serve, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT", (1.0, 0.1))
    server = serve(lambda handler, number: time.sleep(0.6))
    place.fails(f"{server.url}/x.csv", r"Read timed out")
    assert len(server.asked) == 3


def test_a_busy_server_is_asked_again(place, serve):
    def busy(handler, number):
        if number > 2:
            whole(handler, number)
        else:
            handler.begin({1: 503, 2: 429}[number], 0, Retry_After="0")

    server = serve(busy)
    assert place.get(f"{server.url}/x.csv")["sha256"] == SHA256
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "message"), [(404, "HTTP 404: no such file: has it moved"), (403, "HTTP 403")]
)
def test_a_moved_file_is_an_error_at_once(place, serve, status, message):
    server = serve(lambda handler, number: handler.begin(status, 0))
    place.fails(f"{server.url}/x.csv", message)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\n<!DOCTYPE html><html>Sign in", "a web page"),
        (b"<HTML>moved", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "pointer of Git LFS"),
        (b"", "empty"),
    ],
)
def test_what_is_no_data_is_refused_and_not_recorded(place, serve, body, message):
    place.fails(f"{serve(answering(body)).url}/x.csv", f"the download is .*{message}")
    assert not place.file.exists() and not place.lock.exists()


def test_no_network_says_what_to_run_where(place, monkeypatch):
    place.fails("https://example.org/x.csv", r"HF_HUB_OFFLINE is set.*`snakemake downloads`")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(fetching, "RETRY", 0)
    place.fails("http://127.0.0.1:9/x.csv", r"ConnectionError.*`snakemake downloads`")


def test_a_local_folder_serves_as_well_as_a_server(place, tmp_path):
    source = tmp_path / "hñähñu/x y.csv"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    assert place.get(f"file://{source}")["sha256"] == SHA256
    place.file.unlink()
    place.out.unlink()
    place.fails(f"file://{source}.gone", f"there is no file.*or put the file at {place.file}")


def test_a_copy_of_the_users_own_is_used_as_it_is(place):
    """Without a network, and where the folder of the data cannot be written to."""
    place.file.parent.mkdir(parents=True)
    place.file.write_bytes(CONTENT)
    place.file.parent.chmod(0o500)
    try:
        facts = place.get("https://example.org/x.csv", given=SHA256)
    finally:
        place.file.parent.chmod(0o700)
    assert facts["sha256"] == facts["given"] == SHA256 and not place.lock.exists()


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        ("https://example.org/x.csv", "remove the file to download it again"),
        ("https://example.org/old/x.csv", "has the content of .*/old/x.csv"),
    ],
)
def test_a_copy_that_the_lock_contradicts_is_an_error(place, recorded, message):
    """Another content, or that of an earlier revision."""
    url = "https://example.org/x.csv"
    content = b"mine" if recorded == url else CONTENT
    record(place.lock, recorded, {"sha256": SHA256, "bytes": len(CONTENT)})
    place.file.parent.mkdir(parents=True)
    place.file.write_bytes(content)
    place.fails(url, message, DataError, given=hashlib.sha256(content).hexdigest())
    assert place.file.read_bytes() == content


def test_several_jobs_fetch_one_file_once_and_write_one_lock(tmp_path, serve):
    server = serve(lambda handler, number: (time.sleep(0.1), whole(handler, number)))
    places = [Place(tmp_path) for _ in range(6)]
    for number, place in enumerate(places):
        place.out = tmp_path / f"{number}.json"
        if number % 2:
            place.file = tmp_path / f"data/other{number}.csv"
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: places[i].get(f"{server.url}/{i * (i % 2)}"), range(6)))
    assert sorted(path for _, path, _ in server.asked) == ["/0", "/1", "/3", "/5"]
    assert len(read_lock(places[0].lock)) == 4
    places[0].has_no_leavings()


@pytest.mark.parametrize(
    "text", ["<<<<<<< HEAD\n{}", "[]", '{"u": {"sha256": "12", "bytes": 1}}', '{"u": 1}']
)
def test_a_broken_lock_is_an_error_that_names_it(place, text):
    place.lock.write_text(text)
    with pytest.raises(DataError, match=r"data\.lock: not a lock .*put the committed one back"):
        read_lock(place.lock)


def hub(commit, tag):
    """What the hub answers for one file at `main`, and at its commit."""

    def answer(handler, number):
        handler.begin(
            200, len(CONTENT), ETag=f'"{tag}"', X_Repo_Commit=commit, Accept_Ranges="bytes"
        )
        if handler.command == "GET":
            handler.wfile.write(CONTENT)

    return answer


def from_hub(place, server, revision=COMMIT, hub=None, **environment):
    file = {"dataset": "wikimedia/wikipedia", "revision": revision, "file": "20231101.ace/x.csv"}
    params = {"dataset": "wiki", "language": "ace", "split": "train", "hub": hub or file}
    command = [sys.executable, "-m", "deftx", "download", "--params", json.dumps(params)]
    for name in ("lock", "file", "out"):
        command += [f"--{name}", str(getattr(place, name))]
    return subprocess.run(
        command,
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": server.url, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_hub_is_asked_for_the_commit_that_was_first_there(place, serve):
    first, second = serve(hub(COMMIT, SHA256)), serve(hub(COMMIT, SHA256))
    done = from_hub(place, first, "main")
    assert done.returncode == 0, done.stderr
    address = "https://huggingface.co/datasets/wikimedia/wikipedia/resolve/main/20231101.ace/x.csv"
    entry = {"sha256": SHA256, "bytes": len(CONTENT), "commit": COMMIT}
    assert read_lock(place.lock) == {address: entry}
    assert place.file.read_bytes() == CONTENT
    place.has_no_leavings()
    place.file.unlink()
    assert from_hub(place, second, "main").returncode == 0
    # The hub's client may make other requests, such as one about the user.
    files = [[path for _, path, _ in hub.asked if "/resolve/" in path] for hub in (first, second)]
    assert "/resolve/main/" in files[0][0]
    assert files[1] and all(f"/resolve/{COMMIT}/" in path for path in files[1])


README = """---
configs:
- config_name: ace_Arab
  data_files:
  - {split: train, path: data/ace_Arab/train.jsonl}
  - {split: validation, path: data/ace_Arab/dev.jsonl}
dataset_info:
- config_name: ace_Arab
  features:
  - {name: index_id, dtype: int64}
  - {name: category, dtype: {class_label: {names: {"0": science/technology, "1": travel}}}}
  - {name: text, dtype: string}
  - {name: words, list: string}
  - {name: tags, list: {class_label: {names: {"0": O, "1": B-PER}}}}
---
"""


@pytest.fixture
def topics(tmp_path):
    """A data set on a stand-in of the hub, in the form in which most are there."""
    folder = tmp_path / "hub/owner/topics"
    (folder / "data/ace_Arab").mkdir(parents=True)
    (folder / "README.md").write_text(README)
    for name, count in (("train", 3), ("dev", 2)):
        lists = {"words": ["Ini", "Ana"], "tags": [0, 1]}
        rows = [
            {"index_id": n, "category": n % 2, "text": f"ini\u2028{n}", **lists}
            for n in range(count)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"data/ace_Arab/{name}.jsonl").write_text(text)
    with loopback_hub(tmp_path / "hub") as server:
        server.folder, server.url = folder, server.endpoint
        yield server


def configuration(place, server, tmp_path, **hub):
    hub = {"dataset": "owner/topics", "revision": HUB_COMMIT, "config": "ace_Arab", **hub}
    place.file = tmp_path / "data/topics.jsonl"
    environment = {"HF_HOME": str(tmp_path / "cache"), "PYTHONWARNINGS": "error"}
    return from_hub(place, server, hub=hub, **environment)


def test_a_split_of_a_configuration_is_stored_as_rows_and_locked(place, topics, tmp_path):
    done = configuration(place, topics, tmp_path, split="validation", revision="main")
    assert done.returncode == 0, done.stderr
    dataset = Dataset.model_validate(
        {
            "hub": {"dataset": "owner/topics", "config": "{language}", "revision": "main"},
            "splits": {"valid": "validation"},
            "columns": {"label": "category", "id": "index_id"},
        }
    )
    assert dataset.files == "data/owner/topics/{language}/{split}.jsonl"
    assert read_items(place.file, dataset) == [
        {"id": "0", "text": "ini\u20280", "label": "science/technology"},
        {"id": "1", "text": "ini\u20281", "label": "travel"},
    ]
    assert read_items(place.file, Layout(columns=Columns(words="words", tags="tags")))[0] == {
        "id": "0",
        "words": ["Ini", "Ana"],
        "tags": ["O", "B-PER"],
    }
    address = dataset.address("ace_Arab", "valid")
    content = place.file.read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert read_lock(place.lock) == {address: {**entry, "commit": HUB_COMMIT}}
    place.has_no_leavings()
    # The next one is held to the lock, whatever a cache has.
    place.file.unlink()
    again = configuration(place, topics, tmp_path, split="validation", revision="main")
    assert again.returncode == 0 and place.file.read_bytes() == content


@pytest.mark.parametrize(
    ("hub", "message"),
    [
        ({"config": "ace_Latn"}, r"BuilderConfig 'ace_Latn' not found. Available: \['ace_Arab'\]"),
        ({"split": "tset"}, 'Unknown split "tset"'),
        ({"dataset": "owner/absent"}, "owner/absent"),
    ],
)
def test_a_configuration_that_the_hub_does_not_have_is_one_message(
    place, topics, tmp_path, hub, message
):
    done = configuration(place, topics, tmp_path, **{"split": "train", **hub})
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert "datasets.wiki.hub (train of ace)" in last and re.search(message, last)
    assert not place.file.exists() and not place.lock.exists()


def test_code_of_a_repository_is_not_run(place, topics, tmp_path):
    (topics.folder / "topics.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    done = configuration(place, topics, tmp_path, split="train")
    assert done.returncode == 1 and "cannot load it from the hub" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_without_a_network_a_configuration_is_not_looked_for(place, topics, tmp_path):
    done = configuration(place, topics, tmp_path, split="train")
    place.file.unlink()
    hub = {"dataset": "owner/topics", "revision": HUB_COMMIT, "config": "ace_Arab"}
    done = from_hub(place, topics, hub=hub, HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and "HF_HUB_OFFLINE is set" in done.stderr


@pytest.mark.parametrize(
    ("answer", "offline", "message"),
    [
        (hub(COMMIT, "0" * 64), "0", f"its sha256 is {SHA256}, expected {'0' * 64}"),
        (hub(COMMIT, SHA256), "1", "HF_HUB_OFFLINE is set: nothing is downloaded. Run `snakemake"),
        (lambda handler, number: handler.begin(404, 0), "0", "cannot download from the hub"),
        (None, "0", "cannot download from the hub"),
    ],
)
def test_a_file_that_the_hub_does_not_give_is_one_message(place, serve, answer, offline, message):
    server = serve(answer) if answer else SimpleNamespace(url="http://127.0.0.1:9")
    done = from_hub(place, server, COMMIT, HF_HUB_OFFLINE=offline)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert "datasets.wiki.hub (train of ace)" in done.stderr
    assert not place.file.exists() and not place.lock.exists()
    place.has_no_leavings()
