"""Tools around the stages: plan a run, look at it, verify its artefacts, remove obsolete files."""

import json
import os
import subprocess
import sys
from argparse import REMAINDER, ArgumentParser, Namespace
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from deftx.data.lock import NAME as LOCK
from deftx.data.lock import read_lock
from deftx.estimate.choice import wanted
from deftx.plan.config import json_schema, read_config
from deftx.plan.plan import CHANGED, MISSING, TO_FETCH, Plan
from deftx.plan.record import files_below, unproven
from deftx.run.devices import claimed
from deftx.run.workflow import FOLDER, ours, snakemake
from deftx.stages.table import STAGES, has_own_folder, path_of
from deftx.store.errors import ArtefactError, ConfigError


def run(parser: ArgumentParser, arguments: list[str]) -> None:
    """Run the workflow on a config. What follows CONFIG goes to Snakemake: -n lists the jobs
    without running them, --cores 4 uses four cores (default: all). Results are written to results/
    in the working folder; the same command resumes an interrupted run."""
    _add_config(parser)
    parser.add_argument(
        "snakemake", nargs=REMAINDER, metavar="...", help="options and targets for Snakemake"
    )
    parser.epilog = f"The Snakefile, configs and profiles of this version are in {FOLDER}."
    options = parser.parse_args(arguments)
    sys.stdout.flush()
    command = snakemake(options.config, *options.snakemake)
    os.execv(command[0], command)  # signals of a shell or a cluster reach Snakemake itself


def plan(parser: ArgumentParser, arguments: list[str]) -> None:
    """Print how many jobs of a config remain to be done and what they will take: training steps,
    time and disk, for each stage and each language, with the source of each number, and the hours
    on each device whose speed was measured. Run it where results/ is or will be. Nothing is
    trained, except for a short measurement with --measure."""
    _add_choice(parser)
    parser.add_argument(
        "--measure",
        action="store_true",
        help="first time a few training steps on this machine, for text and for each task",
    )
    options = parser.parse_args(arguments)
    with claimed(1, "deftx plan --measure") if options.measure else nullcontext():
        from deftx.estimate.estimate import estimate  # imports torch, which must see the claim

        estimate(options.config, _chosen(options), measure=options.measure)


def targets(parser: ArgumentParser, arguments: list[str]) -> None:
    """Print the paths of the evaluations of the chosen languages, tasks, systems and seeds, as
    targets for Snakemake: deftx run config.yaml $(deftx targets config.yaml --language grn)."""
    _add_choice(parser)
    options = parser.parse_args(arguments)
    found = Plan(read_config(options.config))
    for artefact in wanted(found, **_chosen(options)):
        print(found.path(artefact))


CHOICE = ("language", "task", "system", "seed")
"""The properties by which evaluations are chosen."""


def _add_config(parser: ArgumentParser) -> None:
    parser.add_argument(
        "config",
        type=ours,
        metavar="CONFIG",
        help="a config, or one of the workflow such as workflow/configs/demo.yaml",
    )


def _add_choice(parser: ArgumentParser) -> None:
    _add_config(parser)
    for name in CHOICE:
        parser.add_argument(f"--{name}", nargs="+", default=[], help="only these; default: all")


def _chosen(options: Namespace) -> dict[str, list[str]]:
    return {name: getattr(options, name) for name in CHOICE}


def show(parser: ArgumentParser, arguments: list[str]) -> None:
    """Print the transfer table of a run and the paths of its figures and report."""
    parser.add_argument("run", type=Path, help="folder of the run, such as results/demo")
    folder: Path = parser.parse_args(arguments).run
    table = folder / "tables" / "transfer.md"
    if not table.is_file():
        raise ArtefactError(f"{table}: no such file; has the run finished?")
    print(table.read_text(encoding="utf-8"))
    for name in ("summary/index.html", "tables", "figures", "report.html"):
        if (folder / name).exists():
            print(folder / name)


def verify(parser: ArgumentParser, arguments: list[str]) -> None:
    """Compare every file of a run, or of the runs below a folder, with what its job wrote there. A
    file that differs is renamed to `*.corrupt`; the exit status is then 1."""
    parser.add_argument("folder", type=Path, help="such as results or results/demo")
    folder: Path = parser.parse_args(arguments).folder
    count, problems = 0, []
    for run, name in files_below(folder):
        count += 1
        try:
            run.verify(name)
        except ArtefactError as error:
            problems.append(str(error))
    if not count:
        raise ArtefactError(f"{folder}: no artefacts below it")
    if problems:
        raise ArtefactError("\n".join([f"{len(problems)} of {count} files:", *problems]))
    print(f"{count} files are as their jobs wrote them")


