"""Files of a run that are not what their place says are refused, set aside and made again; results
that came without their times are taken over if their records prove them."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from deftx.models.base import Base
from deftx.plan.config import read_config
from deftx.plan.plan import Plan
from deftx.plan.record import Run, files_below, unproven
from deftx.report.written_config import load_config
from deftx.stages.table import artefacts_at, path_of
from deftx.store.artefact import manifest_path, read_json, verify
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile

FULL = "full/{}/seed0/model.safetensors"
LANGUAGE, TASK = FULL.format("lang-qta"), FULL.format("task-sentiment/base")


@pytest.fixture
def run(finished, tmp_path, monkeypatch) -> Run:
    """A copy of the results of a finished run, in a project's folder."""
    shutil.copytree(finished / "results", tmp_path / "results", copy_function=shutil.copyfile)
    shutil.copy(finished / "tiny.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return Run(Path("results/tiny"))


def unproved(any_code=False):
    found = unproven(Plan(read_config(Path("tiny.yaml"))), any_code)
    return {path_of(artefact): reason for artefact, reason in found.items()}


def swap(run, one, other):
    """Put two artefacts in each other's place, with their manifests."""
    for a, b in ((one, other), (f"{one}.json", f"{other}.json")):
        a, b, between = run.folder / a, run.folder / b, run.folder / "between"
        a.rename(between), b.rename(a), between.rename(b)


def test_every_artefact_belongs_to_the_run_around_it_by_its_path(run):
    for path in run.folder.rglob("*.safetensors"):
        assert Run.around(path).folder == run.folder
        found = artefacts_at(path.relative_to(run.folder).as_posix())
        assert [path_of(artefact) for artefact in found] == [str(path.relative_to(run.folder))]
    assert Run.around(run.folder / "base/config.json").folder == run.folder
    assert Run.around(Path("my/vector.safetensors")) is None


def test_files_of_a_run_that_nobody_touched_are_in_order_and_proven(run):
    names = [name for _, name in files_below(Path("results"))]
    assert {"tables/scores.csv", "base/tokenizer.json", LANGUAGE} <= set(names)
    for name in names:
        run.verify(name)
    assert unproved() == {}


@pytest.mark.parametrize(
    "one, other, differs",
    [
        (LANGUAGE, TASK, "its target is task-sentiment, expected lang-qta"),
        *(
            (f"{stage}/lt-sft/{file}", f"{stage}/deft-x/{file}", "deft-x, expected lt-sft")
            for stage, file in {
                "mask": "lang-qta/seed0.safetensors",
                "sparse": "lang-qta/seed0/sft_model.safetensors",
                "compose": "sentiment/qta/seed0.safetensors",
                "evaluate": "sentiment/qta/seed0.safetensors",
            }.items()
        ),
        (
            "data/sentiment/qta/test.parquet",
            "data/sentiment/qtb/test.parquet",
            "its language is qtb, expected qta",
        ),
    ],
)
def test_an_artefact_in_anothers_place_is_refused_and_set_aside(run, one, other, differs):
    """Artefacts swapped with their manifests: each is whole, and neither is what was asked for."""
    swap(run, one, other)
    with pytest.raises(ArtefactError, match=f"another artefact.*{differs}.*seed0|qta"):
        run.check([run.folder / one])
    assert not (run.folder / one).exists() and (run.folder / f"{one}.corrupt").exists()
    run.check([run.folder / one])  # absent: the job reports it


@pytest.mark.parametrize(
    "name", ["tables/scores.csv", "coverage/coverage.csv", "base/tokenizer.json", "config.json"]
)
def test_a_text_edited_by_hand_is_refused_and_set_aside(run, name):
    path = run.folder / name
    path.write_text(path.read_text().replace("1", "2"))
    with pytest.raises(ArtefactError, match=f"{name}.*its job wrote .*edited or replaced"):
        run.check([path])
    assert not path.exists()


def test_a_replaced_artefact_with_a_manifest_of_its_own_is_refused(run):
    """The same stage, target and seed of another run, as no provenance shows."""
    manifest = manifest_path(run.folder / LANGUAGE)
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "sha256": "0" * 64}))
    with pytest.raises(ArtefactError, match="its job wrote"):
        run.check([run.folder / LANGUAGE])


