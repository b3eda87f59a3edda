"""From a text to a model, step by step: look, divide the data, find out the cost, train, finish."""

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from deftx.adapt.alarms import Alarm, agreement_alarm, alarm_table, loss_alarm, share_alarm
from deftx.adapt.config import config_text, plan_of, run_of, values_of
from deftx.adapt.cost import chosen, cores, trial, vectors
from deftx.adapt.divide import divided
from deftx.adapt.look import Look, look
from deftx.adapt.make import LOG, run, write_rows
from deftx.adapt.project import NAME, SCORE, STRENGTH, VECTORS, Project
from deftx.adapt.request import Request, Source, classes_of_vector, content, read_source
from deftx.adapt.score import rich_table
from deftx.adapt.sheet import NAMES, Sheet, write_sheet
from deftx.adapt.strength import choose_strength, read_few, reading, write_choice
from deftx.engine.language import loss_of_base
from deftx.engine.settings import LanguageTraining, TaskTraining
from deftx.exchange.found import find_files
from deftx.models.base import Base
from deftx.models.folder import TOKENIZER_FILES, VOCABULARIES
from deftx.models.tokens import load_tokens
from deftx.plan.config import read_config
from deftx.plan.plan import Plan
from deftx.report.units import duration, size
from deftx.run.cost import peak_bytes
from deftx.store.artefact import atomic, file_sha256, read_json, write_json, write_text
from deftx.store.errors import ArtefactError, ConfigError, InputError
from deftx.store.locks import NO_FLOCK
from deftx.store.tensors import TensorFile

CONFIG = "config.yaml"

LOCK = ".lock"
"""Held by the process that works in a folder."""

MEMORY = 1.5
"""Memory of a training beside that of its trial, which validates nothing. Measured: 2.2 and 1.5 GB
with a base of 26.8 million parameters, a batch of 8 and 128 tokens."""

