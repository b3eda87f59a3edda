"""The verbs of people with a vector and a text: look at it, add it to a model, predict, pass it on.
Each reads its arguments, calls the library, and prints."""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers import PreTrainedTokenizerBase as Tokenizer

from deftx.core.sparse_delta import SparseDelta
from deftx.core.vector_files import OURS, VECTOR_FILES, vector_file
from deftx.data.read import read_items
from deftx.exchange.found import Found, find_vector, opened_base
from deftx.exchange.model_folder import (
    check_new,
    classes_of,
    new_folder,
    save_model_folder,
    with_vectors,
)
from deftx.models.base import Base
from deftx.models.device import available_device
from deftx.models.load import load_tokenizer
from deftx.models.predict import predict as predict_logits
from deftx.report.anatomy import PLACES, anatomy, common
from deftx.stages.data.settings import Columns, Layout
from deftx.store.artefact import verify, write_text
from deftx.store.errors import ArtefactError, InputError
from deftx.store.hub import fetch
from deftx.store.hub import push as push_folder
from deftx.store.items import Item

PASSED_ON = ("*.safetensors", "*.json", "README.md")
"""Files of a folder that are pushed and pulled: weights and text, never a pickle."""

VECTOR = "a file or folder of a vector, ours or of the public LT-SFT code, or a hub id[@revision]"
BASE = (
    "base: a folder that `deftx base` made, a model folder, or a hub id[@revision]; by default the "
    "one that the first vector was made for"
)


def inspect(arguments: list[str]) -> None:
    """Tell what a vector is: its entries by layer, by module or by tensor, its norms, its head, and
    where it is from."""
    parser = _parser("inspect", inspect)
    parser.add_argument("vector", help=VECTOR)
    parser.add_argument("--by", choices=PLACES, action="append", help="default: layer and module")
    parser.add_argument("--base", help=BASE + "; told, shares are of all entries that it has")
    options = parser.parse_args(arguments)
    found = find_vector(options.vector)
    vector, shapes = found.raw(), None
    if options.base:
        with opened_base(options.base) as base:
            vector.mask.check_fits({**vector.mask.shapes, **base.shapes}, found.name)
            shapes = base.maskable
    for name, value in _told(found, vector).items():
        print(f"{name:10} {value}")
    for by in options.by or ["layer", "module"]:
        _print(anatomy(vector, by, shapes))
    if vector.head:
        parts = (f"{name} {tuple(tensor.shape)}" for name, tensor in vector.head.items())
        print("stored whole:", ", ".join(parts))


def _told(found: Found, vector: SparseDelta) -> dict[str, Any]:
    known = found.provenance
    base = known.get("base", {})
    squares = sum(float(values.double() @ values.double()) for values in vector.values.values())
    facts = {
        "vector": found.name if found.revision is None else f"{found.name}@{found.revision}",
        "file": f"{found.file.name}, {'ours' if found.is_ours else 'of the public LT-SFT code'}",
        "made by": " ".join(str(known[k]) for k in ("stage", "method") if known.get(k)),
        "of": known.get("target"),
        "start": known.get("start"),
        "seed": known.get("seed"),
        "base": ", ".join(str(base[k]) for k in ("id", "revision", "hash") if base.get(k)),
        "classes": ", ".join(found.classes),
        "from": found.source and json.dumps(found.source, ensure_ascii=False),
        "sha256": found.told()["sha256"],
        "entries": f"{len(vector):,} in {len(vector.values)} tensors",
        "norm": f"{squares**0.5:.6g}",
    }
    return {name: value for name, value in facts.items() if value not in (None, "")}


def overlap(arguments: list[str]) -> None:
    """Tell how two vectors meet: the entries that both have, and whether they move them in the same
    direction."""
    parser = _parser("overlap", overlap)
    parser.add_argument("a", help=VECTOR)
    parser.add_argument("b", help=VECTOR)
    parser.add_argument("--by", choices=PLACES, help="a row for each, besides that for all")
    options = parser.parse_args(arguments)
    a, b = (find_vector(name).raw() for name in (options.a, options.b))
    a.mask.check_fits({**a.mask.shapes, **b.mask.shapes}, "the vectors are of different models")
    _print(common(a, b))
    if options.by:
        _print(common(a, b, options.by))


