"""The estimate of a run: every bound holds, and every number says what it rests on."""

import copy
import heapq
import io
import json
import re
import shutil
import subprocess
from math import inf

import pytest
import torch
import yaml
from conftest import PROJECT, sentences
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    XLMRobertaConfig,
)

from benchmarks.models import SIZES
from deftx.cli.main import main
from deftx.estimate import estimate as estimates
from deftx.estimate import measure, remaining
from deftx.estimate.choice import needed, wanted
from deftx.estimate.items import Items
from deftx.estimate.ranges import Range, exactly, total
from deftx.estimate.shape import KNOWN, find_shape, shape_of
from deftx.estimate.sizes import Sizes
from deftx.estimate.speeds import (
    ANOTHER,
    HERE,
    JOB,
    MACHINE,
    RUN,
    STEP,
    Speed,
    Speeds,
    machines,
    of_file,
    of_run,
    shipped,
)
from deftx.estimate.totals import Job, Time, summed, wall_time
from deftx.estimate.work import TRAINING, Work, Works
from deftx.models.base import Base
from deftx.plan.checks import check_config, read_config
from deftx.plan.graph import Artefact
from deftx.plan.plan import Plan
from deftx.store.errors import ConfigError
from deftx.store.items import write_items

TINY = yaml.safe_load((PROJECT / "tests/config/tiny.yaml").read_text())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where results would be."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(change=lambda raw: None) -> Plan:
    raw = copy.deepcopy(TINY)
    change(raw)
    return Plan(check_config(raw))


def works_of(plan: Plan) -> list[tuple[Artefact, Work]]:
    works = Works(plan, find_shape(plan), Items(plan))
    return [(artefact, works.of(artefact)) for artefact in plan.artefacts()]


def shown(config, **options) -> str:
    console = Console(width=200, file=io.StringIO())
    chosen = options.pop("chosen", {})
    estimates.estimate(config, chosen, console=console, **options)
    return console.file.getvalue()


@pytest.fixture
def config(folder):
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


# Ranges


def test_a_range_holds_what_its_parts_may_be():
    parts = [Range(1, 3), Range(0, 2), Range(2, inf), exactly(5)]
    for a in parts:
        for b in parts:
            for x in (a.low, min(a.high, 99)):
                for y in (b.low, min(b.high, 99)):
                    assert (a + b).low <= x + y <= (a + b).high
                    assert (a * b).low <= x * y <= (a * b).high
    assert total([]) == exactly(0) and exactly(0) * Range(1, inf) == exactly(0)
    for low, high in ((-1, 2), (3, 2)):
        with pytest.raises(ValueError, match="a range from"):
            Range(low, high)


def test_a_range_reads_as_one_number_where_both_bounds_do():
    write = "{:.0f} h".format
    assert Range(1.1, 1.2).shown(write) == "1 h"
    assert Range(1, 2).shown(write) == "1 h to 2 h"
    assert Range(1, inf).shown(write) == "1 h or more"


# The base


def test_shapes_that_are_known_are_those_of_the_public_models():
    base, large = (shape_of(XLMRobertaConfig(type_vocab_size=1, **KNOWN[k]), k) for k in KNOWN)
    assert (base.backbone, base.maskable) == (277_453_056, 277_414_656)
    assert sum(rows * columns for rows, columns in base.linear.values()) == 84_934_656
    assert large.config.num_hidden_layers == 24


def test_a_shape_from_a_configuration_is_that_of_the_base_it_makes(base_folder):
    made, found = Base.load(base_folder), shape_of(AutoConfig.from_pretrained(base_folder), "")
    assert found.base.shapes == made.shapes and found.base.layer_norms == made.layer_norms


