"""Data from elsewhere in a run of the miniature: fetched once, held to the lock, and never a reason
to run anything again. The tests follow each other."""

import json
import os

import pytest
from workspace import Workspace

from deftx.data.lock import read_lock
from deftx.store.artefact import file_sha256

pytestmark = pytest.mark.workflow


def sentence(number):
    words = "ba be bi bo bu da de di do du ga ge gi go gu".split()
    return " ".join(words[number // 15**i % 15] + words[number % 12 + i] for i in range(4))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    made = Workspace(tmp_path_factory.mktemp("project"), one_server=True)
    source = made.folder / "upstream/c0ffee"
    source.mkdir(parents=True)
    made.config["data_dir"] = "files"
    made.config["datasets"]["news"] = {
        "files": "news/{language}.txt",
        "url": f"file://{source}/{{language}}.txt",
        "licence": "CC0",
    }
    made.config["cleaning"] = {}
    made.config["methods"] = {"lt-sft": {}}
    made.config["systems"] = {"lt-sft": {"task": "lt-sft"}}
    made.config["languages"]["qta"]["text"] = ["news", "text"]
    made.write_config()
    yield made
    made.close()


def upstream(workspace, language):
    return workspace.folder / f"upstream/c0ffee/{language}.txt"


def test_what_cannot_be_had_stops_the_run_and_says_what_to_do(workspace):
    workspace.fails("downloads")
    log = (workspace.results / "logs/download/news/qta/train.log").read_text()
    assert "datasets.news.url (train of qta): file:///" in log and "there is no file" in log
    assert "Run `snakemake downloads`" in log and "put the file at files/news/qta.txt" in log
    assert not (workspace.folder / "data.lock").exists()


def test_all_that_needs_a_network_is_one_target(workspace):
    lines = [sentence(number) for number in range(200)]
    upstream(workspace, "qta").write_text("\n".join([*lines, lines[0].upper(), "..."]) + "\n")
    assert workspace.run("downloads") == {"download": 1, "downloads": 1}
    file = workspace.folder / "files/news/qta.txt"
    locked = read_lock(workspace.folder / "data.lock")
    (url,) = locked
    assert url == f"file://{upstream(workspace, 'qta')}"
    assert locked[url]["sha256"] == file_sha256(file)


def test_a_run_on_what_was_fetched_fetches_nothing_and_leaves_nothing_to_do(workspace):
    upstream(workspace, "qta").rename(workspace.folder / "upstream/away.txt")
    ran = workspace.run()
    assert "download" not in ran and ran["clean"] == 1 and ran["full"] == 2
    assert workspace.planned() == {}
    counts = json.loads((workspace.results / "clean/qta.json").read_text())
    assert counts["datasets"] == {"news": 202, "text": 150}
    assert counts["duplicate"] >= 1 and counts["blank"] == 1
    page = (workspace.results / "summary/index.html").read_text()
    assert "Cleaning of the text" in page
    card = (workspace.results / "sparse/lt-sft/lang-qta/seed0/README.md").read_text()
    assert "CC0" in card and "| news | qta |" in card


def test_touching_the_file_or_losing_it_runs_nothing(workspace):
    file = workspace.folder / "files/news/qta.txt"
    os.utime(file)
    assert workspace.planned() == {}
    file.rename(file.with_suffix(".away"))
    assert workspace.planned() == {}
    file.with_suffix(".away").rename(file)


def test_another_file_in_its_place_is_seen_and_not_let_through(workspace):
    file, before = workspace.folder / "files/news/qta.txt", workspace.artefacts()
    kept = file.read_text()
    file.write_text(kept.replace(sentence(7), sentence(300)))
    planned = workspace.planned()
    assert planned["download"] == planned["data"] == planned["clean"] == 1
    workspace.fails("--until", "download")
    log = (workspace.results / "logs/download/news/qta/train.log").read_text()
    assert "remove the file to download it again" in log
    file.write_text(kept)
    assert workspace.run("--until", "clean")["download"] == 1
    assert workspace.planned() == {}
    after = workspace.artefacts()
    assert {path: data for path, data in after.items() if not path.startswith("download/")} == {
        path: data for path, data in before.items() if not path.startswith("download/")
    }


def test_an_added_language_cleans_and_trains_itself_alone(workspace):
    upstream(workspace, "qtb").write_text("\n".join(sentence(n) for n in range(400, 500)))
    workspace.config["languages"]["qtb"]["text"] = "news"
    workspace.write_config()
    planned = workspace.planned()
    assert planned["download"] == planned["data"] == planned["clean"] == planned["full"] == 1
    output = workspace.snakemake("-n").stdout
    assert "language=qtb" in output and "clean/qta.parquet\n    jobid" not in output


def test_another_lock_is_an_error_and_no_reason_to_fetch_again(workspace):
    (workspace.folder / "data.lock").write_text("<<<<<<< ours\n")
    workspace.fails("--until", "download")
    log = (workspace.results / "logs/download/news/qtb/train.log").read_text()
    assert "data.lock: not a lock" in log and "put the committed one back" in log
