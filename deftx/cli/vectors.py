"""The verbs for people who have a vector and a text. Each parses arguments and prints a result."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from deftx.data.read import read_items
from deftx.exchange.foreign import is_ours
from deftx.exchange.found import Found, find_vector, opened_base, opened_classifier, opened_vectors
from deftx.exchange.model_folder import check_new, classes_of, save_model_folder, with_vectors
from deftx.models.device import available_device
from deftx.models.predict import predict as predict_logits
from deftx.report.anatomy import PLACES, anatomy, common
from deftx.stages.data.settings import Columns
from deftx.store.artefact import write_text
from deftx.store.errors import InputError
from deftx.store.items import Item

VECTOR = "file or folder of a vector (ours or of the public LT-SFT code), or a hub id[@revision]"
BASE = (
    "base: a folder made by `deftx base`, a model folder, or a hub id[@revision]; default: the one "
    "that the first vector was made for"
)


def inspect(arguments: list[str]) -> None:
    """Describe a vector: its origin, its head, and the number and norm of its entries by layer,
    module or tensor."""
    parser = _parser("inspect", inspect)
    parser.add_argument("vector", help=VECTOR)
    parser.add_argument("--by", choices=PLACES, action="append", help="default: layer and module")
    parser.add_argument("--base", help=BASE + "; if given, shares are of all its entries")
    options = parser.parse_args(arguments)
    found = find_vector(options.vector)
    vector, shapes = found.comparable, None
    if options.base:
        with opened_base(options.base) as base:
            vector.mask.check_fits({**vector.mask.shapes, **base.shapes}, found.name)
            shapes = base.maskable
    for name, value in _described(found).items():
        if value not in (None, ""):
            print(f"{name:10} {value}")
    for by in options.by or ["layer", "module"]:
        _print(anatomy(vector, by, shapes))
    if vector.head:
        parts = (f"{name} {tuple(tensor.shape)}" for name, tensor in vector.head.items())
        print("stored whole:", ", ".join(parts))


def _described(found: Found) -> dict[str, Any]:
    known, facts, vector = found.provenance, found.facts, found.stored
    base = known.get("base", {})
    squares = sum(float(values.double() @ values.double()) for values in vector.values.values())
    return {
        "vector": found.name if found.revision is None else f"{found.name}@{found.revision}",
        "file": f"{found.file.name}, in {'our' if is_ours(found.file) else 'public LT-SFT'} format",
        "made by": " ".join(str(known[k]) for k in ("stage", "method") if known.get(k)),
        "target": known.get("target"),
        "start": known.get("start"),
        "seed": known.get("seed"),
        "base": ", ".join(str(base[k]) for k in ("id", "revision", "hash") if base.get(k)),
        "classes": ", ".join(found.classes),
        "source": facts.get("source") and json.dumps(facts["source"], ensure_ascii=False),
        "sha256": facts["sha256"],
        "entries": f"{len(vector):,} in {len(vector.values)} tensors",
        "norm": f"{squares**0.5:.6g}",
    }


def overlap(arguments: list[str]) -> None:
    """Compare two vectors: how many entries they share, and how often both move a shared entry in
    the same direction."""
    parser = _parser("overlap", overlap)
    parser.add_argument("a", help=VECTOR)
    parser.add_argument("b", help=VECTOR)
    parser.add_argument("--by", choices=PLACES, help="also print a row for each")
    options = parser.parse_args(arguments)
    a, b = (find_vector(name).comparable for name in (options.a, options.b))
    a.mask.check_fits({**a.mask.shapes, **b.mask.shapes}, "the vectors are of different models")
    _print(common(a, b))
    if options.by:
        _print(common(a, b, options.by))


def apply(arguments: list[str]) -> None:
    """Add vectors to their base and write the model as a folder that transformers loads: a
    classifier if one vector is of a task, a masked-language model otherwise."""
    options = _writer("apply", apply).parse_args(arguments)
    check_new(options.out)
    with opened_vectors(options.vectors, options.base, options.classes) as fitted:
        facts = [each.facts for each in fitted.found]
        model = with_vectors(fitted.base, fitted.vectors, fitted.classes)
        made_from = {"vectors": facts, "max_length": fitted.max_length}
        save_model_folder(model, fitted.base, options.out, made_from)
    print(f"{options.out}: {', '.join(fitted.classes) or 'a masked-language model'}")


def export(arguments: list[str]) -> None:
    """Write the sum of vectors in the format of another library. `shira` is an adapter of PEFT,
    which holds entries of linear layers and the head only; the output lists how many entries are
    lost. (For the whole vector: `deftx apply`.)"""
    from deftx.exchange.shira import save_shira  # here, since PEFT takes seconds to import

    parser = _writer("export", export)
    parser.add_argument("--to", choices=["shira"], required=True)
    options = parser.parse_args(arguments)
    check_new(options.out)
    with opened_vectors(options.vectors, options.base, options.classes) as fitted:
        total = sum(fitted.vectors[1:], fitted.vectors[0])
        carried = save_shira(fitted.base, total, fitted.classes, options.out)
    lost = carried.total - carried.entries
    print(
        f"{options.out}: {carried.entries:,} of {carried.total:,} entries, r = {carried.r}; "
        f"{lost:,} ({100 * lost / carried.total:.1f} %) are lost, in {len(carried.lost)} tensors "
        "(see its README.md)"
    )


def predict(arguments: list[str]) -> None:
    """Predict labels of texts, with their probabilities, as CSV: `label`, and a column `p_…` for
    each class."""
    parser = _parser("predict", predict)
    _add_vectors(parser, "; or a model folder that `deftx apply` wrote")
    parser.add_argument("--text", action="append", help="a text; may be given several times")
    parser.add_argument("--pair", action="append", help="the second text of each, for pairs")
    parser.add_argument(
        "--file", type=Path, help="txt (a text a line), csv, tsv, jsonl or parquet, also .gz, .xz"
    )
    parser.add_argument("--column", default="text", help="column of the text; default: text")
    parser.add_argument("--pair-column", help="column of the second text, for pairs")
    parser.add_argument("--id-column", help="default: items are numbered from 0, blank ones too")
    parser.add_argument("--max-length", type=int, help="tokens; default: as the task was trained")
    parser.add_argument("--out", type=Path, help=".csv or .jsonl; default: printed as CSV")
    options = parser.parse_args(arguments)
    items = _items(options)
    with opened_classifier(options.vectors, options.base, options.classes) as opened:
        model, tokenizer, length = opened
        classes = classes_of(model)
        model.to(available_device())  # type: ignore[arg-type]
        logits = predict_logits(model, items, tokenizer, options.max_length or length or 128)
    frame = pd.DataFrame(items).filter(["id", "text", "text_pair"])
    probabilities = logits.softmax(1)
    frame["label"] = [classes[i] for i in probabilities.argmax(1).tolist()]
    for number, name in enumerate(classes):
        frame[f"p_{name}"] = [round(p, 6) for p in probabilities[:, number].tolist()]
    _write(frame, options.out)


def _items(options: argparse.Namespace) -> list[Item]:
    """The texts to label."""
    if (options.text is None) == (options.file is None):
        raise InputError("give texts by --text, or a file by --file")
    if options.file is not None:
        columns = Columns(text=options.column, text_pair=options.pair_column, id=options.id_column)
        return read_items(options.file, columns, None)
    if options.pair is not None and len(options.pair) != len(options.text):
        raise InputError(f"{len(options.pair)} --pair for {len(options.text)} --text")
    items: list[Item] = [{"id": str(i), "text": text} for i, text in enumerate(options.text)]
    for item, pair in zip(items, options.pair or (), strict=False):
        item["text_pair"] = pair
    return items


def _parser(verb: str, function: Any) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"deftx {verb}", description=function.__doc__)


def _writer(verb: str, function: Any) -> argparse.ArgumentParser:
    parser = _parser(verb, function)
    _add_vectors(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    return parser


def _add_vectors(parser: argparse.ArgumentParser, otherwise: str = "") -> None:
    text = f"{VECTOR}; one of a task, one of a language, or both{otherwise}"
    parser.add_argument("vectors", nargs="+", metavar="VECTOR", help=text)
    parser.add_argument("--base", help=BASE)
    parser.add_argument(
        "--classes",
        type=lambda text: text.split(","),
        default=[],
        metavar="A,B,…",
        help="classes of a task in the order of its head, if its file does not record them",
    )


def _print(frame: pd.DataFrame) -> None:
    percent = dict.fromkeys(("share", "overlap", "same_sign"), "{:.2f} %".format)
    shown = frame.assign(**{name: 100 * frame[name] for name in percent if name in frame})
    by_kind = {"i": "{:,}".format, "f": "{:.4g}".format}
    formats = {n: by_kind[d.kind] for n, d in frame.dtypes.items() if d.kind in by_kind} | percent
    print(shown.to_string(index=False, na_rep="–", formatters=formats))  # type: ignore[arg-type]


def _write(frame: pd.DataFrame, out: Path | None) -> None:
    if out is None:
        frame.to_csv(sys.stdout, index=False, lineterminator="\n")
    elif out.suffix == ".jsonl":
        rows = frame.to_dict("records")
        write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    elif out.suffix == ".csv":
        write_text(out, frame.to_csv(index=False, lineterminator="\n"))
    else:
        raise InputError(f"{out}: expected a name that ends in .csv or .jsonl")
