"""Measured speeds give a job's time for what was measured, and for nothing else."""

import io
import json
import re

import pytest
import yaml
from conftest import PROJECT
from pydantic import ValidationError
from rich.console import Console
from tiny_config import with_change
from transformers import AutoConfig

from benchmarks.models import config as benchmark_config
from deftx.engine.settings import Engine, LanguageTraining, TaskTraining
from deftx.estimate import estimate as estimates
from deftx.estimate.sizes import Sizes, find_shape
from deftx.estimate.table import FILE, Row, Speeds, load_speeds
from deftx.estimate.work import Amount, Work, Works
from deftx.plan.config import check_config, read_config
from deftx.plan.plan import Plan
from deftx.stages.table import STAGES
from deftx.store.errors import ConfigError

PARAMETERS = 1000
ROW = {
    "device": "a GPU", "model": "own", "phase": "full", "kind": "language",
    "batch": 8, "length": 256, "engine": {"precision": "bf16", "compile": True}, "step_ms": 20.0,
    "start_s": 10.0, "date": "2026-11-27", "version": "abc", "torch": "2.13", "command": "none",
}  # fmt: skip
MODELS = {"own": {"parameters": PARAMETERS, "model_type": "xlm-roberta", "config": {}}}


def table(*changes):
    """Speeds of a row for each of the changes to `ROW`."""
    return Speeds.model_validate({"models": MODELS, "measured": [ROW | each for each in changes]})


def work(batch=8, length=256, steps=Amount(1000), **settings):  # noqa: B008
    training = LanguageTraining(batch_size=batch, **settings)
    return Work("language", True, steps, training, length)


def time(speeds, job, engine=Engine(), parameters=PARAMETERS):  # noqa: B008
    return speeds.time("a GPU", "full", job, parameters, engine)


def test_a_job_takes_the_start_and_its_steps_of_the_row_of_its_shape():
    found = time(table({}), work())
    assert found.seconds == Amount(10 + 1000 * 0.020) and not found.scaled
    bound = time(table({}), work(steps=Amount(1000, at_most=True)))
    assert bound.seconds == Amount(30, at_most=True)
    assert time(table({"start_s": None}), work()).seconds == Amount(20)
    assert time(table({}), work(steps=None)) is None


@pytest.mark.parametrize(
    ("batch", "length", "expected"),
    [
        (8, 255, Amount(30, at_most=True)),  # fewer tokens: at most as long
        (1, 16, Amount(30, at_most=True)),
        (16, 128, Amount(30)),
        (12, 256, Amount(40)),
        (16, 256, Amount(50)),
        (17, 256, None),
    ],
)
def test_other_shapes_are_scaled_up_to_twice_the_tokens_and_marked(batch, length, expected):
    found = time(table({}), work(batch, length))
    assert (found and found.seconds) == expected and (found is None or found.scaled)


def test_a_length_that_is_only_the_longest_gives_a_bound():
    job = work(packed=False, max_length=256)
    assert time(table({}), job).seconds == Amount(30, at_most=True)
    assert time(table({}), work(packed=False, max_length=300)).seconds == Amount(30)


def test_accumulated_batches_take_at_most_a_step_each():
    assert time(table({}), work(accumulation=2)).seconds == Amount(50, at_most=True)


@pytest.mark.parametrize(
    "other",
    [
        {"device": "another GPU"},
        {"device": "a GPU of more memory"},
        {"phase": "sparse"},
        {"kind": "task"},
        {"engine": {"precision": "fp32", "compile": True}},
        {"engine": {"precision": "bf16", "compile": True, "devices": 2}},
        {"engine": {"precision": "bf16", "compile": True, "attention": "eager"}},
        {"engine": {"compile": True}},  # measured with the precision `auto`, whatever it was
    ],
)
def test_a_row_of_anything_else_is_never_used(other):
    asked = Engine(precision="bf16")
    assert time(table({}), work(), asked) is not None
    assert time(table(other), work(), asked) is None


