"""The verbs for people who have a text and want a model. Each parses arguments and prints a result,
and last the next command."""

import os
import signal
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from deftx.adapt.divide import sheet_of_given
from deftx.adapt.flow import (
    CONFIG,
    alone,
    check_same,
    look_at,
    prepare,
    show_alarms,
    train,
)
from deftx.adapt.identify import language_name
from deftx.adapt.page import serve
from deftx.adapt.project import MODEL, NAME, SCORE, Project
from deftx.adapt.publish import ask_licence, publish
from deftx.adapt.request import AskedTask, Request, asked_task, check_language, pinned
from deftx.adapt.score import score as scored
from deftx.adapt.score import shown, write_score
from deftx.adapt.sheet import NAMES, write_sheet
from deftx.stages.data.settings import Columns
from deftx.store.errors import DeftxError, InputError


def adapt(parser: ArgumentParser, arguments: list[str]) -> None:
    """Make a model for a task in your language: from a text in that language, and labelled data in
    another one, or a task vector that exists. It looks at the text, estimates what training will
    cost, trains, and writes a folder with the model. The same command goes on where it was
    stopped."""
    add = parser.add_argument
    add("text", type=Path, help="your text: txt (a sentence or paragraph a line), csv, tsv, jsonl")
    add("--language", required=True, help="the code of its language in ISO 639-3, such as mad")
    add("--name", help="the language's name, for people")
    add(
        "--task",
        metavar="NAME=FILE",
        help="labelled items in another language, as in sentiment=labelled.csv; or the folder or "
        "hub id of a task vector, as in sentiment=owner/name",
    )
    add(
        "--base", help="a model folder, or a hub id[@revision], such as FacebookAI/xlm-roberta-base"
    )
    add("--out", type=Path, required=True, help="the folder to make, or to go on with")
    add("--look", action="store_true", help="only look at the text; nothing is trained")
    add("--minutes", type=float, default=20, help="time for all of it (default: 20)")
    add("--source", default="und", help="the code of the labelled data's language")
    add("--text-column", default="text", help="column of the labelled texts (default: text)")
    add("--pair-column", help="column of the second text, if the items are pairs")
    add("--label-column", default="label", help="column of the labels (default: label)")
    add("--column", help="of a table: the column that holds your text")
    add("--classes", default="", metavar="A,B,…", help="of a task vector that records none")
    add("--to-label", type=Path, metavar="FILE", help="texts of the task in your language, some of "
        "which are to be labelled; default: lines of your text")  # fmt: skip
    add("--labelled", type=Path, metavar="FILE", help="50 to 500 labelled texts in your language: "
        "they choose the strength of its vector, so `deftx score` takes others")  # fmt: skip
    add("--translate", action="store_true", help="labelled texts to be translated, instead")
    add("--anyway", action="store_true", help="train even if the text looks like another language")
    add("--seed", type=int, default=0, help="of everything random (default: 0)")
    options = parser.parse_args(arguments)
    console = Console()
    task = AskedTask("task", None, None) if options.task is None else asked_task(options.task)
    if not options.look and (options.task is None or options.base is None):
        raise InputError("give --task and --base; or --look, which needs neither")
    language = check_language(options.language)
    request = Request(
        text=options.text.absolute(),
        folder=options.out.absolute(),
        language=language,
        name=options.name or language_name(language),
        task=task,
        base={} if options.base is None else pinned(options.base, "model"),
        source=check_language(options.source),
        columns=Columns(
            text=options.text_column, text_pair=options.pair_column, label=options.label_column
        ),
        classes=options.classes.split(",") if options.classes else [],
        minutes=options.minutes,
        to_label=options.to_label,
        few=options.labelled,
        text_column=options.column,
        translate=options.translate,
        anyway=options.anyway,
        seed=options.seed,
    )
    if request.source == request.language:
        raise InputError(f"--source {request.source}: is the language itself; then train on it")
    if options.look:
        look_at(request, console)
        print("Next: the same command without --look, with --task and --base")
        return
    check_same(request)
    with _as_ctrl_c(signal.SIGTERM, signal.SIGHUP), alone(request.folder):
        project = _made(request, console)
    show_alarms(project, console)
    _finished(project, request.folder)


@contextmanager
def _as_ctrl_c(*numbers: signal.Signals) -> Iterator[None]:
    """Let these signals, of a shutdown or a closed terminal, do what Ctrl-C does."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _made(request: Request, console: Console) -> Project:
    if (request.folder / NAME).is_file():
        console.print(f"{request.folder}: going on with what is there")
        if request.to_label is not None:
            sheet = sheet_of_given(request, Project.open(request.folder))
            write_sheet(request.folder / f"{NAMES[sheet.kind]}.csv", sheet)
    else:
        prepare(request, console)
    try:
        return train(request, console)
    except KeyboardInterrupt:
        raise StoppedError("stopped; the same command goes on from here") from None


class StoppedError(DeftxError):
    """A person stopped it."""


def _finished(project: Project, folder: Path) -> None:
    here = Path(os.path.relpath(folder))
    print(f"\nThe model is in {here / MODEL}. Nobody has scored it yet: nothing above is a score.")
    print(f"To add a language or a task, edit {here / CONFIG} and run `deftx run {CONFIG}` there.")
    print(f"\nNext, to try it:    deftx try {here}")
    for sheet in (here / f"{name}.csv" for name in NAMES.values()):
        if sheet.is_file():
            print(
                f"Next, to score it:  fill {sheet} ({sheet.with_suffix('.txt')} explains it), then:"
            )
            print(f"                    deftx score {sheet}")


def try_(parser: ArgumentParser, arguments: list[str]) -> None:
    """Open a page on this computer where one types sentences and sees how a model of `deftx adapt`
    labels them, with and without the language vector. Nothing is sent anywhere."""
    parser.add_argument("folder", type=Path, help="the folder that `deftx adapt` made")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    options = parser.parse_args(arguments)
    serve(Project.open(options.folder), options.port, browser=not options.no_browser)


def score(parser: ArgumentParser, arguments: list[str]) -> None:
    """Score a model of `deftx adapt` with labels that a speaker has filled in: accuracy and
    macro-F1 with intervals, with and without the language vector. Where the labels are too few to
    decide something, that is printed."""
    parser.add_argument("sheet", type=Path, help="the filled sheet, such as madurese/to-label.csv")
    parser.add_argument("--project", type=Path, help="the folder; default: that of the sheet")
    options = parser.parse_args(arguments)
    project = Project.open(options.project or options.sheet.absolute().parent)
    found = scored(options.sheet, project, project.texts)
    Console().print(shown(found))
    write_score(project.folder / SCORE, found)
    print(f"\nNext, to publish it: deftx publish {os.path.relpath(project.folder)}")


def publish_(parser: ArgumentParser, arguments: list[str]) -> None:
    """Write the card of a model of `deftx adapt` and print the command that uploads it. Nothing is
    uploaded here."""
    parser.add_argument("folder", type=Path, help="the folder that `deftx adapt` made")
    parser.add_argument("--licence", help="of your text, such as cc-by-4.0, or unknown")
    options = parser.parse_args(arguments)
    project = Project.open(options.folder)
    licence = options.licence or ask_licence()
    command = publish(project, licence)
    print(f"The card: {project.folder / MODEL / 'README.md'}\nNext: {command}")
