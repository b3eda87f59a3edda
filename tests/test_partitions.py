"""The SLURM profile asks for no more time than the partitions allow, for groups of jobs too."""

import pytest
import yte
from conftest import PROJECT

from deftx.run.partitions import longest, minutes

PROFILE = PROJECT / "profiles/slurm/profile.yaml"


@pytest.fixture
def sinfo(tmp_path, monkeypatch):
    """Put a `sinfo` that lists these limits first in PATH."""

    def limits(*lines):
        program = tmp_path / "sinfo"
        program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin")

    return limits


@pytest.mark.parametrize(
    "text, expected", [("10:00", 10), ("8:00:00", 480), ("2-00:00:00", 2880), ("0:30", 0)]
)
def test_a_limit_of_slurm_is_read_in_minutes(text, expected):
    assert minutes(text) == expected


def test_the_shortest_partition_counts_and_a_day_is_the_most(sinfo, monkeypatch):
    sinfo("infinite", "8:00:00", "30:00")
    assert longest("cpu", "gpu") == 30
    sinfo("infinite", "n/a", "7-00:00:00")
    assert longest("cpu", "gpu") == 24 * 60
    monkeypatch.setenv("PATH", "/nowhere")
    assert longest("cpu", "gpu") == 24 * 60


@pytest.mark.parametrize("limit", [1, 10, 59, 480, 24 * 60])
def test_no_job_and_no_group_asks_for_more_than_its_partition_allows(sinfo, limit):
    """The plugin adds up the times of a group's jobs, and SLURM refuses what is above the limit."""
    sinfo(f"{limit // 60}:{limit % 60:02}:00")
    profile = yte.process_yaml(PROFILE.read_text())
    rules, groups = profile["set-resources"], profile["group-components"]

    def runtime(rule, attempt):
        return eval(rules[rule]["runtime"], {"attempt": attempt, "min": min})

    for attempt in range(1, profile["retries"] + 2):
        assert all(runtime(rule, attempt) <= limit for rule in rules if "runtime" in rules[rule])
        pair = runtime("compose", attempt) + runtime("evaluate", attempt)
        assert pair * groups["transfer-{language}-seed{seed}"] <= limit
        assert runtime("world", attempt) * groups["world"] <= limit
        default = eval(profile["default-resources"]["runtime"], {"attempt": attempt, "min": min})
        assert default <= limit