def test_a_base_of_another_size_and_a_job_that_does_not_train_are_unknown():
    assert time(table({}), work(), parameters=PARAMETERS + 1) is None
    assert time(table({}), work(), parameters=0) is None  # of unknown shape
    assert time(table({}), Work("language")) is None
    task = TaskTraining(batch_size=8)
    assert time(table({}), Work("sentiment", True, Amount(5), task, 256)) is None


def test_auto_permits_every_setting_and_memory_settings_do_not_matter():
    assert time(table({}), work(), Engine(on_out_of_memory="halve")) is not None
    assert time(table({}), work(), Engine(compile=False)) is None


def test_the_nearest_row_counts_and_of_equal_ones_the_last():
    speeds = table({"step_ms": 1.0}, {"step_ms": 2.0}, {"batch": 4, "step_ms": 3.0})
    assert time(speeds, work()).row.step_ms == 2.0
    assert time(speeds, work(batch=5)).row.step_ms == 3.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_ms": -1}, r"row 2, step_ms: Input should be greater than 0, got -1"),
        ({"step_ms": float("nan")}, r"row 2, step_ms: .*got nan"),
        ({"step_ms": float("inf")}, r"row 2, step_ms: .*got inf"),
        ({"step_ms": True}, r"row 2, step_ms: .*got True"),
        ({"step_ms": "20"}, r"row 2, step_ms: .*got '20'"),
        ({"batch": 0}, r"row 2, batch: .*got 0"),
        ({"speed": 3}, r"row 2, speed: Extra inputs are not permitted"),
        ({"phase": "fall"}, r"row 2, phase: expected one of base, full, .*, got 'fall'"),
        ({"kind": "text"}, r"row 2, kind: .*got 'text'"),
        ({"model": "none"}, r"row 2, model: expected one of own, got 'none'"),
        ({"engine": {"precision": "fp8"}}, r"row 2, engine, precision: .*got 'fp8'"),
        ({"date": "yesterday"}, r"row 2, date: .*got 'yesterday'"),
        ({"version": 608}, r"row 2, version: .*got 608"),
    ],
)
def test_a_bad_row_is_refused_with_the_file_the_row_and_the_key(tmp_path, change, message):
    path = tmp_path / "speeds.yaml"
    path.write_text(yaml.safe_dump({"models": MODELS, "measured": [ROW, ROW | change]}))
    with pytest.raises(ConfigError, match=rf"(?s)speeds\.yaml:\n  {message}"):
        load_speeds(path)


@pytest.mark.parametrize("key", sorted(ROW.keys() - {"start_s"}))
def test_every_key_of_a_row_but_the_start_and_the_peak_must_be_there(key):
    with pytest.raises(ValidationError, match=f"{key}\n  Field required"):
        Row.model_validate({name: value for name, value in ROW.items() if name != key})


def test_a_line_of_json_is_a_row(tmp_path):
    path, models = tmp_path / "speeds.yaml", json.dumps(MODELS)
    path.write_text(f"models: {models}\nmeasured:\n  - {json.dumps(ROW)}\n")
    assert load_speeds(path) == table({})


def test_the_models_of_the_package_have_the_parameters_that_they_say():
    for name, model in load_speeds().models.items():
        shape = AutoConfig.for_model(model.model_type, **model.config)
        assert Sizes(Plan(check_config(with_change(lambda raw: None))), shape).parameters == (
            model.parameters
        ), name
    known = load_speeds().models["FacebookAI/xlm-roberta-base"]
    timed = benchmark_config("xlm-r-base").to_dict()
    assert {key: timed[key] for key in known.config} == known.config


def test_a_base_that_is_known_by_its_name_needs_no_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("asked"))
    shape, source = find_shape(Plan(read_config(PROJECT / "config.yaml")))
    assert shape.hidden_size == 768 and "known by its name" in source


def shown(path) -> str:
    console = Console(width=200, file=io.StringIO())
    estimates.estimate(path, {}, console=console)
    return console.file.getvalue()


def number(text):
    return float(text.replace(",", ""))


