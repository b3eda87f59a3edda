"""Shared by benchmarks: differences with the shapes of a model, time and memory, and a table."""

import argparse
import resource
import time
from math import prod
from pathlib import Path

import torch

MASKABLE = 277_414_656  # of XLM-R base
BUDGETS = {"language": 7_667_712, "task": 14_155_776}  # of these
SHAPES = {  # vocabulary, positions, hidden, intermediate, layers
    "xlm-r-base": (250_002, 514, 768, 3072, 12),
    "mini": (5_000, 66, 64, 256, 2),
}


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shape", choices=list(SHAPES), default="xlm-r-base")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="the fastest counts")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} threads"
    print(f"{description} {args.shape}, {args.device} ({where}), PyTorch {torch.__version__}.\n")
    return args


def shapes(model):
    """Name → shape of each maskable tensor of a model of this size."""
    vocabulary, positions, hidden, intermediate, layers = SHAPES[model]
    found = {
        "embeddings.word_embeddings.weight": (vocabulary, hidden),
        "embeddings.position_embeddings.weight": (positions, hidden),
        "embeddings.token_type_embeddings.weight": (1, hidden),
    }
    inside = {
        "attention.self.query": (hidden, hidden),
        "attention.self.key": (hidden, hidden),
        "attention.self.value": (hidden, hidden),
        "attention.output.dense": (hidden, hidden),
        "intermediate.dense": (intermediate, hidden),
        "output.dense": (hidden, intermediate),
    }
    for layer in range(layers):
        for name, shape in inside.items():
            found[f"encoder.layer.{layer}.{name}.weight"] = shape
            found[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
    return found


def difference(model, device):
    """A random δ. In the word embeddings a tenth of the rows changes as much as the layers, four
    tenths hardly change, and half do not change."""
    delta = {}
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        for name, shape in shapes(model).items():
            delta[name] = 1e-3 * torch.randn(shape)
            if name == "embeddings.word_embeddings.weight":
                draw = torch.rand(shape[0], 1)
                delta[name] *= torch.where(draw < 0.1, 1.0, torch.where(draw < 0.5, 1e-4, 0.0))
    return delta


def budgets(delta):
    """Name → K, with the same share of the maskable entries as in XLM-R base."""
    entries = sum(prod(tensor.shape) for tensor in delta.values())
    return {name: round(entries * k / MASKABLE) for name, k in BUDGETS.items()}


def measured(function, device, repeats=1):
    """The result, the seconds of the fastest run, and the bytes that the first run added to the
    peak of memory."""
    before = _peak_from_now(device)
    seconds = []
    for run in range(repeats):
        result = None  # frees the former result first
        begin = time.perf_counter()
        result = function()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
        if run == 0:
            memory = _peak(device) - before
    return result, min(seconds), memory


def _peak_from_now(device):
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():  # resets the peak on Linux
        Path("/proc/self/clear_refs").write_text("5")
    return _peak(device)


def _peak(device):
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


COLUMNS = ("what", "ours, s", "plain, s", "plain / ours", "ours, + MB", "plain, + MB", "B/entry")


def begin_table():
    """Print the head of a Markdown table; `row` prints its rows."""
    _print_line(COLUMNS)
    _print_line(["--", *["--:"] * (len(COLUMNS) - 1)])


def row(what, ours, memory, plain=None, plain_memory=None, size=""):
    """Print one row, as soon as it is measured; times in seconds, memory in bytes."""
    compared = plain is not None
    _print_line([
        what,
        f"{ours:.3f}",
        f"{plain:.3f}" if compared else "",
        f"{plain / ours:.1f}" if compared else "",
        f"{memory / 1e6:.0f}",
        f"{plain_memory / 1e6:.0f}" if plain_memory is not None else "",
        size,
    ])  # fmt: skip


def _print_line(cells):
    first, *others = cells
    print("|", " | ".join([first.ljust(42), *(c.rjust(12) for c in others)]), "|", flush=True)
