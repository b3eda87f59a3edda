"""Memory and time until a task's training has taken its first step, by how its data are tokenised.

    python -m benchmarks.tokens                          # as many pairs as MultiNLI has
    python -m benchmarks.tokens --model FOLDER           # with the tokenizer and model of a folder

Each way is a process of its own, from the file of items to the first step:

    dictionaries   the plain way: the split as Python's lists, then a dictionary of tensors per item
    in memory      tokenised in the job into flat arrays, as the library does with lists
    mapped         the file of the stage `tokens`, which is made once, as a row of its own
    no data        32 pairs: what the process takes anyway

Seconds are of the clock and of all processors; memory is the peak of the resident set.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from benchmarks import measure
from deftx.engine.fit import fit
from deftx.engine.objective import Objective
from deftx.engine.session import Session
from deftx.engine.settings import TaskTraining
from deftx.engine.task import Classification, classification
from deftx.models.base import Base
from deftx.models.load import load_classifier, load_tokenizer
from deftx.models.make import base_of_folder
from deftx.models.tokens import load_tokens
from deftx.stages.base.run import Params as BaseParams
from deftx.stages.base.run import base as make_base
from deftx.stages.base.settings import Pretrain
from deftx.stages.tokens.run import Params, tokens
from deftx.store.items import load_labelled, write_items

CLASSES = ["contradiction", "entailment", "neutral"]
SETTINGS = TaskTraining(batch_size=32, max_length=128, epochs=1)
PAIRS, FEW = 392_702, 32
"""Pairs of MultiNLI's training split, and of a split that takes no memory."""

PREMISE, HYPOTHESIS = 25, 13
"""Mean number of tokens; in words 20 and 10, as in MultiNLI."""

WAYS = ("no data", "dictionaries", "in memory", "tokens", "mapped")


class FirstStepDone(Exception):  # noqa: N818
    """Ends a training after its first step."""


def stop(done: int) -> None:
    """Called before each step with the number of those done."""
    if done:
        raise FirstStepDone


def encode_plainly(
    items: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, length: int
) -> list[dict[str, torch.Tensor]]:
    """The oracle: a dictionary of tensors for each item."""
    pairs = [item["text_pair"] for item in items] if "text_pair" in items[0] else None
    texts = [item["text"] for item in items]
    encoded = tokenizer(texts, pairs, truncation=True, max_length=length)
    columns = {name: encoded[name] for name in encoded if name != "attention_mask"}
    columns["labels"] = [item["label"] for item in items]
    return [
        {name: torch.tensor(values[i]) for name, values in columns.items()}
        for i in range(len(items))
    ]


def write_pairs(path: Path, tokenizer: PreTrainedTokenizerBase, count: int) -> None:
    """Pairs of random words that are one token each."""
    draw = np.random.default_rng(0)
    words = sorted(w[1:] for w in tokenizer.get_vocab() if w[0] == "\u2581" and w[1:].isalpha())
    texts = []
    for mean in (PREMISE, HYPOTHESIS):
        lengths = np.clip(draw.gamma(3, mean / 3, count).round(), 2, 200).astype(int)
        drawn = iter(draw.integers(len(words), size=lengths.sum()).tolist())
        texts.append([" ".join(words[next(drawn)] for _ in range(n)) for n in lengths])
    labels = draw.integers(len(CLASSES), size=count).tolist()
    rows = zip(*texts, labels, strict=True)
    write_items(
        path,
        [
            {"id": str(i), "text": one, "text_pair": other, "label": CLASSES[label]}
            for i, (one, other, label) in enumerate(rows)
        ],
    )


def objective_of(way: str, folder: Path, base: Base) -> Objective:
    """The task, its training data read or tokenised in one of the ways."""
    tokenizer, length = load_tokenizer(base), SETTINGS.max_length
    valid = load_tokens(folder / "few.parquet", base, length, CLASSES)
    if way == "mapped":
        train = load_tokens(folder / "tokens.safetensors", base, length, CLASSES)
        return classification(train, valid, tokenizer, SETTINGS)
    items = load_labelled(
        folder / ("few.parquet" if way == "no data" else "pairs.parquet"), CLASSES
    )
    if way == "dictionaries":
        return Classification(encode_plainly(items, tokenizer, length), valid, tokenizer, SETTINGS)
    return classification(items, valid, tokenizer, SETTINGS)


def run(way: str, folder: Path) -> dict[str, float]:
    """Seconds and peak MiB of this process: of the stage `tokens`, or up to the first step."""
    base, began, before = Base.load(folder / "base"), time.perf_counter(), time.process_time()
    if way == "tokens":
        out = folder / "tokens.safetensors"
        pairs = folder / "pairs.parquet"
        tokens(Params(length=SETTINGS.max_length), base=base.folder, data=pairs, out=out)
    else:
        objective = objective_of(way, folder, base)
        model, session = load_classifier(base, CLASSES, 0), Session(before_step=stop)
        with suppress(FirstStepDone):
            fit(model, objective, SETTINGS, session=session)
    return {
        "seconds": time.perf_counter() - began,
        "processors": time.process_time() - before,
        "peak": measure.resident_peak() / 2**20,
    }


def prepare(folder: Path, model: Path | None, count: int) -> None:
    """Write the base and the items."""
    if model is not None:
        base_of_folder(model, folder / "base", {"id": model.name, "revision": None})
    else:
        syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
        draw = np.random.default_rng(0)
        words = ["".join(draw.choice(syllables, n)) for n in draw.integers(1, 4, 5_000)]
        lines = [" ".join(draw.choice(words, 12)) for _ in range(5_000)]
        text = folder / "text.parquet"
        write_items(text, [{"id": str(i), "text": line} for i, line in enumerate(lines)])
        shape = {"layers": 2, "hidden": 128, "heads": 2, "intermediate": 256, "max_length": 128}
        training = {"steps": 1, "batch_size": 1, "warmup_steps": 1}
        pretrain = Pretrain(text="text", languages=["qaa"], vocabulary=8_000, **shape, **training)
        out = folder / "base" / "model.safetensors"
        make_base(BaseParams(id="tiny", pretrain=pretrain), text=[text], out=out)
    tokenizer = load_tokenizer(Base.load(folder / "base"))
    write_pairs(folder / "pairs.parquet", tokenizer, count)
    write_pairs(folder / "few.parquet", tokenizer, FEW)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--model", type=Path, help="a model folder; default: a tiny one, made here")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.way:
        print(json.dumps(run(given.way, given.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, given.model, given.pairs)
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.tokens", "--way", way, "--folder", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                "{way:14}{seconds:8.1f} s{processors:8.1f} s{peak:8.0f} MiB".format(
                    way=way, **found
                )
            )
        size = (folder / "tokens.safetensors").stat().st_size / 2**20
        print(f"{given.pairs:,} pairs; the file of tokens has {size:.0f} MiB")
    print(measure.machine())


if __name__ == "__main__":
    main()
