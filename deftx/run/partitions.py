"""The time limits of SLURM's partitions, for the profile in profiles/slurm. Free of torch."""

import re
import subprocess

DAY = 24 * 60
LIMIT = re.compile(r"(?:(?:(?P<days>\d+)-)?(?P<hours>\d+):)?(?P<minutes>\d+):\d+")


def longest(*partitions: str, most: int = DAY) -> int:
    """Minutes that a job may last in each of these partitions, as `sinfo` lists them, and at most
    `most`. That is the answer, too, for partitions without a limit and where there is no SLURM."""
    command = ["sinfo", "--noheader", f"--partition={','.join(partitions)}", "--format=%l"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return most
    return min([most, *(minutes(text) for text in listed.stdout.split() if LIMIT.fullmatch(text))])


def minutes(limit: str) -> int:
    """Whole minutes of a limit as `sinfo` writes it: `10:00`, `8:00:00` or `2-00:00:00`."""
    found = LIMIT.fullmatch(limit)
    if found is None:
        raise ValueError(f"{limit!r} is no time limit of SLURM")
    days, hours, rest = (int(found[name] or 0) for name in ("days", "hours", "minutes"))
    return DAY * days + 60 * hours + rest
