"""The estimate of a run: it counts what training does, and it names what it does not know."""

import io
import json
import re
import shutil
import subprocess

import pytest
import torch
import yaml
from conftest import PROJECT, sentences
from rich.console import Console
from tiny_config import TINY, with_change
from transformers import AutoConfig, XLMRobertaConfig

from benchmarks.models import SIZES
from deftx.cli.main import main
from deftx.engine.language import masked_language_modelling
from deftx.estimate import choice, speeds
from deftx.estimate import estimate as estimates
from deftx.estimate.choice import remaining, wanted
from deftx.estimate.sizes import Sizes, find_shape
from deftx.estimate.speeds import finished, measured
from deftx.estimate.work import Amount, Works
from deftx.models.base import Base
from deftx.models.load import load_tokenizer
from deftx.plan.artefact import Artefact
from deftx.plan.config import check_config, read_config
from deftx.plan.plan import Plan
from deftx.stages.table import path_of
from deftx.store.errors import ConfigError
from deftx.store.items import write_items


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder in which a run would be."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def config(folder):
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def planned(change=lambda raw: None) -> Plan:
    return Plan(check_config(with_change(change)))


def works_of(plan: Plan):
    works = Works(plan)
    return {artefact: works.of(artefact) for artefact in plan.artefacts}


def of_stage(works, stage):
    """Subject → work of a stage."""
    return {work.subject: work for artefact, work in works.items() if artefact.stage == stage}


def shown(config, chosen=None, **options) -> str:
    console = Console(width=200, file=io.StringIO())
    estimates.estimate(config, chosen or {}, console=console, **options)
    return console.file.getvalue()


def with_families(raw):
    """Methods of every family, and one that does not train."""
    families = {"lora": {"lora": {}}, "mad-x": {"adapter": {}}, "ada-sft": {"gate": {}}}
    raw["methods"] |= {**families, "pruned": {"retrain": False}}
    raw["systems"] |= {name: {"task": name} for name in ("lora", "mad-x", "pruned")}
    raw["systems"]["ada-sft"] = {"task": "ada-sft", "language": "lt-sft"}


def test_the_shape_of_xlm_r_base_gives_its_numbers_of_parameters(folder):
    sizes = Sizes(planned(), XLMRobertaConfig(**SIZES["xlm-r-base"], type_vocab_size=1))
    assert sizes.parameters == 277_453_056
    full = sizes.of(Artefact.of("full", target="lang-qta", seed=0), trains=True)
    assert full.value == pytest.approx(1_113_204_704, rel=0.005)  # a file that was written
    mask = sizes.of(Artefact.of("mask", method="lt-sft", target="lang-qta", seed=0), trains=False)
    assert mask == Amount(round(0.1 * 277_414_656))


def test_a_shape_from_a_configuration_is_that_of_the_base_it_makes(base_folder, folder):
    made = Base.load(base_folder)
    sizes = Sizes(planned(), AutoConfig.from_pretrained(base_folder))
    assert sizes._maskable == made.maskable


def test_a_base_of_unknown_shape_gives_jobs_and_steps_and_no_bytes(folder):
    raw = TINY | {"base": {"model": "nobody/has-this"}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(raw))
    text = shown(folder / "tiny.yaml")
    assert "base: unknown" in text and "nobody/has-this: no local folder" in text
    assert re.search(r"full +2 +2 +≤ 10 +unknown +unknown", text)
    with pytest.raises(ConfigError, match="--measure: nobody/has-this"):
        shown(folder / "tiny.yaml", measure=True)


def test_steps_without_a_text_are_at_most_max_steps_or_unknown(folder):
    full = of_stage(works_of(planned()), "full")
    assert full["language"].steps == Amount(6, at_most=True)
    assert full["sentiment"].steps == Amount(4)
    fixed = planned(lambda raw: raw["language_training"].update(min_steps=6))
    assert of_stage(works_of(fixed), "full")["language"].steps == Amount(6)
    unbounded = planned(lambda raw: raw["language_training"].update(max_steps=None))
    assert of_stage(works_of(unbounded), "full")["language"].steps is None