def test_a_base_of_which_nothing_is_known_gives_jobs_and_steps_alone(folder):
    raw = copy.deepcopy(TINY) | {"base": {"model": "nobody/has-this"}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(raw))
    text = shown(folder / "tiny.yaml")
    assert "base: unknown" in text and "nobody/has-this: no model folder" in text
    assert re.search(r"full +2 +2 +4 to 6 +— +unknown", text)
    with pytest.raises(ConfigError, match="--measure: nobody/has-this"):
        shown(folder / "tiny.yaml", measure=True)


@pytest.mark.parametrize("kind", ["language", "task"])
def test_operations_are_those_that_torch_counts(kind):
    config = XLMRobertaConfig(**{**SIZES["tiny"], "vocab_size": 500}, type_vocab_size=1)
    config._attn_implementation = "eager"
    rows, length = 4, 32
    ids = torch.randint(5, 500, (rows, length))
    if kind == "language":
        model = AutoModelForMaskedLM.from_config(config)
        model.get_output_embeddings().weight = torch.nn.Parameter(
            torch.rand(500, 64), requires_grad=False
        )
        predicted = 1.0  # transformers computes all logits
    else:
        model, predicted = AutoModelForSequenceClassification.from_config(config), 0.0
    with FlopCounterMode(display=False) as counter:
        outputs = model(ids)
        outputs.logits.sum().backward()
    found = shape_of(config, "").step(exactly(rows * length), exactly(length), predicted)
    # Heads are not counted.
    assert found.low == pytest.approx(counter.get_total_flops(), rel=0.04)


def test_shipped_speeds_say_their_operations():
    demo = yaml.safe_load((PROJECT / "workflow/configs/demo.yaml").read_text())
    shapes = {
        name: shape_of(XLMRobertaConfig(type_vocab_size=1, **size), name)
        for name, size in {"xlm-r-base": SIZES["xlm-r-base"], "mini": SIZES["mini"]}.items()
    }
    shapes["demo"] = find_shape(Plan(check_config(demo)))
    for machine in machines().values():
        for speed in machine["speeds"]:
            if "base" not in speed:
                assert not {"entries", "operations"} & speed.keys()
                continue
            shape = shapes[speed["base"]]
            if speed["unit"] == JOB:
                assert speed["entries"] == shape.backbone
                continue
            masked = 0 if speed["subject"] == "task" else 0.15
            length = exactly(speed["length"])
            found = shape.step(exactly(speed["tokens"]), length, masked).low
            assert speed["operations"] == pytest.approx(found, rel=1e-3)


# Work


def test_steps_without_a_tokenizer_are_the_bounds_of_the_config(folder):
    plan = planned()
    steps = {w.subject: w.steps for a, w in works_of(plan) if a.stage == "full"}
    assert steps == {"language": Range(4, 6), "sentiment": exactly(4)}
    unbounded = planned(lambda raw: raw["language_training"].update(max_steps=None))
    (steps,) = {w.steps for a, w in works_of(unbounded) if w.subject == "language" and w.steps}
    assert steps == Range(4, inf)
    assert {w.validation.high < 6 for a, w in works_of(plan) if w.subject == "language"} == {True}


def test_steps_with_text_and_a_tokenizer_are_those_that_training_takes(folder, base_folder):
    plan = planned(
        lambda raw: raw["language_training"].update(max_steps=None, min_steps=0, epochs=3)
    )
    root = folder / "results/tiny"
    shutil.copytree(base_folder, root / "base")
    lines = sentences(300)
    for artefact in plan.artefacts():
        if artefact.stage == "world" and artefact["dataset"] == "text":
            items = [{"id": str(i), "text": line} for i, line in enumerate(lines)]
            write_items(root / artefact.path, items)
    found = {w.steps for a, w in works_of(plan) if w.subject == "language" and w.steps}

    from deftx.engine.language import masked_language_modelling
    from deftx.models.load import load_tokenizer

    settings = plan.config.language_training
    tokenizer = load_tokenizer(Base.load(base_folder))
    objective = masked_language_modelling(lines, tokenizer, settings)
    (steps,) = found
    assert steps.low == steps.high == pytest.approx(settings.steps(len(objective)), abs=3)