def test_the_plan_of_the_papers_grid_counts_what_is_known_and_what_is_not(tmp_path, monkeypatch):
    """The printed hours of each device, phase and kind of data equal those of a plain sum."""
    monkeypatch.chdir(tmp_path)
    plan, speeds = Plan(read_config(PROJECT / "config.yaml")), load_speeds()
    works, known = Works(plan), speeds.models["FacebookAI/xlm-roberta-base"].parameters
    jobs = [(a.stage, works.of(a)) for a in plan.artefacts if STAGES[a.stage].gpus != "none"]
    jobs = [(stage, work) for stage, work in jobs if stage != "base"]  # it is downloaded
    text = shown(PROJECT / "config.yaml")
    table = text[text.index("\nhours ") :].split("\n\n")[0].strip().splitlines()
    heads, *lines = (re.split(r"  +", line.strip()) for line in table)
    assert heads == ["hours", "data", "to do", *speeds.devices]
    for phase, kind, count, *cells in lines:
        same = {(phase, kind.strip("—"))}
        ours = [(s, w) for s, w in jobs if phase == "all" or (s, w.kind) in same]
        assert number(count) == len(ours) > 0
        for device, cell in zip(speeds.devices, cells, strict=True):
            times = [speeds.time(device, s, w, known, plan.config.engine) for s, w in ours]
            hours = sum(found.seconds.value for found in times if found) / 3600
            if not any(times):
                assert cell == "unknown"
                continue
            sum_, unknown = re.fullmatch(r"(?:≤ )?(.+?)(?: \+ (.+) unknown)?", cell).groups()
            if sum_.endswith(" h"):  # shorter sums are in minutes
                assert number(sum_.removesuffix(" h")) == pytest.approx(hours, abs=0.5)
            else:
                assert hours < 10
            assert number(unknown or "0") == times.count(None)
    assert lines[-1][0] == "all"
    used = {
        found.row
        for device in speeds.devices
        for s, w in jobs
        if (found := speeds.time(device, s, w, known, plan.config.engine))
    }
    for row in speeds.measured:
        assert (str(row) in text) == (row in used)


def test_a_printed_row_says_with_which_version_and_when_it_was_measured():
    (row,) = table({}).measured
    assert "start 10 s" in str(row) and str(row).endswith("version abc, 2026-11-27")
    (row,) = table({"date": None, "start_s": None}).measured
    assert "start not measured" in str(row) and "date not recorded" in str(row)


def test_a_plan_prints_hours_of_jobs_to_do_and_how_many_were_scaled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(with_change(lambda raw: None)))
    plan = Plan(read_config(path))
    shape, training = find_shape(plan)[0], plan.config.language_training
    here = {"batch": training.batch_size, "length": training.max_length, "engine": {}}
    rows = table(
        here | {"step_ms": 1e6, "start_s": 1.0}, here | {"phase": "sparse", "length": 1024}
    )
    models = {
        "own": rows.models["own"].model_copy(update={"parameters": Sizes(plan, shape).parameters})
    }
    speeds = rows.model_copy(update={"models": models})
    monkeypatch.setattr(estimates, "load_speeds", lambda: speeds)
    text = shown(path)
    full = [a for a in plan.artefacts if a.stage == "full" and "lang-" in a["target"]]
    seconds = len(full) * (1 + 1000 * training.max_steps)
    assert re.search(rf"full +language +{len(full)} +≤ {seconds / 3600:.1f} h *\n", text)
    assert re.search(r"full +task +1 +unknown", text)
    sparse = re.search(r"sparse +language +(\d+) ", text)[1]
    assert f"{speeds.measured[0]}\n" in text
    assert f"{speeds.measured[1]}; scaled for {sparse} jobs\n" in text
    undone = {*plan.artefacts} - {*full}
    monkeypatch.setattr(estimates, "remaining", lambda *_: (undone, ""))
    assert not re.search(r"full +language", shown(path))


def test_a_plan_without_a_row_has_no_hours_of_a_device(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(with_change(lambda raw: None)))
    text = shown(path)
    assert f"hours by device: unknown; deftx/estimate/{FILE.name} has no row" in text
    assert not any(device in text for device in load_speeds().devices)
