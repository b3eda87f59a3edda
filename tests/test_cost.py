"""The cost of a job is written only after success, by the process that the workflow started."""

import json
import subprocess
import sys
import time

import pytest
import torch

from deftx.cli.main import main
from deftx.report.units import duration, size
from deftx.run.cost import begin, cost, measured

KEYS = {"stage", "seconds", "cpu_seconds", "peak_bytes", "peak_device_bytes", "stored_bytes"}


def mask_job(base_folder, folder):
    selection = "{score: random, budget: 9}"
    arguments = ["mask", "--target", "lang-qaa", "--method", "r", "--selection", selection]
    record, out = folder / "c.json", folder / "m.safetensors"
    paths = ["--base", base_folder, "--out", out, "--record", record]
    return [str(a) for a in (*arguments, *paths)]


def test_a_job_writes_what_it_cost(base_folder, tmp_path):
    assert main(mask_job(base_folder, tmp_path)) == 0
    found = json.loads((tmp_path / "c.json").read_text())
    assert found.keys() == {*KEYS, "waited_seconds"}
    assert found["stage"] == "mask" and found["peak_device_bytes"] == 0
    files = [tmp_path / "m.safetensors", tmp_path / "m.safetensors.json"]
    assert found["stored_bytes"] == sum(file.stat().st_size for file in files)


def test_no_cost_is_written_unless_asked_for_nor_by_a_failing_job_or_a_worker(
    base_folder, tmp_path, monkeypatch
):
    job = mask_job(base_folder, tmp_path)
    at = job.index("--record")
    assert main([*job[:at], *job[at + 2 :]]) == 0
    assert main(mask_job("nowhere", tmp_path)) == 1
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr("deftx.cli.main.end_with_parent", lambda: None)
    assert main(job) == 0
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["m.safetensors", "m.safetensors.json"]


def test_the_launcher_writes_the_cost_of_its_workers(base_folder, tmp_path, monkeypatch):
    """Their CPU time and memory, but not their GPU's, which it cannot measure."""
    child = "x = bytearray(300_000_000); sum(i for i in range(4_000_000))"

    def launched(workers, program):
        assert workers == 2 and program[:3] == ["-m", "deftx", "full"]
        return subprocess.run([sys.executable, "-c", child], check=False).returncode

    monkeypatch.setattr("deftx.cli.main.launch", launched)
    command = ["full", "--target", "lang-qaa", "--language", "{}", "--engine", "{devices: 2}"]
    command += ["--base", "b", "--train", "t", "--out", str(tmp_path / "model.safetensors")]
    assert main([*command, "--record", str(tmp_path / "c.json")]) == 0
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["cpu_seconds"] > 0.05
    assert found["peak_bytes"] > 300_000_000
    assert found["peak_device_bytes"] is None
    monkeypatch.setattr("deftx.cli.main.launch", lambda *_: 3)
    assert main([*command, "--record", str(tmp_path / "none.json")]) == 3
    assert not (tmp_path / "none.json").exists()


def test_what_a_stage_measured_is_written_and_forgotten_by_the_next_job(tmp_path):
    out = tmp_path / "e.safetensors"
    begin()
    measured("inference_seconds", 1.5)
    measured("items", 400)
    first = cost("evaluate", out)
    begin()
    second = cost("evaluate", out)
    assert (first["inference_seconds"], first["items"]) == (1.5, 400)
    assert second.keys() == KEYS


def test_waiting_for_a_gpu_is_no_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    begin()
    measured("waited_seconds", 5.0)
    monkeypatch.setattr(time, "monotonic", lambda: 107.5)
    assert cost("full", tmp_path / "model.safetensors")["seconds"] == 2.5


def test_a_job_counts_from_its_begin(tmp_path):
    """Seconds and CPU time of an earlier job in the same process are not its own."""
    sum(i for i in range(2_000_000))
    began = time.monotonic()
    begin()
    time.sleep(0.05)
    found = cost("mask", tmp_path / "x.safetensors")
    assert 0.05 <= found["seconds"] <= time.monotonic() - began
    assert found["cpu_seconds"] <= found["seconds"] + 0.05 and found["peak_bytes"] > 1e6


def test_the_peak_of_a_gpu_is_pytorchs(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 12345)
    assert cost("full", tmp_path / "model.safetensors")["peak_device_bytes"] == 12345


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"),
        (3599.7, "1 h 0 min"), (7199, "2 h 0 min"), (86_399, "1 d 0 h"), (200_000, "2 d 8 h"),
    ],
)  # fmt: skip
def test_durations_have_two_units_at_most(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (999.6, "1.0 kB"), (9_949, "9.9 kB"), (9_951, "10 kB"),
     (999_500, "1.0 MB"), (1.25e9, "1.2 GB"), (3e12, "3.0 TB")],
)  # fmt: skip
def test_sizes_are_decimal(count, text):
    assert size(count) == text
