"""`deftx adapt` as a person calls it: from a text to a model, stopped and called again, on a tiny
base."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import PROJECT, sentences
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from deftx.adapt.cost import FEWEST, STARTS, chosen
from deftx.adapt.flow import alone
from deftx.adapt.look import ENGLISH
from deftx.adapt.project import Project
from deftx.adapt.request import read_source
from deftx.adapt.sheet import words_of
from deftx.cli.main import main
from deftx.engine.settings import TaskTraining
from deftx.models.predict import predict
from deftx.stages.data.settings import Columns
from deftx.store.errors import ArtefactError, DataError, InputError
from deftx.store.items import load_items

MINUTES = "1.6"
"""Hardly more than what starting takes: then there are few steps."""


def written(folder: Path) -> tuple[Path, Path]:
    """A text, and labelled items in another language."""
    text, labelled = folder / "text.txt", folder / "labelled.csv"
    text.write_text("\n".join(sentences(400, seed=5)) + "\n")
    with labelled.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["text", "label"])
        out.writerows([s, "high" if s.count("la") else "low"] for s in sentences(200, 6))
    return text, labelled


def deftx(folder, *arguments, **options):
    environment = {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "deftx", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, **options
    )


def on_one_core():
    """Limit this process, as a cluster does."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def asked(text, labelled, base, out="out", /, **more):
    options = {"language": "bug", "name": "Buginese", "task": f"level={labelled}", "source": "ind",
               "base": base, "out": out, "minutes": MINUTES} | more  # fmt: skip
    return ["adapt", text, *(f"--{key}={value}" for key, value in options.items() if value)]


@pytest.fixture(scope="module")
def made(base_folder, tmp_path_factory):
    """A folder with a finished project, and the first call."""
    folder = tmp_path_factory.mktemp("adapt")
    text, labelled = written(folder)
    done = deftx(folder, *asked(text, labelled, base_folder))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder, done


def test_the_model_is_a_folder_that_transformers_loads(made):
    folder, _ = made
    project = Project.open(folder / "out")
    tokenizer = AutoTokenizer.from_pretrained(folder / "out/model")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "out/model").eval()
    items = [{"text": text} for text in sentences(9, seed=7)]
    plain = predict(model, items, tokenizer, project.max_length).double().softmax(1).numpy()
    assert np.allclose(project.predict(items), plain, atol=1e-6)
    assert [model.config.id2label[n] for n in range(2)] == project.classes == ["high", "low"]
    assert not np.allclose(project.predict(items, with_language=False), plain, atol=1e-6)
    assert str(folder) not in (folder / "out/model/config.json").read_text()


def test_it_says_what_comes_next_and_calls_nothing_a_score(made):
    _, done = made
    assert "deftx try out" in done.stdout and "deftx score out/to-label.csv" in done.stdout
    assert "Nobody has scored it yet" in done.stdout and "accuracy 0" not in done.stdout


def test_what_is_to_be_labelled_does_not_train(made):
    folder, _ = made
    sheet = json.loads((folder / "out/to-label.json").read_text())["items"]
    assert len(sheet) == 50
    drawn = {words_of(item) for item in sheet}
    trained = load_items(folder / "out/results/level-bug/clean/bug.parquet")
    assert drawn.isdisjoint(map(words_of, trained)) and len(trained) > 200


def test_the_config_is_one_that_a_person_goes_on_with(made):
    folder, _ = made
    config = yaml.safe_load((folder / "out/config.yaml").read_text())
    assert config["tasks"]["level"]["models_for"] == ["bug"]
    plan = deftx(folder / "out", "run", "config.yaml", "-n")
    assert plan.returncode == 0 and "Nothing to be done" in plan.stdout + plan.stderr


