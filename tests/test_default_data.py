"""The data of config.yaml: pinned, locked, and read from real files in their upstream layout."""

import json
import re

import pytest
import yaml
from conftest import PROJECT
from test_download import Server
from tiny_config import with_change

from deftx.cli.main import main
from deftx.data.lock import read_lock
from deftx.plan.artefact import Artefact
from deftx.plan.config import read_config
from deftx.plan.plan import Plan
from deftx.stages.data import run as data_stage
from deftx.stages.download import run as download_stage
from deftx.store.artefact import file_sha256
from deftx.store.errors import DataError
from deftx.store.items import load_items

GITHUB = "https://raw.githubusercontent.com"
FOLDERS = {
    "nusax": "nusax",
    "americasnli": "americasnli",
    "indonlu": "smsa",
    "sib-200": "sib200",
    "African_LLM_Benchmark": "",
}
"""Repository → the folder of its files in the shared folder, in their upstream layout."""


@pytest.fixture(scope="module")
def config():
    return read_config(PROJECT / "config.yaml")


def test_every_dataset_has_a_pinned_revision_and_a_licence(config):
    for name, dataset in config.datasets.items():
        pinned = dataset.hub.revision if dataset.hub else dataset.url
        assert re.search(r"(^|/)[0-9a-f]{40}($|/)", pinned), name
        assert dataset.licence and dataset.source, name


def test_the_lock_has_every_labelled_file_from_github_and_no_unused_one(config):
    lock = read_lock(PROJECT / "data.lock")
    asked = {
        config.datasets[a["dataset"]].address(a["language"], a["split"])
        for a in Plan(config).artefacts
        if a.stage == "download" and config.datasets[a["dataset"]].columns.label
    }
    github = {url for url in asked if url.startswith(GITHUB)}
    assert len(github) == 3 + 12 + 10 and github <= lock.keys()
    described = (
        yaml.safe_load((PROJECT / f"workflow/datasets/{name}.yaml").read_text())
        for name in ("nusax", "smsa", "americasnli", "sib200", "afrixnli")
    )
    roots = tuple(dataset["url"].split("{")[0] for dataset in described)
    assert all(url.startswith(roots) for url in lock)


def test_the_lock_agrees_with_the_copies_in_the_shared_folder(shared):
    checked = 0
    for url, entry in read_lock(PROJECT / "data.lock").items():
        _, repository, _, path = url.removeprefix(f"{GITHUB}/").split("/", 3)
        copy = shared / "data" / FOLDERS[repository] / path
        if copy.is_file():
            assert (file_sha256(copy), copy.stat().st_size) == (entry["sha256"], entry["bytes"])
            checked += 1
    assert checked >= 49 + 28


def test_languages_have_text_exactly_where_the_papers_had_some(config):
    without = {key for key in config.languages if not config.has_text(key)}
    assert without == {"bbc", "bug", "nij"}
    for group in config.groups.values():
        assert not without & set(group)


def test_real_files_are_downloaded_checked_and_read(shared, tmp_path, monkeypatch):
    """From a server with the shared copies at the paths of the files on GitHub."""

    def answer(handler, number):
        _, repository, _, path = handler.path.removeprefix("/").split("/", 3)
        content = (shared / "data" / FOLDERS[repository] / path).read_bytes()
        handler.begin(200, len(content))
        handler.wfile.write(content)

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("DEFTX_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    lock, found = tmp_path / "data.lock", {}
    with Server(answer) as upstream:
        described = PROJECT.glob("workflow/datasets/*.yaml")
        for path in (PROJECT / "config.yaml", PROJECT / "data.lock", *described):
            copy = tmp_path / path.relative_to(PROJECT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path.read_text().replace(GITHUB, upstream.url))
        locked, plan = lock.read_text(), Plan(read_config(tmp_path / "config.yaml"))
        for name in ("nusax/min/test", "americasnli/nah/test", "smsa/ind/valid"):
            dataset, language, split = name.split("/")
            read = Artefact.of("data", dataset=dataset, language=language, split=split)
            (downloaded,) = plan.inputs(read)["download"]
            said, out = tmp_path / plan.path(downloaded), tmp_path / plan.path(read)
            file = plan.user_files.of(read)
            params = download_stage.Params.model_validate(without_code(plan.params(downloaded)))
            download_stage.download(params, lock=lock, file=file, out=said)
            params = data_stage.Params.model_validate(without_code(plan.params(read)))
            data_stage.data(params, download=said, file=file, out=out)
            found[dataset] = load_items(out)
    sizes = {name: len(items) for name, items in found.items()}
    assert sizes == {"nusax": 400, "americasnli": 738, "smsa": 1_260}
    assert {item["label"] for item in found["smsa"]} == {"negative", "neutral", "positive"}
    assert any("\n" in item["text"] for item in found["nusax"])
    assert sum(not item["text"].strip() for item in found["americasnli"]) == 3
    assert lock.read_text() == locked  # every file was in it


def without_code(params):
    return {name: value for name, value in params.items() if name != "code"}


def test_a_downloaded_file_that_is_missing_again_is_an_error(tmp_path):
    (tmp_path / "said.json").write_text('{"sha256": "00"}')
    params = data_stage.Params(dataset="d", language="qta", split="train")
    paths = {"file": tmp_path / "x.txt", "out": tmp_path / "x.parquet"}
    with pytest.raises(DataError, match=r"x\.txt: no such file, .*restore it, or delete .*said"):
        data_stage.data(params, download=tmp_path / "said.json", **paths)


def test_check_lists_files_that_are_there_to_download_and_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFTX_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    def texts_of_three_kinds(raw):
        url, licence = "https://example.org/{language}", "CC0"
        raw["datasets"]["news"] = {"files": "{language}.txt", "url": url, "licence": licence}
        texts = {"qta": "news", "qtb": "news", "qtc": "own/qtc.txt"}
        raw["languages"] = {key: {"text": text} for key, text in texts.items()}
        raw["world"]["languages"]["qtc"] = 0.5

    raw = with_change(texts_of_three_kinds)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    (tmp_path / "qta.txt").write_text("one\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/qtc.txt").write_text("three\n")
    entry = {"sha256": "0" * 64, "bytes": 2_000_000}
    lock = tmp_path / "data.lock"
    lock.write_text(json.dumps({"https://example.org/qtb": entry}))
    assert main(["check", "mine.yaml"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"news +qta +train +there +0\.0 +\S+qta\.txt", out)
    assert re.search(r"news +qtb +train +to download +2\.0 +\S+qtb\.txt", out)
    assert re.search(r"own-text +qtc +train +there +0\.0 +\S+qtc\.txt", out)
    assert "licence of news: CC0" in out and "licence of own-text: not stated" in out
    assert "to download: 1 files, 2.0 MB" in out and "mine.yaml downloads" in out
    lock.write_text(json.dumps({"https://example.org/qta": entry}))
    (tmp_path / "own/qtc.txt").unlink()
    assert main(["check", "mine.yaml"]) == 1
    out, err = capsys.readouterr()
    assert "2 files are missing, or differ from data.lock" in err
    assert re.search(r"qta +train +not as locked", out)
    assert re.search(r"own-text +qtc +train +missing", out)


def test_the_base_is_one_of_the_needed_files(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFTX_DATA", str(tmp_path))
    base = list(Plan(config).needed_files({}))[-1]
    facts = (base.dataset, base.path, base.state)
    assert facts == ("base", "FacebookAI/xlm-roberta-base", "to download")
