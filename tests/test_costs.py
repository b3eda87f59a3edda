"""The sums of a run's costs against sums made by hand."""

import json
import re
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import PROJECT
from matplotlib.figure import Figure
from test_tables import LANGUAGES, SYSTEMS, params, save_evaluation, save_evaluations

from deftx.plan.plan import Plan
from deftx.plan.schema import Config
from deftx.report.accounting import Job, jobs_of, per_stage, per_system, read_jobs, readable
from deftx.stages.costs import run as costs_stage
from deftx.stages.costs.run import account
from deftx.stages.table import path_of
from deftx.store.errors import ArtefactError

FILES = ["cost.png", "cost.svg", "costs.md", "jobs.csv", "stages.csv", "systems.csv"]

JOBS = [
    ("base", "base/model.safetensors", ["zero-shot", "lt-sft", "deft-x"], 90.0, 500),
    ("full", "full/task-mood/base/seed0/model.safetensors", ["zero-shot", "lt-sft"], 30.0, 900),
    ("full", "full/lang-ace/seed0/model.safetensors", ["lt-sft", "deft-x"], 10.0, 800),
    ("sparse", "sparse/lt-sft/lang-ace/seed0/sft_model.safetensors", ["lt-sft"], 5.0, 100),
    ("evaluate", "evaluate/lt-sft/mood/ace/seed0.safetensors", ["lt-sft"], 2.0, 50),
    ("evaluate", "evaluate/lt-sft/mood/ban/seed0.safetensors", ["lt-sft"], 3.0, 50),
    ("tables", "tables/transfer.csv", [], 1.0, 40),
]  # fmt: skip
"""Stage, path, systems, seconds, peak in bytes; CPU seconds are twice, stored bytes ten times."""


def jobs() -> list[Job]:
    return [Job(stage=stage, path=path, systems=who) for stage, path, who, _, _ in JOBS]


def test_a_job_belongs_to_the_systems_whose_evaluations_need_its_result():
    settings = yaml.safe_load((PROJECT / "tests/config/tiny.yaml").read_text(encoding="utf-8"))
    graph = Plan(Config.model_validate(settings))

    def needs(artefact) -> set[str]:
        parts = [part for role in graph.inputs(artefact).values() for part in role]
        return {path_of(artefact)}.union(*map(needs, parts))

    needed = {e["system"]: set() for e in graph.evaluations}
    for evaluation in graph.evaluations:
        needed[evaluation["system"]] |= needs(evaluation)
        paths = [path_of(artefact) for artefact in graph.closure([evaluation])]
        assert sorted(paths) == sorted(needs(evaluation))
    for job in jobs_of(graph):
        if job.stage != "diagnostics":
            assert job.systems == [system for system in needed if job.path in needed[system]]