def test_the_same_command_keeps_everything_and_another_question_is_refused(made, base_folder):
    folder, _ = made
    before = (folder / "out/model/model.safetensors").stat().st_mtime_ns
    text, labelled = folder / "text.txt", folder / "labelled.csv"
    again = deftx(folder, *asked(text, labelled, base_folder))
    assert again.returncode == 0 and "going on with what is there" in again.stdout
    assert (folder / "out/model/model.safetensors").stat().st_mtime_ns == before
    other = deftx(folder, *asked(labelled, labelled, base_folder))
    assert other.returncode == 1 and "was made with text text.txt (sha256" in other.stderr
    other = deftx(folder, *asked(text, labelled, base_folder, minutes=7))
    assert other.returncode == 1 and "was made with minutes 1.6, and now it is 7" in other.stderr
    with alone(folder / "out"):
        other = deftx(folder, *asked(text, labelled, base_folder))
    assert other.returncode == 1 and "another `deftx adapt` works in it" in other.stderr


def test_texts_to_label_can_be_named_later(made, base_folder):
    folder, _ = made
    shutil.copytree(folder / "out", folder / "later")
    for file in (folder / "later").glob("to-label.*"):
        file.unlink()
    text, labelled, new = (folder / name for name in ("text.txt", "labelled.csv", "new.txt"))
    trained = Project.open(folder / "later").texts
    new.write_text("\n".join([*(item["text"] for item in trained[:40]), *sentences(80, 10)]))
    asking = asked(text, labelled, base_folder, "later", **{"to-label": new})
    done = deftx(folder, *asking)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    sheet = json.loads((folder / "later/to-label.json").read_text())
    assert len(sheet["items"]) == 50 and sheet["origin"] == "texts of new.txt"
    assert {words_of(item) for item in trained}.isdisjoint(map(words_of, sheet["items"]))


def test_labelled_items_can_be_given_later_and_put_a_score_aside(made, base_folder):
    folder, _ = made
    shutil.copytree(folder / "out", folder / "chosen")
    few, text, labelled = (folder / n for n in ("later-few.csv", "text.txt", "labelled.csv"))
    lines = [*sentences(40, seed=18), *sentences(40, seed=5)[:20]]  # the last are in the text
    with few.open("w", newline="") as file:
        rows = [(line, "high" if line.count("la") else "low") for line in lines]
        csv.writer(file).writerows([("text", "label"), *rows])
    (folder / "chosen/score.json").write_text('{"marks": []}')
    asking = asked(text, labelled, base_folder, "chosen", labelled=few)
    done = deftx(folder, *asking)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    project = Project.open(folder / "chosen")
    trained = {words_of(item) for item in project.texts}
    read = sum(words_of({"text": line}) in trained for line in lines)
    assert read > 5 and f"has read {read} of their texts" in done.stdout
    assert (folder / "chosen/score.json").exists() == (project.strength == 1.0)
    model = json.loads((folder / "chosen/model/config.json").read_text())
    assert model["deftx"]["strength"] == project.strength
    again = deftx(folder, *asking)
    assert again.returncode == 0 and "Report this figure" not in again.stdout


