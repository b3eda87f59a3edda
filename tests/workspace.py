"""A copy of the project in which tests run the workflow, edit it, and break it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from conftest import PROJECT

from deftx.run.warm import code_on_disk, start

COPIED = ("Snakefile", "config.yaml", "environment.yml", "deftx", "workflow", "profiles")
PAGES = dict.fromkeys(("tables", "claims", "figures", "costs", "cards", "summary"), 1)
LATE = {"config": 1, **PAGES}
"""What another value in the config makes in any case."""
TIMED = ("logs", "benchmarks", "costs", "summary")


class Workspace:
    """The project's files in a folder of their own, and a config that is edited as a dict.

    Each run starts its own server for its jobs, or with `one_server` all share one, until the code
    is edited; then `close` is to be called at the end.
    """

    def __init__(self, folder: Path, one_server: bool = False) -> None:
        self.folder = folder
        self._one_server = one_server
        self._server: subprocess.Popen | None = None
        self._socket = self._served = ""
        for name in COPIED:
            source = PROJECT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / name)
        self.config = yaml.safe_load((PROJECT / "tests/config/tiny.yaml").read_text())
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

    def snakemake(self, *arguments, **environment) -> subprocess.CompletedProcess:
        """Run Snakemake here; standard output and error together."""
        options = [] if "--configfile" in arguments else ["--configfile", "tiny.yaml"]
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, *options]
        runs_jobs = not {"-n", "--lint", "--report"} & {*arguments}
        if self._one_server and runs_jobs and "DEFTX_WARM" not in environment:
            environment = {**environment, "DEFTX_WARM": self._socket_of_this_code()}
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _socket_of_this_code(self) -> str:
        if self._served != (code := code_on_disk(self.folder / "deftx")):
            self.close()
            self._server, self._socket = start(self.environment)
            self._served = code
        return self._socket

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait()

    def run(self, *arguments, **environment) -> dict[str, int]:
        """Run to the end, without error; rule → number of jobs that ran."""
        done = self.snakemake(*arguments, **environment)
        assert done.returncode == 0, done.stdout[-6000:]
        return jobs(done.stdout)

    def planned(self) -> dict[str, int]:
        """Rule → number of jobs that a dry run says would run."""
        done = self.snakemake("-n")
        assert done.returncode == 0, done.stdout[-6000:]
        return jobs(done.stdout)

    def fails(self, *arguments, **environment) -> str:
        """Run with an error; what was printed."""
        done = self.snakemake(*arguments, **environment)
        assert done.returncode != 0, done.stdout[-6000:]
        return done.stdout

    def artefacts(self) -> dict[str, bytes]:
        """Path → bytes of every artefact: logs, and what tells of times, are none."""
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


def jobs(output: str) -> dict[str, int]:
    """The table of jobs that Snakemake prints, without `all` and the total."""
    table = re.search(r"Job stats:\n.*?\n-+.*?\n(.*?)\n\n", output, re.S)
    if table is None:
        return {}
    rows = (line.split() for line in table[1].splitlines())
    return {rule: int(count) for rule, count in rows if rule not in ("all", "total")}
