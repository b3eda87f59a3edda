"""What a job read and wrote, in a file beside the run. It shows which files are not what their
place says: put in another's place, edited by hand, or made with other settings. Free of torch."""

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deftx.plan.artefact import Artefact
from deftx.plan.plan import Plan
from deftx.stages.table import STAGES, artefacts_at, files_of, path_of
from deftx.store.artefact import manifest_path, read_json, recorded_sha256, set_aside, verify
from deftx.store.errors import ArtefactError
from deftx.store.provenance import provenance_of

FOLDER = "benchmarks"
"""Where a run keeps the records of its jobs."""

SKEW = 60
"""Seconds by which the clocks of two machines may differ."""


class Run:
    """The folder of a run, results/{run}. Its files are named by their paths relative to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def around(cls, path: Path) -> "Run | None":
        """The run that a file is an artefact of, by the form of its path; None for another file."""
        for folder in reversed(path.parents):  # base/config.json is not the config.json of a run
            if artefacts_at(path.relative_to(folder).as_posix()):
                return cls(folder)
        return None

    def record_of(self, artefact: Artefact) -> Path:
        """The path of the record of the job that makes an artefact."""
        return self.folder / FOLDER / Path(path_of(artefact)).with_suffix(".json")

    def record(self, artefact: Artefact) -> dict[str, Any]:
        """The record of the job that made an artefact; empty if there is none, and while a job of
        Snakemake runs."""
        path = self.record_of(artefact)
        return read_json(path) if path.is_file() and path.stat().st_size else {}

    def facts(self, out: Path, params: dict[str, Any], read: Iterable[Path]) -> dict[str, Any]:
        """What the record of a finished job has beside its cost: its parameters, and the sha256 of
        each file that it read and wrote in this run. For a job that reads in the run's whole folder
        these are all large artefacts."""
        made = files_of(artefacts_at(out.relative_to(self.folder).as_posix())[0])
        return {
            "params": params,
            "inputs": {name: recorded_sha256(self.folder / name) for name in self._names(read)},
            "outputs": {
                name: recorded_sha256(self.folder / name)
                for name in made
                if (self.folder / name).is_file()
            },
        }

    def check(self, read: Iterable[Path]) -> None:
        """Raise ArtefactError if a file that a job is about to read is another artefact than its
        path says, or is not as its job wrote it, which sets it aside; or if it is of the future:
        Snakemake removes what a job made if that is older than what it read."""
        given = self._names(path for path in read if path != self.folder)
        for name in dict.fromkeys(file for each in given for file in self._with_beside(each)):
            if problem := self.problem(name):
                raise set_aside(self.folder / name, problem)
            for path in (self.folder / name, manifest_path(self.folder / name)):
                if path.is_file() and (ahead := path.stat().st_mtime - time.time()) > SKEW:
                    raise ArtefactError(
                        f"{path}: its time is {ahead:.0f} s ahead of this machine's clock: correct "
                        "the clock, or give the file the present time with `touch`"
                    )

    def problem(self, name: str) -> str:
        """What is wrong with an artefact or a file beside one; empty if nothing is, and for a file
        that does not exist, which its reader reports."""
        path, artefacts = self.folder / name, artefacts_at(name)
        if not path.is_file():
            return ""
        found = provenance_of(path)
        if all(others := [_differences(artefact, found) for artefact in artefacts]):
            return f"it is another artefact than its path says: {others[0]}"
        expected = self.record(artefacts[0]).get("outputs", {}).get(name)
        if expected is None or (sha256 := recorded_sha256(path)) == expected:
            return ""
        return f"its sha256 is {sha256}, but its job wrote {expected}: it was edited or replaced"

    def _with_beside(self, name: str) -> list[str]:
        """An artefact, and the files beside it; a file beside one is alone."""
        files = files_of(artefacts_at(name)[0])
        return [file for file in files if artefacts_at(file)] if files[0] == name else [name]

    def verify(self, name: str) -> None:
        """Raise ArtefactError, and set the file aside, if an artefact or a file beside one is not
        what its path, its manifest and its record say."""
        if STAGES[artefacts_at(name)[0].stage].manifest and name in map(
            path_of, artefacts_at(name)
        ):
            verify(self.folder / name)
        if problem := self.problem(name):
            raise set_aside(self.folder / name, problem)

    def _names(self, files: Iterable[Path]) -> Iterator[str]:
        """Names of those files that are artefacts of this run; for a folder, of all in it."""
        for file in files:
            if file.is_relative_to(self.folder):
                found = sorted(file.rglob("*")) if file.is_dir() else [file]
                for name in (each.relative_to(self.folder).as_posix() for each in found):
                    artefacts = artefacts_at(name)
                    if artefacts and (file != self.folder or STAGES[artefacts[0].stage].manifest):
                        yield name


def files_below(folder: Path) -> Iterator[tuple[Run, str]]:
    """Each artefact, and each file beside one, in a folder: its run, and its name there."""
    run: Run | None = None
    for path in sorted(folder.rglob("*")):
        if run is None or not path.is_relative_to(run.folder):
            run = Run.around(path)
        if run and artefacts_at(name := path.relative_to(run.folder).as_posix()):
            yield run, name


def unproven(plan: Plan, any_code: bool = False) -> dict[Artefact, str]:
    """Each artefact of a plan that the records of its run do not prove to be what the plan asks
    for, and why: its files are missing or changed, or it was made with other parameters, by other
    code (unless any code will do), from other inputs, or from inputs that are not proven."""
    run, reasons = Run(Path(plan.root)), dict[Artefact, str]()
    for artefact in plan.artefacts:
        inputs = [part for parts in plan.inputs(artefact).values() for part in parts]
        if made_from := next((part for part in inputs if part in reasons), None):
            reasons[artefact] = f"made from {path_of(made_from)}"
        elif reason := _unproven(run, artefact, plan.params(artefact), inputs, any_code):
            reasons[artefact] = reason
    return reasons


def _unproven(
    run: Run, artefact: Artefact, params: dict[str, Any], inputs: list[Artefact], any_code: bool
) -> str:
    try:
        record = run.record(artefact)
        if not record.keys() >= {"params", "inputs", "outputs"}:
            return "without a record of its job"
        for name in files_of(artefact):
            if not (run.folder / name).is_file():
                return f"{name} is missing"
            if artefacts_at(name):
                run.verify(name)
    except ArtefactError as error:
        return f"{error}"
    for name, value in params.items():
        if record["params"].get(name) != value and not (any_code and name == "code"):
            return f"made with other `{name}`"
    for name in map(path_of, inputs):
        if record["inputs"].get(name) != recorded_sha256(run.folder / name):
            return f"made from another {name}"
    return ""


def _differences(artefact: Artefact, found: Mapping[str, Any]) -> str:
    """What the provenance in a file has that does not belong to an artefact; empty for none."""
    expected = {**dict(artefact.wildcards), "stage": artefact.stage}
    if "target" in expected:
        expected |= {"target": artefact.target.label, "start": artefact.target.start}
    return ", ".join(
        f"its {key} is {found[key]}, expected {value}"
        for key, value in expected.items()
        if key in found and str(found[key]) != value
    )