def test_items_of_files_count_before_the_files_are_there(folder):
    def own(raw):
        raw["datasets"]["sentiment"] = {
            "files": "{language}/{split}.csv",
            "columns": {"label": "label"},
            "items": {"train": 320, "valid": 20},
        }

    plan = planned(own)
    items = Items(plan)
    (steps,) = {w.steps for a, w in works_of(plan) if w.subject == "sentiment" and w.steps}
    assert steps == exactly(20)
    for artefact in plan.artefacts():
        if artefact.stage == "data" and artefact["split"] == "test":
            assert items.count(artefact) == Range(1, inf)
    assert list(items.unknown) == ["sentiment: how many items of test"]


def test_a_stage_that_the_estimate_does_not_know_is_a_job_without_a_size(folder):
    plan, artefact = planned(), Artefact.of("download", dataset="text")
    work = Works(plan, find_shape(plan), Items(plan)).of(artefact)
    assert work.stage == "download" and work.steps is None
    assert Sizes(plan, find_shape(plan), Items(plan)).of(artefact) is None
    assert Speeds(shipped("cpu")).time(work) is None


# Speeds


def speed(stage="full", subject="language", seconds=1.0, nearness=HERE, size=100.0, **more):
    unit = more.pop("unit", STEP)
    return Speed(stage, subject, unit, exactly(seconds), stage, nearness, exactly(size), **more)


def work(stage="full", subject="language", steps=10, size=100.0, **more):
    return Work(stage, subject, exactly(steps), operations=exactly(size), **more)


def test_the_nearest_speed_counts():
    known = [
        speed(seconds=1, nearness=ANOTHER),
        speed("sparse", seconds=2, nearness=MACHINE),
        speed(seconds=3, nearness=MACHINE),
        speed("sparse", seconds=5, nearness=HERE),
        speed(seconds=7, nearness=HERE),
        speed(seconds=11, nearness=RUN, whole=True),
    ]
    assert [Speeds(known[:n]).time(work()).seconds.low for n in range(1, 7)] == [
        10, 20, 30, 50, 70, 110,
    ]  # fmt: skip
    # What no machine has measured goes by the full phase; measured at home before all others.
    assert Speeds(known).time(work("gate")).seconds.low == 110
    assert Speeds([]).time(work()) is None


def test_of_another_size_it_takes_between_as_long_and_its_share():
    known = Speeds([speed(seconds=2)])
    assert known.step(work(size=50)) == Range(1, 2)
    assert known.step(work(size=300)) == Range(2, 6)
    assert known.step(work()) == exactly(2)
    processor = Speeds([speed(seconds=2, threads=2)])
    assert processor.step(work(threads=1)) == exactly(4)
    assert known.step(Work("full", "language", exactly(1))) is None


def test_a_steps_validation_and_what_is_done_beside_it_are_added_unless_they_are_in_it():
    job = speed(unit=JOB, seconds=5, size=1000.0)
    asked = work(validation=exactly(2), entries=1000)
    found = Speeds([speed(seconds=3), job]).time(asked)
    assert found.seconds == exactly(3 * 12 + 5)
    assert Speeds([speed(seconds=3, whole=True), job]).time(asked).seconds == exactly(30)


def test_a_run_tells_its_seconds_over_its_steps(folder):
    plan = planned()
    pairs = works_of(plan)
    languages = [a for a, w in pairs if (a.stage, w.subject) == ("sparse", "sentiment")]
    for number, artefact in enumerate(languages):
        file = (folder / "results/tiny/benchmarks" / artefact.path).with_suffix(".json")
        file.parent.mkdir(parents=True)
        cost = {"stage": "sparse", "seconds": 8.0 * (number + 1), "peak_bytes": 10 + number}
        file.write_text(json.dumps({**cost, "peak_device_bytes": 0}))
    (found,) = of_run(plan, pairs)
    each = (8 + 16) / (4 + 4)
    assert (found.seconds, found.unit, found.memory) == (exactly(each), STEP, 11)
    assert Speeds([found]).memory("sparse") == 11
    file.write_text("")  # a job that is running
    (found,) = of_run(plan, pairs)
    assert found.seconds == exactly(8 / 4)