@pytest.mark.parametrize("packed", [True, False])
def test_steps_with_a_text_and_a_tokenizer_are_those_that_training_takes(
    folder, base_folder, packed
):
    changes = {"max_steps": None, "min_steps": 0, "epochs": 3, "packed": packed}
    plan = planned(lambda raw: raw["language_training"].update(changes))
    root, lines = folder / "results/tiny", sentences(300)
    shutil.copytree(base_folder, root / "base")
    items = [{"id": str(i), "text": line} for i, line in enumerate(lines)]
    for artefact in plan.artefacts:
        if artefact.stage == "world" and artefact["dataset"] == "text":
            write_items(root / path_of(artefact), items)
    settings = plan.config.language_training
    objective = masked_language_modelling(lines, load_tokenizer(Base.load(base_folder)), settings)
    found = of_stage(works_of(plan), "full")["language"]
    assert found.steps == Amount(pytest.approx(settings.steps(len(objective)), abs=3))
    assert found.length == 32 if packed else found.length < 32


def test_items_of_the_config_count_before_files_exist(folder):
    def own(raw):
        raw["datasets"]["sentiment"] = {
            "files": "{language}/{split}.csv",
            "columns": {"label": "label"},
            "items": {"train": 320, "valid": 20},
        }

    plan = planned(own)
    assert of_stage(works_of(plan), "full")["sentiment"].steps == Amount(20)
    del plan.config.datasets["sentiment"].items["train"]
    assert of_stage(works_of(plan), "full")["sentiment"].steps is None


def test_a_training_is_recognised_by_its_parameters_in_every_family(folder):
    works = works_of(planned(with_families))
    training = {artefact.stage for artefact, work in works.items() if work.trains}
    assert training == {"base", "full", "sparse", "adapter", "gate", "gated", "lora"}
    pruned = [work for a, work in works.items() if dict(a.wildcards).get("method") == "pruned"]
    assert pruned and not any(work.trains for work in pruned)
    sources = "".join(path.read_text() for path in (PROJECT / "deftx/estimate").glob("*.py"))
    assert not re.search(r"adapter|gate|lora|mad-x", sources, re.I)


