"""What the benchmarks share: differences of the shape of a model, time, memory, a table."""

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
    """Name → shape of what may be chosen in a model of this shape."""
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
    """A random δ: of the word embeddings a tenth of the rows moved as much as the layers did, four
    tenths hardly, and half not at all."""
    generator = torch.Generator().manual_seed(0)
    delta = {}
    for name, shape in shapes(model).items():
        delta[name] = 1e-3 * torch.randn(shape, generator=generator)
        if name == "embeddings.word_embeddings.weight":
            draw = torch.rand(shape[0], 1, generator=generator)
            delta[name] *= torch.where(draw < 0.1, 1.0, torch.where(draw < 0.5, 1e-4, 0.0))
    return {name: tensor.to(device) for name, tensor in delta.items()}


def budgets(delta):
    """Name → K, the same part of the maskable entries as in XLM-R base."""
    entries = sum(prod(tensor.shape) for tensor in delta.values())
    return {name: round(entries * k / MASKABLE) for name, k in BUDGETS.items()}


def measured(function, device, repeats=1):
    """Result, seconds (the fastest run), and bytes of memory that the first run needed more."""
    before = _peak_from_now(device)
    seconds = []
    for run in range(repeats):
        result = None  # so that two are never alive
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
    elif Path("/proc/self/clear_refs").exists():  # Linux forgets the peak so far
        Path("/proc/self/clear_refs").write_text("5")
    return _peak(device)


def _peak(device):
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def show(rows):
    """Rows (dictionaries of the same keys) as a Markdown table."""
    lines = [list(rows[0]), ["--"] + ["--:"] * (len(rows[0]) - 1)]
    lines += [[str(cell) for cell in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.ljust(w) if not i else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        print("| " + " | ".join(cells) + " |")


def row(what, ours, memory, plain=None, plain_memory=None, size=""):
    """One line of the table; times in seconds, memory in bytes."""
    return {
        "what": what,
        "ours, s": f"{ours:.3f}",
        "plain, s": "" if plain is None else f"{plain:.3f}",
        "plain / ours": "" if plain is None else f"{plain / ours:.1f}",
        "ours, + MB": f"{memory / 1e6:.0f}",
        "plain, + MB": "" if plain_memory is None else f"{plain_memory / 1e6:.0f}",
        "B/entry": size,
    }
