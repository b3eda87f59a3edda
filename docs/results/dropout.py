"""Train the dense task vector of a run anew while vectors of other languages are in the weights
(language-vector dropout), and print its score beside that of the plain one.

From the project's folder, after the run: `python docs/results/dropout.py results/mini-beyond`. New
vectors are written to `dropout/` in the run's folder.
"""

import sys
from pathlib import Path

import pandas as pd
import torch

from deftx.core.parameters import backbone_parameters, head_of, head_parameters
from deftx.models.base import Base
from deftx.models.load import load_classifier, load_tokenizer
from deftx.models.predict import evaluate
from deftx.models.tokens import load_tokens
from deftx.models.vectors import dense_vector
from deftx.report.claims import over_units
from deftx.stages.full.run import Params, full
from deftx.store.tensors import TensorFile

OTHERS = ["min", "nij", "sun"]
"""Languages whose DeFT-X vectors are added, each for a quarter of the batches."""

TARGETS = ["ace", "ban", "bbc", "bjn", "jav"]
"""Languages that are scored, none of which is among those."""

LANGUAGE = {
    "none": None,
    "full": "full/lang-{}/seed{}/model.safetensors",
    "deft-x": "sparse/deft-x/lang-{}/seed{}/sft_model.safetensors",
}
"""The target's own vector in the evaluation."""


def train(run: Path, seed: int) -> Path:
    """The task's full phase as in the run, but with four copies of the source's data, three of them
    with a language's vector in the weights. The batches alternate between the copies."""
    out = run / f"dropout/seed{seed}/model.safetensors"
    if not out.exists():
        plain = TensorFile(run / f"full/task-sentiment/base/seed{seed}/model.safetensors")
        settings = plain.provenance["params"] | {
            "sources": ["ind", *OTHERS],
            "with_vectors": OTHERS,
        }
        items = run / "tokens/96/data/smsa/ind"
        out.parent.mkdir(parents=True, exist_ok=True)
        full(
            Params.model_validate(settings),
            base=run / "base",
            train=[items / "train.safetensors"] * (1 + len(OTHERS)),
            valid=items / "valid.safetensors",
            source_vector=[
                run / f"sparse/deft-x/lang-{other}/seed{seed}/sft_model.safetensors"
                for other in OTHERS
            ],
            out=out,
        )
    return out


def score(run: Path, task: Path, target: str, vector: Path | None) -> float:
    """The macro-F1 in percent of the base plus a dense task vector and, if given, a language's."""
    base, file = Base.load(run / "base"), TensorFile(task)
    classes = file.provenance["params"]["classes"]
    items = load_tokens(run / f"tokens/96/data/nusax/{target}/test.safetensors", base, 96, classes)
    model = load_classifier(base, classes, 0)
    weights, head = backbone_parameters(model), head_parameters(model)
    with torch.no_grad():
        for added in [file] if vector is None else [file, TensorFile(vector)]:
            for name, change in dense_vector(added, base).items():
                weights[name].add_(change)
        for name, value in head_of(file).items():
            head[name].copy_(value)
    return 100 * evaluate(model, items, load_tokenizer(base), 96)["macro_f1"]


def table(run: Path, seeds: range) -> pd.DataFrame:
    """The target's vector × the mean over targets and seeds without and with dropout, and their
    difference with its 95 % interval over seeds (Student's t)."""
    rows = {}
    for kind, path in LANGUAGE.items():
        means: list[list[float]] = []
        for seed in seeds:
            own = {t: run / path.format(t, seed) if path else None for t in TARGETS}
            plain = run / f"full/task-sentiment/base/seed{seed}/model.safetensors"
            tasks = plain, train(run, seed)
            means.append(
                [sum(score(run, task, t, own[t]) for t in TARGETS) / len(TARGETS) for task in tasks]
            )
        gap = over_units([after - before for before, after in means], "seed")
        assert gap is not None and gap.low is not None and gap.high is not None
        before, after = (sum(column) / len(seeds) for column in zip(*means, strict=True))
        rows[kind] = {
            "plain": f"{before:.1f}",
            "dropout": f"{after:.1f}",
            "difference": f"{gap.value:+.1f} ± {(gap.high - gap.low) / 2:.1f}".replace("-", "−"),
        }
    return pd.DataFrame(rows).T


if __name__ == "__main__":
    print(table(Path(sys.argv[1]), range(5)).to_markdown(disable_numparse=True))