def apply(arguments: list[str]) -> None:
    """Add vectors to their base and write the model as a folder that transformers loads as it is: a
    classifier with the vector of a task, else a masked-language model."""
    parser = _parser("apply", apply)
    _add_vectors(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args(arguments)
    check_new(options.out)
    with _added(options) as (found, base, vectors, classes):
        facts = {"vectors": [each.told() for each in found], "max_length": _max_length(found)}
        save_model_folder(with_vectors(base, vectors, classes), base, options.out, facts)
    print(f"{options.out}: {', '.join(classes) or 'a masked-language model'}")


def export(arguments: list[str]) -> None:
    """Write the sum of vectors in the format of another library. `shira`: an adapter of PEFT, which
    holds the entries in linear layers and the head; all else is lost, and it says how much. (A
    whole model for transformers: `deftx apply`.)"""
    from deftx.exchange.shira import save_shira  # here, since PEFT takes seconds to import

    parser = _parser("export", export)
    _add_vectors(parser)
    parser.add_argument("--to", choices=["shira"], required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args(arguments)
    check_new(options.out)
    with _added(options) as (_, base, vectors, classes):
        total = sum(vectors[1:], vectors[0])
        carried = save_shira(base, total, classes, options.out)
    lost = carried.total - carried.entries
    print(
        f"{options.out}: {carried.entries:,} of {carried.total:,} entries, r = {carried.r}; "
        f"{lost:,} ({100 * lost / carried.total:.1f} %) are lost, in {len(carried.lost)} tensors "
        "(README.md there)"
    )


def predict(arguments: list[str]) -> None:
    """Predict labels of texts, with their probabilities, as CSV: `label`, and a column
    `p_…` for each class."""
    parser = _parser("predict", predict)
    _add_vectors(parser, "or a model folder that `deftx apply` wrote")
    parser.add_argument("--text", action="append", help="a text; may be given several times")
    parser.add_argument("--pair", action="append", help="the second text of each, for pairs")
    parser.add_argument(
        "--file", type=Path, help="txt (a text a line), csv, tsv, jsonl or parquet, also .gz, .xz"
    )
    parser.add_argument("--column", default="text", help="of the text in a table; default: text")
    parser.add_argument("--pair-column", help="of the second text in a table of pairs")
    parser.add_argument("--id-column", help="default: items are numbered from 0, blank ones too")
    parser.add_argument("--max-length", type=int, help="tokens; default: as the task was trained")
    parser.add_argument("--out", type=Path, help=".csv or .jsonl; default: printed as CSV")
    options = parser.parse_args(arguments)
    items = _items(options)
    with _predictor(options) as (model, tokenizer, length):
        classes = classes_of(model)
        torch.nn.Module.to(model, available_device())
        logits = predict_logits(model, items, tokenizer, options.max_length or length or 128)
    rows = [
        {
            "id": item["id"],
            "text": item["text"],
            **({"text_pair": item["text_pair"]} if "text_pair" in item else {}),
            "label": classes[int(probabilities.argmax())],
            **{f"p_{c}": round(float(p), 6) for c, p in zip(classes, probabilities, strict=True)},
        }
        for item, probabilities in zip(items, logits.softmax(1), strict=True)
    ]
    _write_rows(rows, options.out)


def _items(options: argparse.Namespace) -> list[Item]:
    """What is to be predicted; without labels."""
    if (options.text is None) == (options.file is None):
        raise InputError("give texts by --text, or a file by --file")
    if options.file is not None:
        columns = Columns(text=options.column, text_pair=options.pair_column, id=options.id_column)
        return read_items(options.file, Layout(columns=columns))
    if options.pair is not None and len(options.pair) != len(options.text):
        raise InputError(f"{len(options.pair)} --pair for {len(options.text)} --text")
    pairs = options.pair and [{"text_pair": pair} for pair in options.pair]
    return [
        {"id": str(number), "text": text, **(pairs[number] if pairs else {})}
        for number, text in enumerate(options.text)
    ]


@contextmanager
def _predictor(
    options: argparse.Namespace,
) -> Iterator[tuple[PreTrainedModel, Tokenizer, int | None]]:
    """A classifier with its tokenizer, and how many tokens of an item it was trained on."""
    first = Path(options.vectors[0])
    if (first / "config.json").is_file() and vector_file(first) is None:
        if len(options.vectors) > 1 or options.base or options.classes:
            raise InputError(f"{first}: a whole model, which goes with no vector, base or classes")
        config = AutoConfig.from_pretrained(first, local_files_only=True)
        if "ForSequenceClassification" not in str(config.architectures):
            raise ArtefactError(f"{first}: a {config.architectures}, expected a classifier")
        if not (first / "model.safetensors").is_file():
            raise ArtefactError(f"{first}: no model.safetensors in it")
        model = AutoModelForSequenceClassification.from_pretrained(
            first, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
        made_from = getattr(model.config, "deftx", None) or {}
        tokenizer = AutoTokenizer.from_pretrained(first, local_files_only=True)
        yield model, tokenizer, made_from.get("max_length")
        return
    with _added(options) as (found, base, vectors, classes):
        if not classes:
            raise InputError("no vector of a task among those given: there is nothing to predict")
        yield with_vectors(base, vectors, classes), load_tokenizer(base), _max_length(found)


def push(arguments: list[str]) -> None:
    """Put a folder with a card (README.md), a vector, a model or an adapter, on the hub: into a
    repository that is made if there is none, and then private unless --public."""
    parser = _parser("push", push)
    parser.add_argument("folder", type=Path)
    parser.add_argument("id", help="owner/name")
    parser.add_argument("--public", action="store_true", help="make it, or let it be, public")
    parser.add_argument("--message", default="Upload by deftx", help="of the commit")
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    if options.id.count("/") != 1:
        raise InputError(f"{options.id}: expected owner/name")
    if not (folder / "README.md").is_file():
        raise ArtefactError(f"{folder}: no README.md: a card tells others what it is")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ArtefactError(f"{folder}: no safetensors file in it")
    if (folder / OURS).is_file():
        verify(folder / OURS)
    where = push_folder(
        folder, options.id, public=options.public, files=PASSED_ON, message=options.message
    )
    print(where)


def pull(arguments: list[str]) -> None:
    """Fetch a vector, a model or an adapter from the hub into a folder, and tell its commit."""
    parser = _parser("pull", pull)
    parser.add_argument("id", help="owner/name[@revision]; by default the newest")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args(arguments)
    id, _, revision = options.id.partition("@")
    with new_folder(options.out) as temporary:
        cached = fetch(id, revision or None, (*PASSED_ON, *VECTOR_FILES))
        for file in sorted(path for path in cached.iterdir() if path.is_file()):
            (temporary / file.name).write_bytes(file.read_bytes())
        if not any(temporary.iterdir()):
            raise ArtefactError(f"{options.id}: no file of a vector, a model or an adapter in it")
        if (temporary / f"{OURS}.json").is_file():
            verify(temporary / OURS)
    print(f"{options.out}: {id}, revision {cached.name}")


# Parts


def _parser(verb: str, function: Any) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"deftx {verb}", description=function.__doc__)


def _add_vectors(parser: argparse.ArgumentParser, otherwise: str = "") -> None:
    text = f"{VECTOR}; of a task and of a language, or one alone"
    parser.add_argument(
        "vectors", nargs="+", metavar="VECTOR", help=f"{text}; {otherwise}".rstrip("; ")
    )
    parser.add_argument("--base", help=BASE)
    parser.add_argument(
        "--classes",
        type=lambda text: text.split(","),
        default=[],
        metavar="A,B,…",
        help="of a task whose file does not tell them, in the order of its head",
    )


@contextmanager
def _added(
    options: argparse.Namespace,
) -> Iterator[tuple[list[Found], Base, list[SparseDelta], list[str]]]:
    """The vectors that were named, their base, and the classes of the task."""
    found = [find_vector(name) for name in options.vectors]
    told = [(each, each.classes) for each in found if each.classes]
    classes: list[str] = options.classes or next((theirs for _, theirs in told), [])
    for each, theirs in told:
        if theirs != classes:
            raise ArtefactError(f"{each.name}: its classes are {theirs}, expected {classes}")
    with opened_base(options.base, found) as base:
        yield found, base, [each.fitting(base, classes) for each in found], classes


def _max_length(found: Sequence[Found]) -> int | None:
    return next((each.max_length for each in found if each.max_length), None)


def _print(frame: pd.DataFrame) -> None:
    table = Table(box=None)
    for name in frame.columns:
        words = name in PLACES
        table.add_column(
            name.replace("_", " "), justify="left" if words else "right", overflow="fold"
        )
    for row in frame.itertuples(index=False):
        table.add_row(*(_cell(name, value) for name, value in zip(frame.columns, row, strict=True)))
    console = Console()
    if not console.is_terminal:
        console.width = 200  # in a file or a pipe nothing is to be folded
    console.print(table)


def _cell(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "–"
    if name in ("share", "overlap", "same_sign"):
        return f"{100 * value:.2f} %"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"


def _write_rows(rows: Sequence[dict[str, Any]], out: Path | None) -> None:
    if out is None:
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    elif out.suffix == ".jsonl":
        write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    elif out.suffix == ".csv":
        write_text(out, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    else:
        raise InputError(f"{out}: expected a name that ends in .csv or .jsonl")
