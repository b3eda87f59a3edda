"""The verbs for people who have a vector and a text. Each parses arguments and prints a result."""

import json
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from deftx.data.read import read_items
from deftx.exchange.foreign import classes_of
from deftx.exchange.found import Fitted, find_classifier, find_fitted, find_vector
from deftx.exchange.lt_sft import PUBLIC_SHAPES
from deftx.exchange.model_folder import check_new, class_names, save_model_folder
from deftx.exchange.prior import Bias, add_bias, estimated_bias, stored_bias
from deftx.models.base import check_length
from deftx.models.device import available_device
from deftx.models.load import load_tokenizer
from deftx.models.parts import positions
from deftx.models.predict import predict as predict_logits
from deftx.report.anatomy import PLACES, anatomy, common
from deftx.stages.data.settings import Format
from deftx.store.artefact import write_text
from deftx.store.errors import InputError
from deftx.tasks.classification.prediction import layout
from deftx.tasks.heads import HEADS
from deftx.tasks.predictions import PREDICTIONS

VECTOR = "file or folder of a vector (ours or of the public LT-SFT code), or a hub id[@revision]"
FILE = "txt (a text a line), csv, tsv, jsonl or parquet, also .gz, .xz"
WORDS = "for a task of words also conll, conllu or iob2"
VECTORS = f"{VECTOR}; one of a task, one of a language, or both"


def inspect(parser: ArgumentParser, arguments: list[str]) -> None:
    """Describe a vector: its origin, its head, and the number and norm of its entries by layer,
    module or tensor."""
    parser.add_argument("vector", help=VECTOR)
    parser.add_argument("--by", choices=PLACES, action="append", help="default: layer and module")
    options = parser.parse_args(arguments)
    found = find_vector(options.vector)
    facts, vector, known = found.facts, found.comparable, found.vector.provenance
    base, kind = known.get("base", {}), "public LT-SFT" if PUBLIC_SHAPES in known else "our"
    squares = sum(float(values.double() @ values.double()) for values in vector.values.values())
    described = {
        "vector": found.name if found.revision is None else f"{found.name}@{found.revision}",
        "file": f"{found.file.name}, in {kind} format",
        "made by": " ".join(str(known[k]) for k in ("stage", "method") if known.get(k)),
        **{key: str(known.get(key, "")) for key in ("target", "start", "seed")},
        "base": ", ".join(str(base[k]) for k in ("id", "revision", "hash") if base.get(k)),
        "kind": known.get("params", {}).get("kind") or "",
        "classes": ", ".join(classes_of(found.vector)),
        "source": json.dumps(facts["source"], ensure_ascii=False) if "source" in facts else "",
        "sha256": facts["sha256"],
        "entries": f"{len(vector):,} in {len(vector.values)} tensors",
        "norm": f"{squares**0.5:.6g}",
    }
    for name, value in described.items():
        if value:
            print(f"{name:10} {value}")
    for by in options.by or ["layer", "module"]:
        _print(anatomy(vector, by))
    if vector.head:
        parts = (f"{name} {tuple(tensor.shape)}" for name, tensor in vector.head.items())
        print("stored whole:", ", ".join(parts))


def overlap(parser: ArgumentParser, arguments: list[str]) -> None:
    """Compare two vectors: how many entries they share, and how often both move a shared entry in
    the same direction."""
    parser.add_argument("a", help=VECTOR)
    parser.add_argument("b", help=VECTOR)
    parser.add_argument("--by", choices=PLACES, help="also print a row for each")
    options = parser.parse_args(arguments)
    a, b = (find_vector(name).comparable for name in (options.a, options.b))
    a.mask.check_fits({**a.mask.shapes, **b.mask.shapes}, "the vectors are of different models")
    for by in [None, options.by][: 1 + bool(options.by)]:
        _print(common(a, b, by))


def apply(parser: ArgumentParser, arguments: list[str]) -> None:
    """Add vectors to their base and write the model as a folder that transformers loads: a
    classifier if one vector is of a task, a masked-language model otherwise."""
    _add_prior(parser)
    options = _written(parser, arguments)
    with TemporaryDirectory() as scratch:
        fitted = _fitted(options, Path(scratch))
        model = fitted.model()
        facts = [found.facts for found in fitted.found]
        made_from: dict[str, Any] = {"vectors": facts, "max_length": fitted.max_length}
        if options.prior is not None:
            if not fitted.classes:
                raise InputError("--prior: no vector of a task among those given")
            length = fitted.max_length or min(128, positions(model) or 128)
            found = _prior(options, model, load_tokenizer(fitted.base), length)
            add_bias(model.cpu(), found.values)
            made_from["prior"] = found.facts
        save_model_folder(model, fitted.base, options.out, made_from)
    print(f"{options.out}: {', '.join(fitted.classes) or 'a masked-language model'}")


