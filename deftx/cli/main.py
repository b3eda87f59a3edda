"""`deftx <verb>`: paths and parameters in, one library call, one artefact out. No mathematics."""

import argparse
import gc
import importlib
import inspect
import json
import logging
import os
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from pydantic import ValidationError

from deftx.models.base import Base
from deftx.plan.device_memory import device_memory
from deftx.plan.record import Run
from deftx.run.cost import begin, cost, measured
from deftx.run.devices import claimed, is_worker, visible_devices
from deftx.run.fingerprint import fingerprint
from deftx.run.launcher import end_with_parent, launch
from deftx.run.warm import SERVE, serve
from deftx.stages.table import STAGES
from deftx.store.artefact import write_json
from deftx.store.errors import DeftxError, InputError, StaleCodeError

TOOLS = {
    "run": "run the workflow on a config; further options go to snakemake",
    "plan": "estimate the jobs, time and disk of a run before it runs",
    "targets": "print the files of some languages, tasks, systems or seeds, for snakemake",
    "show": "print the table of a run and the paths of its pages",
    "verify": "check every artefact of a folder against its manifest",
    "adopt": "take over results that were made elsewhere or by an earlier version",
    "check": "list the files that a config needs: present or missing, sizes, licences",
    "prune": "remove the files of a run that its config no longer asks for",
    "schema": "print the JSON Schema of the config",
}
PEOPLE = {
    "adapt": "make a model for a task in your language, from a text",
    "try": "a page to try such a model",
    "score": "score such a model with labels that a speaker has filled in",
    "publish": "the card of such a model, and the command that uploads it",
}
VECTOR_TOOLS = {
    "inspect": "describe a vector",
    "overlap": "compare the entries of two vectors",
    "apply": "add vectors to a base: a model that transformers loads",
    "predict": "label texts with vectors or with such a model",
    "export": "write vectors as another library's adapter",
}
LATE = (
    "accelerate",
    "deftx.run.progress",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "peft",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "threadpoolctl",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.xlm_roberta.modeling_xlm_roberta",
    "transformers.models.xlm_roberta.tokenization_xlm_roberta",
)
"""Modules that libraries import only when a job first needs them."""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return the exit status. A DeftxError is shown as one message without a
    traceback, unless DEFTX_DEBUG is set."""
    begin()
    arguments = sys.argv[1:] if arguments is None else arguments
    verb, *rest = arguments or ["--help"]
    if verb in ("-h", "--help"):
        print(_overview())
        return 0
    if verb == SERVE:
        serve(main, import_everything, rest)
    if verb not in {**STAGES, **TOOLS, **VECTOR_TOOLS, **PEOPLE}:
        print(f"deftx: no verb {verb!r}\n\n{_overview()}", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    home = "tools" if verb in TOOLS else "adapt" if verb in PEOPLE else "vectors"
    module = imported(f"deftx.stages.{verb}.run" if verb in STAGES else f"deftx.cli.{home}")
    # A function cannot be called `try`, nor have the name of what it calls.
    function = getattr(module, verb, None) if verb not in ("try", "publish") else None
    function = function or getattr(module, f"{verb}_")
    parser = argparse.ArgumentParser(
        prog=f"deftx {verb}",
        description=inspect.getdoc(function),
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    try:
        if verb in STAGES:
            return _run_stage(function, module.Params, parser, rest)
        function(parser, rest)
        return 0
    except (DeftxError, PermissionError) as error:
        if os.environ.get("DEFTX_DEBUG"):
            raise
        print(f"deftx {verb}: {error}", file=sys.stderr)
        return 1


def imported(name: str) -> ModuleType:
    """A module, imported without the garbage collector, which from then on ignores all that is
    there. What imports make stays, and there is much of it: looking for garbage in it took a second
    of a training's start, and another one at the end of its process."""
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.enable()
        gc.freeze()


def import_everything() -> None:
    """Import what any stage imports, for the server of jobs. A module that an installed version of
    a library does not have is left to the job."""
    for name in (*(f"deftx.stages.{stage}.run" for stage in STAGES), *LATE):
        with suppress(ModuleNotFoundError):
            imported(name)


def _overview() -> str:
    lines = ["usage: deftx VERB [options]", "", "`deftx VERB --help` lists the options of a verb."]
    stages = {name: stage.about for name, stage in STAGES.items()}
    groups = {"your language": PEOPLE, "stages": stages, "vectors": VECTOR_TOOLS, "tools": TOOLS}
    for title, verbs in groups.items():
        lines += ["", f"{title}:", *(f"  {name:13}{text}" for name, text in verbs.items())]
    return "\n".join(lines)