DISK, COPIES = 14, 5
"""Bytes of disk for each parameter of the base, and for each byte of text. Measured: 11 and 4, with
26.8 million parameters and 5 MB of text; the rest is room."""


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The folder as the working folder: results are written below it."""
    before = Path.cwd()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The folder, made if needed, for this process and the workflow that it starts, which holds it
    on if this process is killed. Raises ArtefactError if another process works in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtefactError(
                f"{folder}: another `deftx adapt` works in it, or the training goes on that a "
                f"killed one has started: let it finish; {folder / LOG} shows how far it is"
            ) from None
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
        os.set_inheritable(file.fileno(), True)
        yield


def check_same(request: Request) -> None:
    """Raise ArtefactError if the folder was made for something else, naming what differs."""
    folder = request.folder
    if not (folder / NAME).is_file():
        others = (
            [p.name for p in folder.iterdir() if p.name not in ("look", LOCK)]
            if folder.is_dir()
            else []
        )
        if others and not (folder / "data").is_dir():
            raise ArtefactError(
                f"{folder}: has other files in it ({others[0]}): choose another --out"
            )
        return
    known = read_json(folder / NAME).get("asked", {})
    for key, value in request.facts.items():
        if known.get(key) != value:
            raise ArtefactError(
                f"{folder}: was made with {key} {known.get(key)}, and now it is {value}. "
                f"Choose another --out; or edit {folder / CONFIG} and run `deftx run config.yaml` "
                "in that folder"
            )


def look_at(request: Request, console: Console) -> Look:
    """Look at the text, show what was found and write its page."""
    files = ["config.json", *TOKENIZER_FILES, *VOCABULARIES]
    found = look(
        request.text,
        request.language,
        name=request.name,
        base=find_files(request.base_name, files)[0] if request.base else None,
        column=request.text_column,
        out=request.folder / "look",
    )
    found.show(console)
    console.print(f"\nThe page: {request.folder / 'look' / 'index.html'}", soft_wrap=True)
    return found


def prepare(request: Request, console: Console) -> None:
    """Look, divide the data, find out how long a step takes here, and write the config. Everything
    that can be wrong with the request is found here, before anything trains."""
    task = request.task
    labelled = read_source(task.labelled, request.columns, request.seed) if task.labelled else None
    if labelled is not None:
        classes = labelled.classes
    else:
        classes = classes_of_vector(str(task.vector), request.base_name, request.classes)
    few = read_few(request.few, classes).items if request.few else []
    found = look_at(request, console)
    if found.doubt and not request.anyway:
        raise InputError(f"{request.text}: {found.doubt} To train on it as it is, add --anyway")
    sheet, kept, labelled = divided(request, found.kept, classes, labelled, few)
    if sheet is None:
        console.print(f"\nNo {NAMES['label']}.csv: too few lines. Name texts by --to-label.")
    else:  # first: it refuses where somebody has filled another sheet
        write_sheet(request.folder / f"{NAMES[sheet.kind]}.csv", sheet)
    data = request.folder / "data"
    write_text(data / f"text-{request.language}.txt", "".join(f"{line}\n" for line in kept))
    if labelled is not None:
        write_rows(data / f"{task.name}-train.jsonl", labelled.train)
        write_rows(data / f"{task.name}-valid.jsonl", labelled.valid)
    with inside(request.folder):
        steps, seconds, length, config = _fitted(request, classes, labelled, console)
        write_text(Path(CONFIG), config)
    facts = {
        "language": request.language,
        "name": request.name,
        "task": task.name,
        "classes": classes,
        "source": request.source,
        "base": f"results/{run_of(request)}/base",
        "max_length": length,
        "pairs": request.columns.text_pair is not None,
        "asked": request.facts,
        "steps": steps,
        "seconds": round(seconds),
        "lines": len(kept),
        "words": found.facts["words"],
        "labelled": len(labelled.train) + len(labelled.valid) if labelled else 0,
        "source_labels": Counter(item["label"] for item in labelled.train) if labelled else {},
    }
    write_json(request.folder / NAME, facts)


def _fitted(
    request: Request, classes: list[str], labelled: Source | None, console: Console
) -> tuple[dict[str, int], float, int, str]:
    """Steps of each phase that fit into the time, by a short trial of the very training; the
    seconds that all of it takes; how many tokens of an item are read; and the text of the
    config."""
    values, parameters = values_of(request, classes, labelled)
    plan = plan_of(values)
    console.print("\nA short trial, to see how long a step of training takes here …")
    seconds = trial(plan, labelled is not None)
    items = len(labelled.train) if labelled else 0
    settings = TaskTraining.model_validate(values["task_training"])
    at_once = 2 if cores() > 1 and items else 1
    language, task, whole = chosen(request.minutes, seconds, items, settings, at_once)
    steps = {"language": language, "task": task}
    for kind, count in steps.items():
        if count:
            every = max(1, count // 4)
            values[f"{kind}_training"] |= {"max_steps": count, "evaluate_every": every}
    memory = int(peak_bytes() * MEMORY * at_once)
    text = (Path("data") / f"text-{request.language}.txt").stat().st_size
    disk = DISK * parameters + COPIES * text
    console.print(
        f"Training will take about {duration(whole)} on this machine: {language:,} steps on the "
        f"text and {task:,} on the labelled items, in each of two phases; {size(memory)} of "
        f"memory, {size(disk)} of disk. More steps are better: the papers take 10,000 and more. "
        "--minutes chooses."
    )
    if (free := shutil.disk_usage(Path.cwd()).free) < disk:
        raise InputError(f"{Path.cwd()}: {size(free)} of disk are free, {size(disk)} are needed")
    return steps, whole, settings.max_length, config_text(values)


def train(request: Request, console: Console) -> Project:
    """Run the workflow and finish the folder; what is there already is kept."""
    with inside(request.folder):
        config = Path(CONFIG)
        plan = Plan(read_config(config))
        if not plan.models:
            raise ConfigError(f"{config}: no task has models_for: there is no model to make")
        run(plan, config, cores(), console)
        paths = vectors(plan)
    project = Project.open(request.folder)
    _take(paths, project, console)
    if request.few is not None and (
        project.facts.get("few") != content(request.few)
        or not (project.folder / STRENGTH).is_file()
    ):
        _choose(request.few, request.seed, project, console)
    project.write_model()
    return project


def _take(paths: dict[str, str], project: Project, console: Console) -> None:
    """Put the vectors into their folders. What was found out with other vectors is put aside."""
    new = {
        project.folder / VECTORS[kind]: TensorFile(project.folder / path)  # verified
        for kind, path in paths.items()
    }
    new = {
        target: file
        for target, file in new.items()
        if not target.is_file() or file_sha256(target) != file_sha256(file.path)
    }
    if new:
        _put_aside([STRENGTH, SCORE], project, console)
        project.record(strength=1.0)
    for target, file in new.items():
        _copy(file.path, target)


def _choose(few: Path, seed: int, project: Project, console: Console) -> None:
    """Choose the strength of the language vector, and print how it was chosen."""
    choice = choose_strength(few, project, project.predict, seed=seed, trained=project.texts)
    if choice.strength != project.strength:
        _put_aside([SCORE], project, console)
    project.record(strength=choice.strength, few=content(few))
    write_choice(project.folder / STRENGTH, choice)
    console.print("", *reading(choice), sep="\n", markup=False, highlight=False)


def _put_aside(names: Iterable[str], project: Project, console: Console) -> None:
    """Rename what was found out with an earlier model."""
    for name in names:
        if (old := project.folder / name).is_file():
            old.replace(project.folder / f"earlier-{name}")
            console.print(f"{name} is of the earlier model; it is now earlier-{name}")


def _copy(source: Path, target: Path) -> None:
    """A vector and its manifest under the names that a folder of ours has."""
    for suffix in ("", ".json"):
        with atomic(Path(f"{target}{suffix}")) as temporary:
            shutil.copyfile(f"{source}{suffix}", temporary)


def alarms(project: Project) -> list[Alarm]:
    """What can be seen without labels; none of it is a score."""
    found = [_loss(project)]
    record = project.folder / f"{NAMES['label']}.json"
    if record.is_file():
        items = Sheet.load(record).items
        with_it, without = (
            project.predict(items, with_language=each).argmax(1) for each in (True, False)
        )
        if labels := project.facts.get("source_labels"):
            found.append(share_alarm(with_it, labels, project.classes))
        if project.strength:
            found.append(agreement_alarm(with_it, without))
    return found


def _loss(project: Project) -> Alarm:
    """The loss on held-out lines, before training and after it."""
    vector = TensorFile(project.folder / VECTORS["language"]).provenance
    base = Base.load(project.folder / project.base)
    settings = LanguageTraining.model_validate(vector["params"]["language"])
    run = (project.folder / project.base).parent
    text = load_tokens(run / _tokens(project), base, None)
    return loss_alarm(loss_of_base(base, text, settings), vector["outcome"]["best"]["loss"])


def _tokens(project: Project) -> Path:
    return Path("tokens/whole/clean") / f"{project.language}.safetensors"


def show_alarms(project: Project, console: Console) -> None:
    """Print the alarms."""
    console.print(rich_table(alarm_table(alarms(project))))
