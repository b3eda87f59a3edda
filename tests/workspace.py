"""A copy of the project in which tests run the workflow, edit it, and break it."""

import copy
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import yaml
from conftest import PROJECT
from filelock import FileLock

from deftx.plan.config import check_config
from deftx.plan.plan import Plan
from deftx.run.warm import code_on_disk, start
from deftx.stages import table

COPIED = ("Snakefile", "config.yaml", "environment.yml", "deftx", "workflow", "profiles")
PAGES = dict.fromkeys(table.PAGES, 1)
LATE = {"config": 1, **PAGES}
"""Jobs that any change of the config runs."""
TIMED = ("logs", "benchmarks", "costs", "summary")
"""Folders whose files contain times."""


class Workspace:
    """The project's files in a folder of their own, and a config that is edited as a dict.

    `finished` is the folder of a workspace whose config and results are copied too. Each run starts
    its own warm server for its jobs; with `one_server` all runs share one until the code is edited,
    and `close` must be called at the end.
    """

    def __init__(
        self, folder: Path, one_server: bool = False, finished: Path | None = None
    ) -> None:
        self.folder = folder
        self._one_server = one_server
        self._server: subprocess.Popen | None = None
        self._socket = self._served = ""
        origin = finished or PROJECT
        for name in (*COPIED, *(("results", ".snakemake") if finished else ())):
            if (origin / name).is_dir():
                # Without the times of the files, which must not matter.
                shutil.copytree(origin / name, folder / name, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(origin / name, folder / name)
        config = origin / ("tiny.yaml" if finished else "tests/config/tiny.yaml")
        self.config = yaml.safe_load(config.read_text())
        self.environment = {
            **{k: v for k, v in os.environ.items() if k != "DEFTX_WARM"},
            "PYTHONPATH": str(folder),
            "HF_HUB_OFFLINE": "1",
        }
        self.write_config()

    @property
    def results(self) -> Path:
        return self.folder / "results" / self.config["run"]

    def write_config(self, text: str | None = None) -> None:
        text = yaml.safe_dump(self.config, sort_keys=False) if text is None else text
        (self.folder / "tiny.yaml").write_text(text)

    @contextmanager
    def edited(self):
        """The config, to be edited; written inside of the block and restored after it."""
        before = yaml.safe_dump(self.config, sort_keys=False)
        try:
            yield self.config
        finally:
            self.config = yaml.safe_load(before)
            self.write_config()

    def snakemake(self, *arguments, **environment) -> subprocess.CompletedProcess:
        """Run Snakemake here; standard output and error together."""
        options = [] if "--configfile" in arguments else ["--configfile", "tiny.yaml"]
        command = ["-m", "snakemake", "--cores", "2", *arguments, *options]
        runs_jobs = not {"-n", "--lint", "--report"} & {*arguments}
        if self._one_server and runs_jobs and "DEFTX_WARM" not in environment:
            environment = {**environment, "DEFTX_WARM": self._socket_of_this_code()}
        return self._python(*command, stderr=subprocess.STDOUT, **environment)

    def deftx(self, *arguments) -> subprocess.CompletedProcess:
        """Run `deftx` here."""
        return self._python("-m", "deftx", *arguments, stderr=subprocess.PIPE)

    def _python(self, *arguments, stderr, **environment) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            check=False,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def _socket_of_this_code(self) -> str:
        if self._served != (code := code_on_disk(self.folder / "deftx")):
            self.close()
            self._server, self._socket = start(self.environment)
            self._served = code
        return self._socket

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait()

    def run(self, *arguments, **environment) -> dict[str, int]:
        """Run without an error; rule → number of jobs that ran."""
        done = self.snakemake(*arguments, **environment)
        assert done.returncode == 0, done.stdout[-6000:]
        return jobs(done.stdout)

    def planned(self, *arguments) -> dict[str, int]:
        """Rule → number of jobs that a dry run would run."""
        return self.run("-n", *arguments)

    def fails(self, *arguments, **environment) -> str:
        """Run with an error; the output."""
        done = self.snakemake(*arguments, **environment)
        assert done.returncode != 0, done.stdout[-6000:]
        return done.stdout

    def log(self, artefact: str) -> str:
        """The log of the job that makes an artefact."""
        return (self.results / f"logs/{artefact}.log").read_text()

    def artefacts(self) -> dict[str, bytes]:
        """Path → bytes of every artefact; logs and files that contain times are none."""
        return {
            str(path.relative_to(self.results)): path.read_bytes()
            for path in sorted(self.results.rglob("*"))
            if path.is_file() and path.relative_to(self.results).parts[0] not in TIMED
        }

    def replace(self, file: str, old: str, new: str) -> None:
        """Edit a file of the copy."""
        path = self.folder / file
        text = path.read_text()
        assert old in text, (file, old)
        path.write_text(text.replace(old, new, 1))

    def append(self, file: str, code: str) -> None:
        """Add code to the end of a file of the copy."""
        path = self.folder / file
        path.write_text(path.read_text() + code)


def finished_run(folder: Path) -> None:
    """Make a workspace with a finished run of tiny.yaml and one more system in the folder, unless
    another process has made it. Tests copy it and do not change it."""
    with FileLock(f"{folder}.lock"):
        if not (folder / "finished").exists():
            folder.mkdir()
            made = Workspace(folder)
            made.config["systems"]["task-arithmetic"] = {"task": "full", "language": "full"}
            made.write_config()
            made.run()
            (folder / "finished").touch()


def jobs(output: str) -> dict[str, int]:
    """The table of jobs that Snakemake prints, without `all` and the total."""
    table = re.search(r"Job stats:\n.*?\n-+.*?\n(.*?)\n\n", output, re.S)
    if table is None:
        return {}
    rows = (line.split() for line in table[1].splitlines())
    return {rule: int(count) for rule, count in rows if rule not in ("all", "total")}


def plan_of(config: dict) -> Plan:
    """The plan of a config that is given as a dict."""
    return Plan(check_config(copy.deepcopy(config)))


def stale(before: Plan, after: Plan) -> Counter:
    """Stage → number of the artefacts of the second plan that are new or have other parameters or
    inputs than in the first one, or follow from such artefacts."""

    def facts(plan):
        return {a: (plan.params(a), plan.inputs(a)) for a in plan.artefacts}

    old, new, found = facts(before), facts(after), set()
    for artefact, (_, inputs) in new.items():  # in an order in which inputs come first
        if old.get(artefact) != new[artefact] or found & {p for ps in inputs.values() for p in ps}:
            found.add(artefact)
    return Counter(artefact.stage for artefact in found)
