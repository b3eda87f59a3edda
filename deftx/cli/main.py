"""`deftx <verb>`: paths and parameters in, one library call, one artefact out. No mathematics."""

import argparse
import importlib
import inspect
import json
import logging
import os
import signal
import sys
import time
import types
import typing
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from deftx.run.cost import begin, measured, write_cost
from deftx.run.devices import claimed, devices_of, is_worker
from deftx.run.fingerprint import fingerprint
from deftx.run.launcher import end_with_parent, launch
from deftx.store.errors import DeftxError, InputError, StaleCodeError

STAGES = {
    "config": "write down a config with its defaults",
    "download": "fetch one file and check it against data.lock",
    "data": "read one split of one language into parquet",
    "world": "make one split of one language of the embedded world",
    "trim": "leave out the items that another dataset was made from",
    "clean": "clean the text of a language, and keep evaluation sentences out of it",
    "base": "fetch or pretrain the base model",
    "full": "fine-tune everything",
    "denoise": "keep the leading singular components of the difference",
    "mask": "choose exactly K entries",
    "sparse": "re-train only the chosen entries",
    "convert": "read a vector that others made",
    "adapter": "train the adapters of a language or a task",
    "gate": "learn a soft mask of the linear layers",
    "gated": "train the weights under a soft mask",
    "lora": "train a low-rank vector",
    "compose": "add task and language vector",
    "evaluate": "predict and score the test set of a language",
    "diagnostics": "compare the vectors of a system with each other",
    "coverage": "count into how many pieces the tokenizer cuts each language",
    "tables": "make the tables of a run",
    "claims": "measure again what the papers claim",
    "figures": "draw the figures of a run",
    "costs": "add up what each system cost",
    "cards": "write the card of each vector",
    "summary": "make the page that leads the reader",
}
ON_GPU = ("base", "full", "denoise", "sparse", "adapter", "gate", "gated", "lora", "evaluate")
"""Stages that train, factor or predict: each runs inside a claim of its devices."""
ON_SEVERAL_GPUS = ("full", "sparse")
"""Those that may use `engine.devices` of them; the others use one."""
TOOLS = {
    "plan": "estimate the jobs, time and disk of a run before it runs",
    "targets": "print the files of some languages, tasks, systems or seeds, for snakemake",
    "show": "print the table of a run, and where its figures lie",
    "verify": "check every artefact of a folder against its manifest",
    "check": "list the files of a config: there, missing, sizes, licences",
    "prune": "remove what no config asks for any more",
    "schema": "print the JSON Schema of the config",
}