def test_a_machine_that_is_not_known_is_named(config):
    with pytest.raises(ConfigError, match="--machine abacus: none that was measured; known: h200"):
        shown(config, machine="abacus")


def test_what_measure_did_not_write_is_refused(folder):
    path = folder / "speeds.json"
    path.write_text('{"speeds": [{}]}')
    with pytest.raises(ConfigError, match="not what `deftx plan --measure` writes"):
        of_file(path)
    assert of_file(folder / "absent.json") == []


# Time and disk


def simulated(plan, jobs, gpus, cores):
    """When a scheduler that starts whatever it can, inputs first, is done."""
    ends, running, waiting, now = {}, [], list(jobs), 0.0
    free = {"gpu": gpus, "core": cores}
    while waiting or running:
        for job in list(waiting):
            parts = [part for parts in plan.inputs(job.artefact).values() for part in parts]
            kind = "gpu" if gpus and job.devices else "core"
            need = 1 if kind == "gpu" else min(job.work.threads, cores)
            if free[kind] >= need and all(ends.get(p, inf) <= now for p in parts):
                free[kind] -= need
                heapq.heappush(running, (now + job.time.seconds.low, id(job), job, kind, need))
                waiting.remove(job)
        now, _, job, kind, need = heapq.heappop(running)
        free[kind] += need
        ends[job.artefact] = now
    return now


@pytest.mark.parametrize(("gpus", "cores"), [(0, 1), (0, 2), (1, 4), (3, 8)])
def test_no_scheduler_is_faster_or_slower_than_the_bounds(folder, gpus, cores):
    plan, generator = planned(), torch.Generator().manual_seed(gpus + cores)
    jobs = []
    for artefact, one in works_of(plan):
        seconds = exactly(100 * float(torch.rand((), generator=generator)))
        gpu = int(artefact.stage in TRAINING)
        jobs.append(Job(artefact, one, True, Time(seconds, ("x",)), None, None, None, 0, gpu))
    bounds, took = wall_time(plan, jobs, gpus, cores), simulated(plan, jobs, gpus, cores)
    assert bounds.low * 0.999 <= took
    if not gpus:
        assert took <= bounds.high * 1.001


def test_sums_count_what_is_not_known(folder):
    plan = planned()
    (first, one), (second, two), *_ = works_of(plan)
    known = Job(first, one, True, Time(Range(1, 2), ("x",)), None, exactly(5), None, 0, 1)
    unknown = Job(second, two, True, None, None, None, None, 0, 0)
    done = Job(second, two, False, Time(exactly(9), ("x",)), None, exactly(7), None, 0, 0)
    found = summed([known, unknown, done])
    assert (found.jobs, found.to_do, found.untimed, found.unsized) == (3, 2, 1, 1)
    assert (found.seconds, found.disk, found.more_disk) == (Range(1, 2), exactly(12), exactly(5))


# What is shown


def test_every_time_names_what_it_rests_on(config):
    text = shown(config, cores=2)
    assert text.startswith("results/tiny: ")
    stages = text.split("Stages")[1].split("Languages and tasks")[0]
    for stage in TRAINING:
        for line in re.findall(rf"^{stage} .*$", stages, re.M):
            assert re.search(r"\[\d\]\s*$", line) or "unknown" in line, line
    for number in set(re.findall(r"\[(\d)\]", stages)):
        assert re.search(rf"^  \[{number}\] .*AMD EPYC", text, re.M)
    on_gpu = shown(config, machine="h200")
    assert "a prototype" in on_gpu and "GPU time" in on_gpu and "on 1 GPU" in on_gpu