def test_a_changed_config_gives_another_model_and_its_score_is_put_aside(made, base_folder):
    folder, _ = made
    shutil.copytree(folder / "out", folder / "longer")
    config = folder / "longer/config.yaml"
    steps = re.search(r"^language_training:.*max_steps: (\d+)", config.read_text(), re.M)
    assert steps is not None
    longer = config.read_text().replace(
        steps[0], steps[0][: -len(steps[1])] + str(int(steps[1]) // 2)
    )
    config.write_text(longer)
    (folder / "longer/score.json").write_text("{}")
    before = (folder / "longer/model/model.safetensors").read_bytes()
    text, labelled = folder / "text.txt", folder / "labelled.csv"
    done = deftx(folder, *asked(text, labelled, base_folder, "longer"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (folder / "longer/model/model.safetensors").read_bytes() != before
    assert "score.json is of the earlier model" in done.stdout
    assert not (folder / "longer/score.json").exists()
    assert (folder / "longer/earlier-score.json").read_text() == "{}"


def test_a_task_vector_serves_another_language_without_labelled_data(made, base_folder):
    folder, _ = made
    other = folder / "other.txt"
    other.write_text("\n".join(sentences(300, seed=11)) + "\n")
    vector = folder / "out/vectors/task"
    asking = asked(other, vector, base_folder, "second", language="mad", name="Madurese")
    # A single training takes all cores, and two threads that wait for one core take long.
    done = deftx(folder, *asking, preexec_fn=on_one_core)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    if hasattr(os, "sched_setaffinity"):
        config = yaml.safe_load((folder / "second/config.yaml").read_text())
        assert set(config["threads"].values()) == {1}
    project = Project.open(folder / "second")
    assert project.classes == ["high", "low"] and project.is_trained
    assert not (folder / "second/results/level-mad/sparse/deft-x").exists()


def test_a_filled_sheet_gives_a_score_that_the_card_has(made):
    folder, _ = made
    path = folder / "out/to-label.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    for number, row in enumerate(rows):
        row["label"] = "high" if number % 3 else "low"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)
    done = deftx(folder, "score", "out/to-label.csv")
    assert done.returncode == 0, done.stderr
    score = json.loads((folder / "out/score.json").read_text())
    project = Project.open(folder / "out")
    items = json.loads((folder / "out/to-label.json").read_text())["items"]
    right = [project.classes[n] for n in project.predict(items).argmax(1)]
    expected = sum(a == row["label"] for a, row in zip(right, rows, strict=True))
    assert score["with_language"]["right"] == expected
    published = deftx(folder, "publish", "out", "--licence", "cc-by-4.0")
    assert published.returncode == 0 and "hf upload" in published.stdout
    assert f"{expected} of 50" in (folder / "out/model/README.md").read_text()


def test_what_a_killed_one_has_started_is_not_started_again(base_folder, tmp_path):
    text, labelled = written(tmp_path)
    command = [sys.executable, "-m", "deftx", *map(str, asked(text, labelled, base_folder))]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    while process.poll() is None and not list(tmp_path.glob("out/results/*/logs/full/**/*.log")):
        time.sleep(0.1)
    process.kill()
    process.wait()
    refused = deftx(tmp_path, *asked(text, labelled, base_folder))
    assert refused.returncode == 1 and "a killed one has started" in refused.stderr
    while (done := deftx(tmp_path, *asked(text, labelled, base_folder))).returncode:
        assert "a killed one has started" in done.stderr, done.stderr
    assert Project.open(tmp_path / "out").is_trained


def test_stopped_in_the_middle_it_says_so_and_goes_on(base_folder, tmp_path):
    text, labelled = written(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "deftx", *map(str, asked(text, labelled, base_folder))]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    while process.poll() is None and not list(tmp_path.glob("out/results/*/logs/full/**/*.log")):
        time.sleep(0.1)
    process.send_signal(signal.SIGHUP)  # a terminal that is closed; as Ctrl-C
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and b"the same command goes on" in said
    done = deftx(tmp_path, *asked(text, labelled, base_folder))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert Project.open(tmp_path / "out").is_trained


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"language": "buginese"}, "three letters of ISO 639-3"),
        ({"task": "level=nowhere.csv"}, "no such file"),
        ({"task": "Level=labelled.csv"}, "is no name"),
        ({"label-column": "class"}, "no column 'class'"),
        ({"label-column": "text"}, "is 'text' the column of the labels"),
        ({"source": "bug"}, "is the language itself"),
        ({"base": "no/such/base"}, "no such|cannot download"),
        ({"minutes": "0.1"}, "too short on this machine"),
        ({"out": "."}, "choose another --out"),
    ],
)
def test_what_is_wrong_is_said_before_anything_trains(
    base_folder, tmp_path, monkeypatch, capsys, change, said
):
    monkeypatch.chdir(tmp_path)
    text, _ = written(tmp_path)
    assert main([*map(str, asked(text, "labelled.csv", base_folder, **change))]) == 1
    assert not list(tmp_path.rglob("results"))
    assert re.search(said, capsys.readouterr().err)


