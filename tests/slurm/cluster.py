"""A SLURM cluster on one machine for tests: its daemons, their configuration in one folder, and two
simulated nodes, the second with two simulated GPUs. It needs root and Debian's slurmctld, slurmd,
slurm-client and munge, but no systemd, cgroups or database.
"""

import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
SYSTEM_CONFIG = Path("/etc/slurm/slurm.conf")
"""The default of SLURM_CONF, which jobs of Snakemake's plugin do not pass on."""

CONFIG = """\
ClusterName=deftx
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
# For a container without systemd: no cgroups, and more CPUs than the machine has.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
# Snakemake asks squeue about jobs that have ended.
MinJobAge=3600
NodeName=DEFAULT CPUs=8 RealMemory=256000
NodeName=cpu NodeHostname={host} NodeAddr=127.0.0.1 Port={cpu_port}
NodeName=gpu NodeHostname={host} NodeAddr=127.0.0.1 Port={gpu_port} Gres=gpu:2
PartitionName=cpu Nodes=cpu Default=YES OverTimeLimit=0 MaxTime={limit}
PartitionName=gpu Nodes=gpu OverTimeLimit=0 MaxTime={limit}
"""
LIMIT = 80
"""Minutes that a job may last in each partition: room for four evaluations in one job."""
NODES = ("cpu", "gpu")


def missing() -> str | None:
    """The reason why a cluster cannot run here; None if it can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if os.geteuid() != 0:
        return "starting SLURM's daemons needs root"
    if absent:
        return f"not installed: {', '.join(absent)}"
    if SYSTEM_CONFIG.exists() and not SYSTEM_CONFIG.is_symlink():
        return f"{SYSTEM_CONFIG} exists: this machine belongs to a cluster"
    return None


class Cluster:
    """A context manager; with `environment` SLURM's commands use this cluster. Its nodes and
    partitions are `cpu` and `gpu`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}
        self._started: list[subprocess.Popen] = []

    def __enter__(self) -> "Cluster":
        self._write_files()
        try:
            self._start("munged", "--force", "--foreground", f"--key-file={self.folder}/munge.key",
                        f"--socket={self.folder}/munge", f"--seed-file={self.folder}/munge.seed",
                        f"--pid-file={self.folder}/munged.pid", "--syslog")  # fmt: skip
            self._wait("munge", lambda: (self.folder / "munge").exists())
            self._start("slurmctld", "-D", "-c", "-i")
            for node in NODES:
                self._start("slurmd", "-D", "-N", node)
            self._wait("idle nodes", lambda: self.command("sinfo -hN -t idle -o %N") == [*NODES])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self._started[1:]:
            self.command("scancel -u root")
            with suppress(RuntimeError):
                self._wait("empty queue", lambda: not self.command("squeue -h"))
        for process in reversed(self._started):
            process.send_signal(signal.SIGTERM)
        for process in self._started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if SYSTEM_CONFIG.is_symlink() and SYSTEM_CONFIG.readlink() == self.folder / "slurm.conf":
            SYSTEM_CONFIG.unlink()

    def command(self, line: str) -> list[str]:
        """The lines that one of SLURM's commands prints; none if it fails."""
        done = subprocess.run(
            line.split(),
            env={**os.environ, **self.environment},
            check=False,
            capture_output=True,
            text=True,
        )
        return done.stdout.split("\n")[:-1] if done.returncode == 0 else []

    def _write_files(self) -> None:
        (self.folder / "munge.key").write_bytes(secrets.token_bytes(64))
        (self.folder / "munge.key").chmod(0o400)
        ports = _free_ports(3)
        config = CONFIG.format(
            folder=self.folder,
            limit=LIMIT,
            host=socket.gethostname().partition(".")[0],
            **dict(zip(("port", "cpu_port", "gpu_port"), ports, strict=True)),
        )
        (self.folder / "slurm.conf").write_text(config)
        # A GPU must be a character device; here it is /dev/null.
        for index in range(2):
            os.mknod(self.folder / f"nvidia{index}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        gpus = f"NodeName=gpu Name=gpu File={self.folder}/nvidia[0-1]\n"
        (self.folder / "gres.conf").write_text(gpus)
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        SYSTEM_CONFIG.parent.mkdir(exist_ok=True)
        SYSTEM_CONFIG.unlink(missing_ok=True)
        SYSTEM_CONFIG.symlink_to(self.folder / "slurm.conf")

    def _start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}-{len(self._started)}.out").open("w") as out:
            self._started.append(
                subprocess.Popen(
                    command, env={**os.environ, **self.environment}, stdout=out, stderr=out
                )
            )

    def _wait(self, what: str, there: Callable[[], bool], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not there():
            if time.monotonic() > end:
                logs = [*self.folder.glob("*.log"), *self.folder.glob("*.out")]
                said = "\n".join(f"{path.name}: {path.read_text()[-1000:]}" for path in logs)
                raise RuntimeError(f"no {what} after {seconds} s\n{said}")
            time.sleep(0.1)


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