@pytest.fixture
def recorded(tmp_path) -> Path:
    """The folder of the costs that the jobs recorded."""
    for stage, path, _, seconds, peak in JOBS:
        cost = {"stage": stage, "seconds": seconds, "cpu_seconds": 2 * seconds}
        cost |= {"peak_bytes": peak, "peak_device_bytes": None, "stored_bytes": 10 * peak}
        if stage == "evaluate":
            cost |= {"inference_seconds": seconds / 2, "items": 400}
        file = (tmp_path / "benchmarks" / path).with_suffix(".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(cost))
    return tmp_path / "benchmarks"


def forget(folder: Path, path: str) -> None:
    (folder / path).with_suffix(".json").unlink()


def test_a_system_costs_all_its_jobs_and_shares_those_of_others(recorded):
    found = per_system(read_jobs(jobs(), recorded), SYSTEMS)
    assert found["seconds"].to_dict() == {"zero-shot": 120, "lt-sft": 140, "deft-x": 100}
    assert found["seconds_share"].to_dict() == {
        "zero-shot": 90 / 3 + 30 / 2,
        "lt-sft": 90 / 3 + 30 / 2 + 10 / 2 + 5 + 2 + 3,
        "deft-x": 90 / 3 + 10 / 2,
    }
    assert found["jobs"].to_dict() == {"zero-shot": 2, "lt-sft": 6, "deft-x": 2}
    assert found["peak_bytes"].to_dict() == {"zero-shot": 900, "lt-sft": 900, "deft-x": 800}
    assert found.at["deft-x", "stored_bytes"] == 5000 + 8000
    assert found.at["deft-x", "cpu_seconds"] == 200
    assert found["unknown"].sum() == 0
    # The shares add up to the run but for the job that belongs to no system.
    assert found["seconds_share"].sum() == sum(job[3] for job in JOBS) - 1.0
    assert found.at["lt-sft", "inference_seconds_per_1000"] == 1000 * (1.0 + 1.5) / 800
    assert pd.isna(found.at["zero-shot", "inference_seconds_per_1000"])


def test_stages_are_in_the_order_of_the_jobs(recorded):
    found = per_stage(read_jobs(jobs(), recorded))
    assert list(found.index) == ["base", "full", "sparse", "evaluate", "tables"]
    assert found.loc["full", ["jobs", "seconds", "peak_bytes"]].tolist() == [2, 40, 900]


def test_jobs_without_a_record_are_counted_and_their_sums_are_lower_bounds(recorded):
    forget(recorded, JOBS[1][1])
    found = per_system(read_jobs(jobs(), recorded), SYSTEMS)
    assert found["unknown"].tolist() == [1, 1, 0]
    assert found["seconds"].tolist() == [90, 110, 100]
    shown = readable(found)
    assert shown["time"].tolist() == ["≥ 1 min 30 s", "≥ 1 min 50 s", "1 min 40 s"]
    assert shown["jobs"].tolist() == ["2", "6", "2"]


def test_nothing_known_is_no_zero(tmp_path):
    found = per_system(read_jobs(jobs(), tmp_path), SYSTEMS)
    assert found["unknown"].tolist() == found["jobs"].tolist()
    assert found[["seconds", "peak_bytes", "stored_bytes"]].isna().all(axis=None)
    shown = readable(found)
    assert list(shown) == ["jobs"] and shown.at["zero-shot", "jobs"] == "2"


def test_a_record_of_another_stage_is_refused(recorded):
    changed = jobs()
    changed[0] = changed[0]._replace(stage="full")
    with pytest.raises(ArtefactError, match=r"base/model\.json: of the stage base, expected full"):
        read_jobs(changed, recorded)


@pytest.fixture
def evaluated(tmp_path) -> list[Path]:
    """Evaluations whose provenance has the numbers of trained values."""
    numbers = {"task": 7, "head": 3}
    paths = []
    for system, (place, language) in product(SYSTEMS, enumerate(LANGUAGES)):
        trained = {**numbers, "language": 5 * place if system == "lt-sft" else 0}
        paths.append(save_evaluation(tmp_path, system, "mood", language, 0, trained=trained))
    return paths


@pytest.fixture
def drawn(monkeypatch) -> list:
    """The arguments of the cost figure."""
    calls = []

    def cost_figure(comparison, means, spent):
        calls.append((comparison, means, spent))
        return Figure(figsize=(1, 1))

    monkeypatch.setattr(costs_stage, "cost_figure", cost_figure)
    return calls


def test_the_files_and_the_figure_have_the_same_numbers(recorded, evaluated, drawn):
    out = recorded.parent / "costs/systems.csv"
    account(params(), jobs(), recorded, evaluated, out)
    assert sorted(path.name for path in out.parent.iterdir()) == FILES
    systems = pd.read_csv(out).set_index("system")
    trained = systems[["trained_task", "trained_language", "trained_head"]]
    assert trained.loc["lt-sft"].tolist() == [7, 15, 3]
    assert systems.at["zero-shot", "trained_language"] == 0
    assert systems.at["lt-sft", "seconds"] == 140
    table = pd.read_csv(out.with_name("jobs.csv"))
    assert table["seconds"].sum() == sum(job[3] for job in JOBS)
    assert table["systems"].fillna("").tolist() == [" ".join(job[2]) for job in JOBS]
    assert pd.read_csv(out.with_name("stages.csv"))["jobs"].sum() == len(JOBS)
    assert "Unknown" not in out.with_name("costs.md").read_text(encoding="utf-8")
    comparison, means, spent = drawn[0]
    assert comparison.systems == list(spent) == SYSTEMS
    assert {mean.system for mean in means} == set(SYSTEMS)
    expected = {"seconds": 140.0, "peak_bytes": 900, "stored_bytes": 24_000, "trained": 25}
    assert spent["lt-sft"] == expected


def test_a_sum_that_is_a_lower_bound_is_not_drawn(recorded, evaluated, drawn):
    forget(recorded, JOBS[1][1])
    out = recorded.parent / "costs/systems.csv"
    account(params(), jobs(), recorded, evaluated, out)
    spent = drawn[0][2]
    assert spent["lt-sft"] == {
        **dict.fromkeys(("seconds", "peak_bytes", "stored_bytes")),
        "trained": 25,
    }
    assert spent["deft-x"]["seconds"] == 100
    report = out.with_name("costs.md").read_text(encoding="utf-8")
    assert re.search(r"1 of 7 jobs have no record", report)


def test_numbers_of_trained_values_are_missing_if_no_evaluation_has_them(recorded, tmp_path, drawn):
    out = tmp_path / "costs/systems.csv"
    account(params(), jobs(), recorded, save_evaluations(tmp_path), out)
    assert pd.read_csv(out)["trained_task"].isna().all()
    assert [spent["trained"] for spent in drawn[0][2].values()] == [None] * 3


def test_a_figure_without_costs_says_so(tmp_path):
    out = tmp_path / "costs/systems.csv"
    account(params(), jobs(), tmp_path / "benchmarks", save_evaluations(tmp_path), out)
    assert sorted(path.name for path in out.parent.iterdir()) == FILES
    assert "No costs: some" in out.with_name("cost.svg").read_text(encoding="utf-8")
