"""A copy of the project in which tests run the workflow, edit it, and break it."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from conftest import PROJECT

COPIED = ("Snakefile", "config.yaml", "environment.yml", "deftx", "workflow", "profiles")


class Workspace:
    """The project's files in a folder of their own, and a config that is edited as a dict."""

    def __init__(self, folder: Path, socket: str) -> None:
        self.folder = folder
        for name in COPIED:
            source = PROJECT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / name)
        shutil.copy(Path(__file__).with_name("fork_client.py"), folder / "deftx/__main__.py")
        self.config = yaml.safe_load((PROJECT / "tests/config/tiny.yaml").read_text())
        self.environment = {
            **os.environ,
            "DEFTX_FORK_SERVER": socket,
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
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

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
        """Path → bytes of everything that is an artefact (logs and benchmarks are none)."""
        return {
            str(path.relative_to(self.results)): path.read_bytes()
            for path in sorted(self.results.rglob("*"))
            if path.is_file()
            and path.relative_to(self.results).parts[0] not in ("logs", "benchmarks")
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


@contextlib.contextmanager
def fork_server(package_root: Path):
    """The path of a socket behind which a fork server listens."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "socket")
        server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py")), path],
            env={**os.environ, "PYTHONPATH": str(package_root), "HF_HUB_OFFLINE": "1"},
        )
        try:
            for _ in range(600):
                if Path(path).exists():
                    break
                assert server.poll() is None, "the fork server died"
                time.sleep(0.1)
            yield path
        finally:
            server.terminate()
            server.wait()