def test_to_look_trains_nothing_and_needs_no_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, _ = written(tmp_path)
    assert main(["adapt", str(text), "--language=bug", "--out=out", "--look"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"look"}


def test_steps_fit_into_the_time_and_a_task_ends_after_its_epochs():
    settings = TaskTraining(batch_size=16)
    seconds = {"language": 0.5, "task": 0.2}
    for minutes in (5, 30, 120):
        language, task, whole = chosen(minutes, seconds, 1000, settings, 2)
        assert whole <= 60 * minutes and task <= 5 * 63 and language >= FEWEST
        alone, none, least = chosen(minutes, {"language": 0.5}, 0, settings, 1)
        assert none == 0 and least <= 60 * minutes and alone >= FEWEST
    with pytest.raises(InputError, match="too short"):
        chosen(STARTS / 60, seconds, 1000, settings, 2)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a", "b", "A "], "'a' and 'A ' differ in case or blanks only"),
        (["a", "b", ""], "items have a blank label"),
        (["a", "a", "a"], "every label is 'a'"),
    ],
)
def test_labels_of_the_source_that_are_no_classes_are_named(tmp_path, labels, said):
    path = tmp_path / "x.csv"
    with path.open("w", newline="") as file:
        rows = [(text, labels[n % 3]) for n, text in enumerate(sentences(90, seed=1))]
        csv.writer(file).writerows([("text", "label"), *rows])
    with pytest.raises(DataError, match=said):
        read_source(path, Columns(text="text", label="label"), 0)


def test_items_with_the_same_words_are_in_one_part(tmp_path):
    path = tmp_path / "x.csv"
    texts = sentences(200, seed=1)
    with path.open("w", newline="") as file:
        rows = [(text, "ab"[n % 2]) for n, text in enumerate(texts)]
        csv.writer(file).writerows([("text", "label"), *rows, *((t.upper(), c) for t, c in rows)])
    found = read_source(path, Columns(text="text", label="label"), 0)
    train, valid = ({words_of(item) for item in part} for part in (found.train, found.valid))
    assert train.isdisjoint(valid) and len(found.train) + len(found.valid) == 400
    assert {item["label"] for item in found.valid} == {"a", "b"} == {*found.classes}


def test_a_folder_without_a_project_is_named(tmp_path):
    with pytest.raises(ArtefactError, match="not a folder made by `deftx adapt`"):
        Project.open(tmp_path)


def test_labelled_items_choose_the_strength_and_neither_train_nor_score(made, base_folder):
    folder, _ = made
    rows = [(text, "high" if text.count("la") else "low") for text in sentences(60, seed=8)]
    few = folder / "few.csv"
    text = folder / "with-few.txt"
    text.write_text("\n".join([*sentences(300, seed=9), *(line for line, _ in rows)]) + "\n")
    with few.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    vector = folder / "out/vectors/task"
    done = deftx(folder, *asked(text, vector, base_folder, "third", labelled=few))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Report this figure." in done.stdout
    project = Project.open(folder / "third")
    choice = json.loads((folder / "third/strength.json").read_text())
    assert project.strength == choice["strength"] and choice["items"] == len(rows)
    chosen_by = {words_of({"text": line}) for line, _ in rows}
    sheet = json.loads((folder / "third/to-label.json").read_text())["items"]
    assert chosen_by.isdisjoint(map(words_of, [*project.texts, *sheet]))
    tokenizer = AutoTokenizer.from_pretrained(folder / "third/model")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "third/model").eval()
    items = [{"text": line} for line, _ in rows]
    plain = predict(model, items, tokenizer, project.max_length).double().softmax(1).numpy()
    assert np.allclose(project.predict(items, project.strength), plain, atol=1e-6)
    again = deftx(folder, "score", few, "--project", "third")
    assert again.returncode == 1 and "cannot score" in again.stderr


def test_a_text_in_another_language_is_refused_unless_asked_for(
    base_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    text, labelled = written(tmp_path)
    text.write_text("\n".join(ENGLISH) + "\n")
    asking = [*map(str, asked(text, labelled, base_folder, minutes=0.1))]
    assert main(asking) == 1
    said = capsys.readouterr().err
    assert "Most lines look like English: 8 of 8" in said and "--anyway" in said
    assert main([*asking, "--anyway"]) == 1
    assert "too short on this machine" in capsys.readouterr().err