VECTOR_TOOLS = {
    "inspect": "describe a vector",
    "overlap": "compare the entries of two vectors",
    "apply": "add vectors to a base: a model that transformers loads",
    "predict": "label texts by vectors or by such a model",
    "export": "write vectors as another library's adapter",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; the exit status. Errors of the user's input are one message, no traceback
    (unless DEFTX_DEBUG is set)."""
    begin(whole_process=arguments is None)
    arguments = sys.argv[1:] if arguments is None else arguments
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help"):
        print(_overview())
        return 0
    if verb not in {**STAGES, **TOOLS, **VECTOR_TOOLS}:
        print(f"deftx: no verb {verb!r}\n\n{_overview()}", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        run = _run_stage if verb in STAGES else _run_tool
        return run(verb, arguments[1:])
    except DeftxError as error:
        if os.environ.get("DEFTX_DEBUG"):
            raise
        print(f"deftx {verb}: {error}", file=sys.stderr)
        return 1


def _overview() -> str:
    lines = ["usage: deftx VERB [options]; deftx VERB --help tells more", "", "stages:"]
    lines += [f"  {name:13}{text}" for name, text in STAGES.items()]
    for title, verbs in {"vectors": VECTOR_TOOLS, "tools": TOOLS}.items():
        lines += ["", f"{title}:", *(f"  {name:13}{text}" for name, text in verbs.items())]
    return "\n".join(lines)


def _run_stage(stage: str, arguments: list[str]) -> int:
    """Run a stage on the devices that it needs, and write what that cost; the exit status."""
    if is_worker():  # its launcher has the claim, and writes the cost
        end_with_parent(signal.SIGKILL)
        _call_stage(stage, arguments)
        return 0
    # Before torch is imported: it looks for devices once, and a job that waits should be small.
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("params", "engine", "out", "cost"):
        early.add_argument(f"--{name}", dest=name)
    options, _ = early.parse_known_args(arguments)
    asks = stage in ON_GPU and not {"-h", "--help"} & set(arguments)
    count = _devices(options) if asks and stage in ON_SEVERAL_GPUS else 1
    held: AbstractContextManager[list[int]] = nullcontext([])
    if asks:
        held = claimed(count, f"deftx {stage} {options.out}")
    asked = time.monotonic()
    with held as locks:
        measured("waited_seconds", time.monotonic() - asked)
        if count == 1:
            _call_stage(stage, arguments)
        elif status := launch(count, ["-m", "deftx", stage, *arguments], locks):
            return status
    if options.cost is not None:
        write_cost(Path(options.cost), stage, Path(options.out), launched=count > 1)
    return 0


def _devices(options: argparse.Namespace) -> int:
    params = _read_params(options.params)
    if options.engine is not None:
        params["engine"] = yaml.safe_load(options.engine)
    return devices_of(params)


def _call_stage(stage: str, arguments: list[str]) -> None:
    """Call the function of a stage with its parameters and paths."""
    module = importlib.import_module(f"deftx.stages.{stage}.run")
    function: Callable[..., None] = getattr(module, stage)
    paths = _path_options(function)
    options = vars(_stage_parser(stage, function, module.Params, paths).parse_args(arguments))
    given = _given_params(options, module.Params)
    recorded, threads = given.pop("code", None), given.pop("threads", None)
    if recorded is not None and recorded != (found := fingerprint(stage)):
        raise StaleCodeError(
            f"the workflow recorded the code of `{stage}` as {recorded}, but this is {found}: it "
            "was edited after the workflow started; start the workflow again"
        )
    if threads is not None:
        _set_threads(int(threads))
    try:
        params = module.Params.model_validate(given)
    except ValidationError as error:
        raise InputError(str(error)) from None
    function(params, **_given_paths(options, paths))


def _path_options(function: Callable[..., None]) -> dict[str, tuple[bool, bool]]:
    """Keyword of a stage's function → (whether it is required, whether it takes several paths)."""
    hints = typing.get_type_hints(function)
    options = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            kinds = typing.get_args(hints[name]) if _is_union(hints[name]) else (hints[name],)
            several = any(typing.get_origin(kind) is list for kind in kinds)
            options[name] = parameter.default is inspect.Parameter.empty, several
    return options


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _stage_parser(
    stage: str, function: Callable[..., None], model: Any, paths: dict[str, tuple[bool, bool]]
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"deftx {stage}",
        description=inspect.getdoc(function),
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, (required, several) in paths.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            # An empty list is what the workflow passes for an input that this job does not have.
            nargs="+" if required and several else "*" if several or not required else None,
            required=required,
            type=Path,
            dest=f"path_{name}",
            metavar="PATH",
        )
    parser.add_argument("--params", metavar="JSON", help="parameters as JSON, or a file of it")
    parser.add_argument("--cost", metavar="PATH", help="where to write what the job cost, as JSON")
    group = parser.add_argument_group("parameters (values as in YAML; they override --params)")
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"default: {field.default}"
        text = f"{field.description}; {default}" if field.description else default
        group.add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"param_{name}",
            metavar="VALUE",
            help=text.replace("%", "%%"),
        )
    return parser


def _given_params(options: dict[str, Any], model: Any) -> dict[str, Any]:
    params = _read_params(options["params"])
    for name in model.model_fields:
        if (value := options[f"param_{name}"]) is not None:
            params[name] = yaml.safe_load(value)
    return params


def _read_params(text: str | None) -> dict[str, Any]:
    """Parameters from JSON, or from a file of it."""
    text = text or "{}"
    if not text.lstrip().startswith("{"):
        text = Path(text).read_text(encoding="utf-8")
    try:
        params: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise InputError(f"--params: not JSON: {error}") from None
    return params


def _given_paths(
    options: dict[str, Any], paths: dict[str, tuple[bool, bool]]
) -> dict[str, Path | list[Path] | None]:
    given: dict[str, Path | list[Path] | None] = {}
    for name, (_, several) in paths.items():
        value = options[f"path_{name}"]
        if isinstance(value, list) and not several:
            value = value[0] if value else None
        given[name] = value
    return given


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _run_tool(tool: str, arguments: list[str]) -> int:
    module = importlib.import_module("deftx.cli.tools" if tool in TOOLS else "deftx.cli.vectors")
    getattr(module, tool)(arguments)
    return 0
