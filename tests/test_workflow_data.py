"""Downloaded data in a run of the miniature: each file is downloaded once, compared with the lock,
and never a reason to rerun a job. The tests follow each other."""

import json
import os

import pytest
from workspace import LATE, Workspace, jobs

from deftx.data.lock import read_lock
from deftx.store.artefact import file_sha256

pytestmark = pytest.mark.workflow


def sentence(number):
    words = "ba be bi bo bu da de di do du ga ge gi go gu".split()
    return " ".join(words[number // 15**i % 15] + words[number % 12 + i] for i in range(4))


@pytest.fixture(scope="module")
def workspace(finished, tmp_path_factory):
    made = Workspace(tmp_path_factory.mktemp("project"), one_server=True, finished=finished)
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


def test_one_target_makes_all_that_needs_a_network(workspace):
    lines = [sentence(number) for number in range(200)]
    upstream(workspace, "qta").write_text("\n".join([*lines, lines[0].upper(), "..."]) + "\n")
    assert workspace.run("downloads") == {"download": 1, "downloads": 1}
    file = workspace.folder / "files/news/qta.txt"
    locked = read_lock(workspace.folder / "data.lock")
    (url,) = locked
    assert url == f"file://{upstream(workspace, 'qta')}"
    assert locked[url]["sha256"] == file_sha256(file)


def test_a_run_on_downloaded_files_even_touched_ones_downloads_nothing(workspace):
    upstream(workspace, "qta").rename(workspace.folder / "upstream/away.txt")
    os.utime(workspace.folder / "files/news/qta.txt")
    ran = workspace.run()
    assert "download" not in ran and ran["clean"] == ran["full"] == 1
    counts = json.loads((workspace.results / "clean/qta.json").read_text())
    assert counts["datasets"] == {"news": 202, "text": 150}
    assert counts["duplicate"] >= 1 and counts["blank"] == 1
    page = (workspace.results / "summary/index.html").read_text()
    assert "Cleaning of the text" in page
    card = (workspace.results / "sparse/lt-sft/lang-qta/seed0/README.md").read_text()
    assert "CC0" in card and "| news | qta |" in card


def test_a_file_that_is_removed_after_the_run_reruns_nothing(workspace):
    file = workspace.folder / "files/news/qta.txt"
    file.rename(file.with_suffix(".away"))
    assert workspace.planned() == {}
    file.with_suffix(".away").rename(file)


def test_another_file_in_its_place_is_noticed_and_refused(workspace):
    file, before = workspace.folder / "files/news/qta.txt", workspace.artefacts()
    kept = file.read_text()
    file.write_text(kept.replace(sentence(7), sentence(300)))
    planned = jobs(workspace.fails())
    assert planned["download"] == planned["data"] == planned["clean"] == 1
    log = workspace.log("download/news/qta/train")
    assert "remove the file to download it again" in log
    file.write_text(kept)
    assert workspace.run("--until", "clean")["download"] == 1
    after = workspace.artefacts()
    assert {path: data for path, data in after.items() if not path.startswith("download/")} == {
        path: data for path, data in before.items() if not path.startswith("download/")
    }


def test_an_added_language_is_the_only_one_that_is_made_until_a_damaged_lock_stops_it(workspace):
    """A damaged lock is an error and no reason to download again."""
    upstream(workspace, "qtb").write_text("\n".join(sentence(n) for n in range(400, 500)))
    workspace.config["languages"]["qtb"]["text"] = "news"
    workspace.write_config()
    (workspace.folder / "data.lock").write_text("<<<<<<< ours\n")
    output = workspace.fails()
    new = ("download", "data", "clean", "tokens", "full", "mask", "sparse", "compose", "evaluate")
    assert jobs(output) == {**dict.fromkeys((*new, "coverage", "diagnostics"), 1), **LATE}
    log = workspace.log("download/news/qtb/train")
    assert "data.lock: not a lock" in log and "put the committed one back" in log