@pytest.mark.parametrize(
    "text, problem",
    [
        ('{"sha', "not JSON"),
        ("[]", "no JSON object"),
        ('{"sha256": "0"}', "without tensors"),
        ("\ud800".encode("utf-8", "surrogatepass"), "not JSON"),
    ],
)
def test_a_damaged_manifest_is_set_aside_so_that_the_next_run_makes_it_again(run, text, problem):
    manifest = manifest_path(run.folder / LANGUAGE)
    manifest.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ArtefactError, match=f"{manifest.name}: corrupt: {problem}.*same command"):
        TensorFile(run.folder / LANGUAGE)
    assert not manifest.exists()
    with pytest.raises(ArtefactError, match="no such manifest"):
        verify(run.folder / LANGUAGE)


def test_results_are_proven_by_content_alone_and_nothing_else_is(run):
    """Other parameters, another input, other code and a missing file: each with what follows."""

    def edit(name, **facts):
        record = run.record_of(artefacts_at(name)[0])
        record.write_text(json.dumps({**read_json(record), **facts}))

    mask = "mask/deft-x/lang-qta/seed0.safetensors"
    record = read_json(run.record_of(artefacts_at(mask)[0]))
    edit(mask, params={**record["params"], "code": "another"})
    found = unproved()
    assert found[mask] == "made with other `code`"
    assert found["sparse/deft-x/lang-qta/seed0/sft_model.safetensors"] == f"made from {mask}"
    assert not any("lt-sft" in name for name in found)
    assert unproved(any_code=True) == {}
    edit(mask, params={**record["params"], "seed": 7})
    assert unproved(any_code=True)[mask] == "made with other `seed`"
    edit(
        mask,
        params=record["params"],
        inputs={**record["inputs"], next(iter(record["inputs"])): "0"},
    )
    assert unproved()[mask].startswith("made from another ")
    edit(mask, **record)
    (run.folder / "tables/scores.csv").unlink()
    assert unproved().keys() == {"tables/transfer.csv", "summary/index.html"}


def test_a_file_from_the_future_is_refused_before_the_job_runs(run):
    path = run.folder / LANGUAGE
    os.utime(f"{path}.json", times=(time.time() + 3600,) * 2)
    with pytest.raises(
        ArtefactError, match=r"seed0/model.safetensors.json: its time is \d+ s ahead"
    ):
        run.check([path])
    assert path.exists()


@pytest.mark.parametrize("name", ["base/backbone.json", "config.json"])
def test_damaged_json_of_a_run_is_set_aside_wherever_it_is_read(run, name):
    (run.folder / name).write_text('{"cut')
    with pytest.raises(ArtefactError, match=f"{name}: corrupt: not JSON.*same command"):
        Base.load(run.folder / "base") if "base" in name else load_config(run.folder / name)
    assert not (run.folder / name).exists()


def test_a_damaged_record_proves_nothing_and_an_empty_one_is_that_of_a_running_job(run):
    record = run.record_of(artefacts_at(LANGUAGE)[0])
    record.write_text("")
    run.check([run.folder / LANGUAGE])
    assert unproved()[LANGUAGE] == "without a record of its job" and record.exists()
    record.write_text('{"cut')
    assert "corrupt" in unproved()[LANGUAGE] and not record.exists()


def test_what_lies_beside_an_artefact_is_checked_with_it(run):
    (run.folder / "base/backbone.json").write_text('{"identity": "another"}')
    with pytest.raises(ArtefactError, match=r"backbone.json: its sha256 is .*edited or replaced"):
        run.check([run.folder / "base/model.safetensors"])