def export(parser: ArgumentParser, arguments: list[str]) -> None:
    """Write the sum of vectors in the format of another library. `shira` is an adapter of PEFT,
    which holds entries of linear layers and the head only; the output lists how many entries are
    lost. (For the whole vector: `deftx apply`.)"""
    from deftx.exchange.shira import save_shira  # here, since PEFT takes seconds to import

    parser.add_argument("--to", choices=["shira"], required=True)
    options = _written(parser, arguments)
    with TemporaryDirectory() as scratch:
        fitted = _fitted(options, Path(scratch))
        total = sum(fitted.vectors[1:], fitted.vectors[0])
        carried = save_shira(fitted.base, total, fitted.classes, options.out, fitted.kind)
    lost = carried.total - carried.entries
    print(
        f"{options.out}: {carried.entries:,} of {carried.total:,} entries, r = {carried.r}; "
        f"{lost:,} ({100 * lost / carried.total:.1f} %) are lost, in {len(carried.lost)} tensors "
        "(see its README.md)"
    )


def predict(parser: ArgumentParser, arguments: list[str]) -> None:
    """Predict for texts, in order. A task of texts: as CSV, `label` and its probability `p_…` for
    each class; a blank text has an empty label. A task of words: the file with one more column of
    tags, or of plain text a word and its tag in each line, and a blank line after each sentence."""
    _add_vectors(parser, f"{VECTORS}; or a model folder that `deftx apply` wrote")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", action="append", help="a text; may be given several times")
    given.add_argument("--file", type=Path, help=f"{FILE}; {WORDS}")
    parser.add_argument("--pair", action="append", help="the second text of each, for pairs")
    parser.add_argument("--id-column", help="default: rows are numbered from 0")
    parser.add_argument(
        "--comments",
        action=BooleanOptionalAction,
        help="lines with words that begin with # are comments; default: not in conll",
    )
    _add_prior(parser)
    parser.add_argument("--max-length", type=int, help="tokens; default: as the task was trained")
    parser.add_argument(
        "--out",
        type=Path,
        help="a file that ends in .jsonl, or of texts .csv, of words as the file, or .conll; "
        "default: printed",
    )
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as scratch:
        found = find_classifier(
            options.vectors, options.base, options.classes, options.kind, Path(scratch)
        )
        items, as_text = PREDICTIONS[found.kind](options)
        model, tokenizer = found.load()
    model.to(available_device())  # type: ignore[arg-type]
    room = positions(model)
    length = options.max_length or found.max_length or min(128, room or 128)
    check_length(length, room, "--max-length")
    classes = class_names(model)
    probabilities = np.empty((0, len(classes)))
    if items:
        logits = predict_logits(model, items, tokenizer, length)
        if options.prior is not None:
            logits = logits + torch.from_numpy(_prior(options, model, tokenizer, length).values)
        probabilities = logits.softmax(1).numpy()
    text = as_text(classes, probabilities)
    if options.out is None:
        print(text, end="")
    else:
        write_text(options.out, text)


def _add_prior(parser: ArgumentParser) -> None:
    """The option of a prior, and how the rows of its file are read."""
    parser.add_argument(
        "--prior",
        type=Path,
        metavar="FILE",
        help="add a bias to the logits of the classes: that of a file of the stage `prior` "
        "(.safetensors); or the one that makes the mean prediction the same for all classes, over "
        f"unlabelled texts of the domain in the language: {FILE}",
    )
    parser.add_argument(
        "--column",
        help="column of the text; default: text. For a task of words it may hold lists; default in "
        "jsonl and parquet: words",
    )
    parser.add_argument("--pair-column", help="column of the second text, for pairs")
    parser.add_argument("--format", choices=get_args(Format), help="default: as the name ends")
    parser.add_argument(
        "--no-header", action="store_true", help="columns of csv and tsv are called 0, 1, …"
    )
    parser.add_argument(
        "--quoting",
        action=BooleanOptionalAction,
        help="csv and tsv cells may be quoted; default: csv cells may",
    )


def _prior(
    options: Namespace, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, length: int
) -> Bias:
    path: Path = options.prior
    if path.suffix == ".safetensors":
        return stored_bias(path, model)
    return estimated_bias(path, read_items(path, layout(path, options)), model, tokenizer, length)


def _add_vectors(parser: ArgumentParser, about: str = VECTORS) -> None:
    """The options of vectors that are to be added."""
    parser.add_argument("vectors", nargs="+", metavar="VECTOR", help=about)
    parser.add_argument(
        "--base",
        help="a folder made by `deftx base`, a model folder, or a hub id[@revision]; default: "
        "the base that the first vector was made for",
    )
    parser.add_argument(
        "--classes",
        type=lambda text: text.split(","),
        default=[],
        metavar="A,B,…",
        help="classes of a task in the order of its head, if its file does not record them",
    )
    parser.add_argument(
        "--kind", choices=HEADS, help="kind of a task; default: as its file or its head shows it"
    )


def _fitted(options: Namespace, scratch: Path) -> Fitted:
    return find_fitted(options.vectors, options.base, options.classes, options.kind, scratch)


def _written(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """The arguments of a verb that writes the sum of vectors into a folder, which must be new."""
    _add_vectors(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args(arguments)
    check_new(options.out)
    return options


def _print(frame: pd.DataFrame) -> None:
    percent = dict.fromkeys(("share", "overlap", "same_sign"), "{:.2f} %".format)
    shown = frame.assign(**{name: 100 * frame[name] for name in percent if name in frame})
    by_kind = {"i": "{:,}".format, "f": "{:.4g}".format}
    formats = {n: by_kind[d.kind] for n, d in frame.dtypes.items() if d.kind in by_kind} | percent
    print(shown.to_string(index=False, na_rep="–", formatters=formats))  # type: ignore[arg-type]