def test_finished_jobs_give_seconds_of_a_step_or_of_a_job(folder):
    plan = planned(with_families)
    works = works_of(plan)

    def ended(artefact, seconds):
        file = (folder / "results/tiny/benchmarks" / path_of(artefact)).with_suffix(".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"seconds": seconds}) if seconds else "")

    jobs = [a for a, work in works.items() if a.stage == "sparse" and work.subject == "sentiment"]
    trained = [a for a in jobs if works[a].trains]
    for artefact, seconds in zip(trained, (8.0, 16.0), strict=False):
        ended(artefact, seconds)
    (pruned,) = (a for a in jobs if not works[a].trains)
    ended(pruned, 0.5)
    assert finished(plan, works) == {
        ("sparse", "sentiment", True): (8 + 16) / (4 + 4),
        ("sparse", "sentiment", False): 0.5,
    }
    ended(trained[1], None)  # it is running
    assert finished(plan, works)["sparse", "sentiment", True] == 8 / 4


def test_a_measurement_stands_for_every_training_that_has_not_finished(config, monkeypatch):
    config.write_text(yaml.safe_dump(with_change(with_families)))
    plan = Plan(read_config(config))
    found = measured(plan, works_of(plan).values(), find_shape(plan)[0])
    assert found.keys() == {"language", "sentiment"} and min(found.values()) > 0
    monkeypatch.setattr(estimates, "measured", lambda *_: {"language": 1.0, "sentiment": 2.0})
    known = {("full", "sentiment", True): 5.0}
    monkeypatch.setattr(estimates, "finished", lambda *_: known)
    text = shown(config, measure=True)
    assert "--measure: 2e+03 ms for a step of sentiment" in text
    assert re.search(r"^full .*≤ 26 s .*--measure, finished jobs", text, re.M)  # 5·4 + 6
    assert re.search(r"^gate .* 8\.0 s .*--measure", text, re.M)  # 2·4
    assert re.search(r"^evaluate .* unknown ", text, re.M)
    assert "unknown" in re.search(r"^denoise .*", text, re.M)[0]


@pytest.mark.parametrize(("device", "expected"), [("cpu", 2.0), ("cuda", (2 + 90 + 2) / 3)])
def test_one_step_that_waits_does_not_count_on_a_cpu(monkeypatch, device, expected):
    """A GPU is timed as a whole, since it works while the program goes on."""
    clock = iter([10.0, 12.0, 102.0, 104.0] if device == "cpu" else [10.0, 104.0])
    monkeypatch.setattr(speeds.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(speeds, "available_device", lambda: torch.device(device))
    monkeypatch.setattr(speeds, "STEPS", {"cpu": (1, 3), "cuda": (1, 3)})
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    examples = speeds.TimedExamples([{}, {}])
    with pytest.raises(speeds.TimedError) as timed:
        for i in range(20):
            examples[i % 2]
    assert timed.value.args[0] == pytest.approx(expected)
    assert examples.drawn == 9  # up to the first example of the fifth step


def test_sums_say_what_is_a_bound_and_what_is_missing():
    write = "{:.0f} h".format
    assert estimates.total([Amount(1), Amount(2)], write) == "3 h"
    assert estimates.total([Amount(1), Amount(2, at_most=True)], write) == "≤ 3 h"
    assert estimates.total([Amount(1), None, None], write) == "1 h + 2 unknown"
    assert estimates.total([None, Amount(0)], write) == "unknown"
    assert estimates.total([Amount(0)], write) == estimates.total([], write) == "—"


def test_files_that_exist_have_their_own_size_and_give_it_to_others_of_their_kind(folder):
    plan = planned(with_families)
    there, alike, other = (
        Artefact.of("adapter", method="mad-x", target=target, seed=seed)
        for target, seed in (
            ("task-sentiment/base", 0),
            ("task-sentiment/base", 1),
            ("lang-qta", 0),
        )
    )
    assert Sizes(plan, None).of(there, trains=True) is None
    path = folder / plan.root / path_of(there)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 123)
    found = [Sizes(plan, None).of(artefact, trains=True) for artefact in (there, alike, other)]
    assert found == [Amount(123), Amount(123), None]


def test_too_little_disk_is_reported(config, monkeypatch):
    assert "not enough" not in shown(config)
    usage = shutil.disk_usage(config.parent)._replace(free=1000)
    monkeypatch.setattr(estimates.shutil, "disk_usage", lambda _: usage)
    assert "free: 1.0 kB: not enough" in shown(config)


def test_a_choice_needs_what_its_evaluations_need_and_no_more(config):
    plan = Plan(read_config(config))
    only = {"system": ["deft-x"], "task": [], "language": ["qta"], "seed": ["0"]}
    chosen = wanted(plan, **only)
    assert [path_of(a) for a in chosen] == ["evaluate/deft-x/sentiment/qta/seed0.safetensors"]
    found = plan.closure(chosen)
    assert {a["method"] for a in found if a.stage == "sparse"} == {"deft-x"}
    assert all(part in found for a in found for parts in plan.inputs(a).values() for part in parts)
    assert len(found) < len(plan.artefacts)
    assert f"{len(found)} of {len(found)} jobs to do" in shown(config, only)
    with pytest.raises(ConfigError, match=r"--language qtx: not evaluated; known: qta, qtb"):
        wanted(plan, language=["qtx"])


def test_targets_prints_paths(config, capsys):
    assert main(["targets", str(config), "--language", "qtb", "--system", "lt-sft"]) == 0
    path = "results/tiny/evaluate/lt-sft/sentiment/qtb/seed0.safetensors\n"
    assert capsys.readouterr().out == path
    assert main(["targets", str(config), "--system", "none"]) == 1
    assert "not evaluated; known: deft-x, lt-sft, zero-shot" in capsys.readouterr().err


def test_snakemake_decides_what_remains_and_its_failure_is_reported(config, monkeypatch):
    plan, asked = Plan(read_config(config)), []

    def cannot(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", "Building\nno file text.txt\n")

    monkeypatch.setattr(choice.subprocess, "run", cannot)
    assert remaining(plan, config) == (set(plan.artefacts), "") and not asked
    (config.parent / plan.root).mkdir(parents=True)
    (config.parent / plan.root / "config.json").touch()
    found, caution = remaining(plan, config)
    assert set(plan.artefacts) - found == {Artefact.of("config")} and len(asked) == 1
    assert "(no file text.txt): every file that exists counts as done" in caution
    assert caution in shown(config)