def test_too_little_disk_is_said(config, monkeypatch):
    monkeypatch.setattr(estimates, "_free", lambda _: 1000)
    assert "not enough, " in shown(config)


def test_a_choice_needs_what_its_evaluations_need_and_no_more(config):
    plan = Plan(read_config(config))
    chosen = wanted(plan, system=["deft-x"], task=[], language=["qta"], seed=["0"])
    assert [a.path for a in chosen] == ["evaluate/deft-x/sentiment/qta/seed0.safetensors"]
    found = needed(plan, chosen)
    assert {a["method"] for a in found if a.stage == "sparse"} == {"deft-x"}
    assert all(part in found for a in found for parts in plan.inputs(a).values() for part in parts)
    chosen = {"system": ["deft-x"], "task": [], "language": ["qta"], "seed": ["0"]}
    assert f"{len(found)} of {len(found)} jobs to do" in shown(config, chosen=chosen)
    with pytest.raises(ConfigError, match=r"--language qtx: not evaluated; known: qta, qtb"):
        wanted(plan, language=["qtx"])


def test_targets_prints_paths(config, capsys):
    assert main(["targets", str(config), "--language", "qtb", "--system", "lt-sft"]) == 0
    path = "results/tiny/evaluate/lt-sft/sentiment/qtb/seed0.safetensors\n"
    assert capsys.readouterr().out == path
    assert main(["targets", str(config), "--system", "none"]) == 1
    assert (
        "--system none: not evaluated; known: deft-x, lt-sft, zero-shot" in capsys.readouterr().err
    )


def test_snakemake_is_asked_if_something_is_there_and_if_it_cannot_tell_that_is_said(
    config, monkeypatch
):
    plan, asked = Plan(read_config(config)), []

    def cannot(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", "Building\nno file text.txt\n")

    monkeypatch.setattr(remaining.subprocess, "run", cannot)
    assert remaining.remaining(plan, config) == (set(plan.artefacts()), "") and not asked
    there = config.parent / plan.root / "config.json"
    there.parent.mkdir(parents=True)
    there.touch()
    found, caution = remaining.remaining(plan, config)
    assert set(plan.artefacts()) - found == {Artefact.of("config")} and len(asked) == 1
    assert "(no file text.txt): what is there counts as done" in caution
    assert caution in shown(config)


# The measurement


def test_a_measurement_times_each_kind_of_step_once_and_counts_from_then_on(config, monkeypatch):
    raw = copy.deepcopy(TINY)
    raw["methods"] |= {"lora": {"lora": {}}, "mad-x": {"adapter": {}}, "ada-sft": {"gate": {}}}
    raw["systems"] |= {name: {"task": name} for name in ("lora", "mad-x")}
    raw["systems"]["ada-sft"] = {"task": "ada-sft", "language": "lt-sft"}
    config.write_text(yaml.safe_dump(raw))
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    text = shown(config, measure=True)
    found = json.loads((config.parent / "results/tiny/benchmarks/speeds.json").read_text())
    kinds = {(one["stage"], one["subject"]) for one in found["speeds"]}
    both = {
        (s, k) for s in ("full", "sparse", "adapter", "lora") for k in ("language", "sentiment")
    }
    assert kinds == both | {("gate", "sentiment"), ("gated", "sentiment")}
    assert all(one["seconds"] > 0 for one in found["speeds"])
    assert "by deftx plan --measure" in text
    stages = text.split("Stages")[1].split("Languages and tasks")[0]
    assert "unknown" not in "".join(re.findall(rf"^(?:{'|'.join(TRAINING)}) .*$", stages, re.M))

    def again(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(measure, "_train", again)
    shown(config, measure=True)
    found["machine"] = "another"
    path = config.parent / "results/tiny/benchmarks/speeds.json"
    path.write_text(json.dumps(found))
    with pytest.raises(AssertionError, match="measured again"):
        shown(config, measure=True)
