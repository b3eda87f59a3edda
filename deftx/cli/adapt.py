"""The verbs for people who have a text and want a model. Each parses arguments and prints a result,
and last the next command."""

import os
import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from deftx.adapt.cost import Cost, chosen, parameters_of, trial, vectors
from deftx.adapt.make import run, write_rows
from deftx.adapt.project import MODEL, NAME, VECTORS, Project
from deftx.adapt.request import (
    AskedTask,
    asked_task,
    check_language,
    classes_of_vector,
    read_labelled,
)
from deftx.adapt.settings import config_text, rates
from deftx.plan.config import check_config, read_config
from deftx.plan.plan import Plan
from deftx.report.units import duration, size
from deftx.stages.data.settings import Columns
from deftx.store.artefact import read_json, write_json, write_text
from deftx.store.errors import ArtefactError, InputError
from deftx.store.yaml_files import parse_yaml

CONFIG = "config.yaml"


def adapt(parser: ArgumentParser, arguments: list[str]) -> None:
    """Make a model for a task in your language: from a text in that language, and labelled data in
    another one (or a task vector that exists). It looks at the text, says what training will cost,
    trains, and writes a folder with the model. The same command goes on where it was stopped."""
    parser.add_argument("text", type=Path, help="your text: txt (a sentence or paragraph a line), csv, …")
    parser.add_argument("--language", required=True, type=check_language, help="its ISO 639-3 code: mad")
    parser.add_argument("--name", help="the language's name, for people; default: the code")
    parser.add_argument(
        "--task",
        type=asked_task,
        metavar="NAME=FILE",
        help="labelled items in another language, as in sentiment=labelled.csv; or the folder or "
        "hub id of a task vector",
    )
    parser.add_argument("--base", help="a model folder, or a hub id[@revision], such as xlm-roberta-base")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    parser.add_argument("--look", action="store_true", help="only look at the text; nothing is trained")
    parser.add_argument("--minutes", type=float, default=30, help="time for training; default: 30")
    parser.add_argument("--source", default="und", help="ISO 639-3 code of the labelled data's language")
    parser.add_argument("--text-column", default="text", help="column of the labelled text")
    parser.add_argument("--pair-column", help="column of the second text, for pairs")
    parser.add_argument("--label-column", default="label", help="column of the label")
    parser.add_argument("--classes", type=lambda text: text.split(","), default=[], metavar="A,B,…",
                        help="classes of a task vector that does not record them")  # fmt: skip
    parser.add_argument("--to-label", type=Path, help="items of the task in your language, without "
                        "labels, of which some are to be labelled; default: lines of the text")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    console = Console()
    text, folder = options.text.absolute(), options.out.absolute()
    if options.look:
        _look(options, text, folder, console)
        return
    if options.task is None or options.base is None:
        raise InputError("give --task and --base; or --look, which needs neither")
    base = _base(options.base)
    asked = _asked(options, base)
    check_same(folder, asked)
    if not (folder / CONFIG).is_file():
        _prepare(options, text, folder, base, asked, console)
    _train(folder, asked, console)


def _asked(options: Namespace, base: dict[str, str]) -> dict[str, Any]:
    """What decides whether a folder was made for the same question."""
    return {
        "language": options.language,
        "task": options.task.name,
        "text": str(options.text.absolute()),
        "labelled": str(options.task.labelled.absolute() if options.task.labelled else options.task.vector),
        "base": base,
        "minutes": options.minutes,
        "seed": options.seed,
    }


def check_same(folder: Path, asked: dict[str, Any]) -> None:
    """Raise ArtefactError if a folder was made for something else, naming what differs."""
    if not (folder / NAME).is_file():
        if folder.is_dir() and any(path.name != "look" for path in folder.iterdir()):
            raise ArtefactError(f"{folder}: exists already and is not of `deftx adapt`; choose another --out")
        return
    known = read_json(folder / NAME).get("asked", {})
    for key, value in asked.items():
        if known.get(key) != value:
            raise ArtefactError(
                f"{folder}: was made with --{key} {known.get(key)}, now it is {value}. Choose another "
                f"--out; or change {folder / CONFIG} by hand and run `deftx run config.yaml` there"
            )


def _base(name: str) -> dict[str, str]:
    """The base as a config names it."""
    if Path(name).is_dir():
        return {"model": str(Path(name).absolute())}
    id, _, revision = name.partition("@")
    return {"model": id, "revision": commit_of(id, revision or None)}


def _prepare(
    options: Namespace,
    text: Path,
    folder: Path,
    base: dict[str, str],
    asked: dict[str, Any],
    console: Console,
) -> None:
    """Look at the text, divide the data, find out how long a step takes, and write the config."""
    task: AskedTask = options.task
    columns = Columns(text=options.text_column, text_pair=options.pair_column, label=options.label_column)
    labelled = read_labelled(task.labelled, columns, options.seed) if task.labelled else None
    classes = labelled.classes if labelled else classes_of_vector(str(task.vector), options.classes)
    _look(options, text, folder, console)
    lines, sheet = drawn(read_text(text), options.to_label, options.seed)
    write_rows(folder / f"data/text-{options.language}.jsonl", lines)
    write_sheet(folder / "to-label.csv", sheet, classes)
    for split, items in (("train", labelled.train), ("valid", labelled.valid)) if labelled else ():
        write_rows(folder / f"data/{task.name}-{split}.jsonl", items)
    console.print("\nA short trial, to see how long training takes here …")
    values = _values(options, base, classes, labelled is not None)
    os.chdir(folder)
    plan = Plan(check_config(parse_yaml(config_text(values))))
    seconds = trial(plan)