def adopt(parser: ArgumentParser, arguments: list[str]) -> None:
    """Take over the results in a run's folder that came from another machine, or without their
    times. An artefact counts as up to date if its record proves that it is what the config asks
    for: its files are unchanged, and its parameters, its code and its inputs are the same. The
    others are listed, and the next run of the workflow makes them."""
    _add_config(parser)
    parser.add_argument(
        "--any-code", action="store_true", help="also what another version of deftx has made"
    )
    options = parser.parse_args(arguments)
    plan = Plan(read_config(options.config))
    reasons = unproven(plan, options.any_code)
    for artefact, reason in reasons.items():
        print(f"{path_of(artefact)}: {reason}")
    proven = [artefact for artefact in plan.artefacts if artefact not in reasons]
    inner = {part for each in proven for parts in plan.inputs(each).values() for part in parts}
    if ends := [plan.path(artefact) for artefact in proven if artefact not in inner]:
        # Forced, so that Snakemake records the parameters of those too that look up to date to it.
        touched = ("--touch", "--forceall", "--quiet", "all", "--")
        subprocess.run(snakemake(options.config, *touched, *ends), check=True)
    print(f"{len(proven)} of {len(plan.artefacts)} artefacts are up to date")


def check(parser: ArgumentParser, arguments: list[str]) -> None:
    """List the files that a config needs, its base included: present, to be downloaded, or missing,
    with sizes and licences. Present files are compared with data.lock. Nothing is downloaded; the
    exit status is 1 if a file is missing or changed."""
    _add_config(parser)
    path: Path = parser.parse_args(arguments).config
    plan = Plan(read_config(path))
    found = list(plan.needed_files(read_lock(path.with_name(LOCK))))
    file_column = Column("file", overflow="fold")
    table = Table("dataset", "language", "split", "state", "MB", file_column, box=None)
    for file in found:
        size = "" if file.bytes is None else f"{file.bytes / 1e6:.1f}"
        table.add_row(file.dataset, file.language, file.split, file.state, size, str(file.path))
    Console(markup=False, emoji=False).print(table)
    for dataset, licence in {file.dataset: file.licence for file in found if file.licence}.items():
        print(f"licence of {dataset}: {licence}")
    for state in sorted({file.state for file in found}):
        of_state = [file for file in found if file.state == state]
        sizes = [file.bytes for file in of_state if file.bytes is not None]
        unknown = f", {len(of_state) - len(sizes)} of unknown size" * (len(sizes) < len(of_state))
        print(f"{state}: {len(of_state)} files, {sum(sizes) / 1e6:.1f} MB{unknown}")
    if any(file.state == TO_FETCH for file in found):
        print(f"deftx run {path} downloads: downloads what is missing")
    if bad := [file for file in found if file.state in (MISSING, CHANGED)]:
        raise ConfigError(f"{len(bad)} files are missing, or differ from {LOCK}")


def prune(parser: ArgumentParser, arguments: list[str]) -> None:
    """List the files of a run that its config no longer asks for, with their sizes; --yes removes
    them. Logs and benchmarks are kept."""
    _add_config(parser)
    parser.add_argument("--yes", action="store_true", help="remove them")
    options = parser.parse_args(arguments)
    plan = Plan(read_config(options.config))
    root = Path(plan.root)
    wanted = {Path(file) for artefact in plan.artefacts for file in plan.files_of(artefact)}
    # Some stages have a folder for each artefact: a card or a tokenizer in it belongs to it.
    whole = {Path(plan.path(a)).parent for a in plan.artefacts if has_own_folder(STAGES[a.stage])}
    idle = sorted(
        path
        for path in root.rglob("*")
        if path.is_file()
        and path not in wanted
        and not whole & set(path.parents)
        and path.relative_to(root).parts[0] not in ("logs", "benchmarks")
        and path.parent != root
    )
    for path in idle:
        print(f"{path.stat().st_size / 1e6:10.2f} MB  {path}")
    total = sum(path.stat().st_size for path in idle) / 1e6
    if not options.yes:
        print(f"{len(idle)} files, {total:.1f} MB; --yes removes them")
        return
    for path in idle:
        path.unlink()
    for folder in sorted((p for p in root.rglob("*") if p.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    print(f"removed {len(idle)} files, {total:.1f} MB")


def schema(parser: ArgumentParser, arguments: list[str]) -> None:
    """Print the JSON Schema of the config, for editors."""
    parser.parse_args(arguments)
    print(json.dumps(json_schema(), sort_keys=True, indent=2, ensure_ascii=False))