def _run_stage(
    function: Any, model: Any, parser: argparse.ArgumentParser, arguments: list[str]
) -> int:
    """Run a stage on the GPUs that it needs and write what that cost; the exit status."""
    stage = function.__name__
    arguments_of = inspect.signature(function).parameters.values()
    files = [parameter for parameter in arguments_of if parameter.kind is parameter.KEYWORD_ONLY]
    _add_options(parser, files, model)
    options = vars(parser.parse_args(arguments))
    given = _given(options, model)
    params = _params(stage, given, model)
    paths = {file.name: options[file.name] for file in files}
    out: Path = options["out"]
    if is_worker():  # its launcher checks what is read, claims the GPUs and writes the record
        end_with_parent()
        function(params, **paths)
        return 0
    read: list[Path] = [*options["also_reads"]]
    for name, path in paths.items():
        read += [] if path is None or name == "out" else path if isinstance(path, list) else [path]
    if run := Run.around(out):
        run.check(read)
    gpus = STAGES[stage].gpus
    count = params.engine.devices if gpus == "several" else 1
    memory = None
    if gpus != "none" and count == 1 and visible_devices():
        base = paths.get("base")
        memory = device_memory(stage, given, Base.load(base) if base else None)
    asked = time.monotonic()
    # Importing PyTorch looks for no device, so it sees the GPUs that are claimed after it.
    claim = claimed(count, f"deftx {stage} {out}", memory) if gpus != "none" else nullcontext()
    with claim as share:
        measured("waited_seconds", time.monotonic() - asked)
        if share is not None:
            from deftx.models.device import limit_memory

            limit_memory(share)
        if count == 1:
            function(params, **paths)
        elif status := launch(count, ["-m", "deftx", stage, *arguments]):
            return status
    if options["record"] is not None:
        record = cost(stage, out, launched=count > 1)
        if run:
            record |= run.facts(out, given, read)
        write_json(options["record"], record)
    return 0


def _add_options(
    parser: argparse.ArgumentParser, files: list[inspect.Parameter], model: Any
) -> None:
    """An option for each file that a stage's function takes, and for each parameter."""
    for file in files:
        required = file.default is file.empty
        # One that is not required may have no value, which is what the workflow passes for an input
        # that this job does not have.
        several, one = ("+", None) if required else ("*", "?")
        parser.add_argument(
            _option(file.name),
            nargs=several if "list[" in str(file.annotation) else one,
            required=required,
            type=Path,
            metavar="PATH",
        )
    parser.add_argument("--params", metavar="JSON", help="parameters as JSON, or a JSON file")
    parser.add_argument(
        "--also-reads",
        metavar="PATH",
        type=Path,
        nargs="*",
        default=[],
        help="other files of the run that the job reads: they are checked, too",
    )
    parser.add_argument(
        "--record",
        metavar="PATH",
        type=Path,
        help="write the resources that the job used, and what it read and wrote, as JSON",
    )
    group = parser.add_argument_group("parameters (YAML values, which override --params)")
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"default: {field.default}"
        text = f"{field.description}; {default}" if field.description else default
        group.add_argument(_option(name), metavar="VALUE", help=text.replace("%", "%%"))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _given(options: dict[str, Any], model: Any) -> dict[str, Any]:
    """The parameters of a job: those of --params, and the options that override them."""
    text = options["params"] or "{}"
    if not text.lstrip().startswith("{"):
        text = Path(text).read_text(encoding="utf-8")
    try:
        given: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise InputError(f"--params: not JSON: {error}") from None
    for name in model.model_fields:
        if (value := options[name]) is not None:
            given[name] = yaml.safe_load(value)
    return given


def _params(stage: str, given: dict[str, Any], model: Any) -> Any:
    """The validated parameters of a stage; sets the CPU threads, which they may hold too."""
    given = dict(given)
    recorded, threads = given.pop("code", None), given.pop("threads", None)
    if recorded is not None and recorded != (found := fingerprint(stage)):
        raise StaleCodeError(
            f"the workflow recorded the code of `{stage}` as {recorded}, but this is {found}: it "
            "was edited after the workflow started; start the workflow again"
        )
    if threads is not None:
        import torch

        torch.set_num_threads(int(threads))
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InputError(str(error)) from None
