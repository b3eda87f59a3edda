"""The README of a vector: what it is, what it was made from and how, what it scores, how to use it.

A model card as the hub reads it: https://huggingface.co/docs/hub/model-cards.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import Field

from deftx.plan.method import Row
from deftx.report.results import METRIC_NAMES, Comparison, Transfer
from deftx.report.template import render
from deftx.store.strict import Strict

HUB_METRICS = {"macro_f1": "f1", "accuracy": "accuracy"}
"""Our metrics as the hub calls them."""


class DatasetFacts(Strict):
    """Where a dataset is from, as far as the config tells."""

    dataset: str
    licence: str | None = Field(default=None, description="as the hub abbreviates it: cc-by-sa-4.0")
    source: str | None = Field(default=None, description="an address")

    @property
    def hub_id(self) -> str | None:
        """`owner/name` if it lies on the hub."""
        found = re.match(r"https://huggingface\.co/datasets/([\w.-]+/[\w.-]+)", self.source or "")
        return found[1] if found else None


class Part(DatasetFacts):
    """A split that a vector was made from."""

    language: str
    split: str
    path: str = Field(description="of the parquet artefact, below results/{run}/")


class Vector(Strict):
    """A sparse vector of the run: what its own file does not tell."""

    path: str = Field(description="of its safetensors file, below results/{run}/")
    row: Row
    systems: list[str] = Field(description="that use it")
    data: list[Part]

    @property
    def folder(self) -> str:
        """The folder that the card lies in, below results/{run}/."""
        return self.path.rpartition("/")[0]


def model_card(
    vector: Vector,
    provenance: Mapping[str, Any],
    comparison: Comparison,
    means: Sequence[Transfer],
    *,
    tests: Mapping[str, DatasetFacts],
    items: Mapping[str, int],
    maskable: int,
    partner: Vector | None,
    classes: Sequence[str],
) -> str:
    """Markdown with front matter.

    Args:
        provenance: what the file of the vector says of itself.
        means: the scores of all systems on all tasks; those that concern this vector are shown.
        tests: task → the dataset that it is tested on.
        items: path of a part → how many items it holds.
        maskable: how many entries of the base a method may choose from.
        partner: a vector of the other kind and the same seed that a system adds to this one.
        classes: of the task that this vector or its partner does.
    """
    kind, _, name = provenance["target"].partition("-")
    task = name if kind == "task" else None
    mine = [
        m for m in means if m.system in vector.systems and name == (m.task if task else m.language)
    ]
    params = provenance["params"]
    trained = params.get("task") or params.get("language") or {}
    training = {k: v for k, v in trained.items() if v is not None}
    if params.get("learning_rate") is not None:
        training["learning_rate"] = params["learning_rate"]
    return render(
        "card.md.j2",
        front=yaml.safe_dump(
            _front(vector, provenance, comparison, mine, tests), sort_keys=False, allow_unicode=True
        ),
        vector=vector,
        partner=partner,
        task=task,
        title=name if task else comparison.name(name),
        name=name,
        own=provenance,
        share=f"{100 * provenance['k'] / maskable:.2g}",
        maskable=maskable,
        settings=dict(settings(vector.row)),
        training=training if dict(vector.row).get("retrain", True) else {},
        classes=classes,
        chosen=_chosen(vector.row),
        outcome=provenance["outcome"],
        items=items,
        licences=sorted({part.licence for part in vector.data if part.licence}),
        unlicensed=sorted({part.dataset for part in vector.data if not part.licence}),
        metrics=" and ".join(dict.fromkeys(METRIC_NAMES[m.metric] for m in mine)),
        textless=any(not m.has_text for m in mine),
        seeds=max((m.seeds for m in mine), default=0),
        grid=_grid(mine, comparison, task),
    )


def settings(row: Row) -> Iterator[tuple[str, Any]]:
    """Name and value of what a row sets to something else than the default."""

    def flat(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, inner in value.items():
            if isinstance(inner, Mapping) and name == "denoise":
                yield from flat(inner)
            else:
                yield name.replace("_", " "), inner

    told = {"prune", "retrain", "learning_rate", "vector"}  # elsewhere on the card
    yield from flat(row.model_dump(exclude=told, exclude_none=True, exclude_defaults=True))


def _chosen(row: Row) -> str:
    """What a method chooses, in words."""
    if dict(row).get("score") == "magnitude":
        denoised = ", denoised" if row.rank_rule is not None else ""
        return f"the largest entries of the difference that full fine-tuning makes{denoised}"
    if dict(row).get("score") == "random":
        return "entries drawn uniformly"
    return "all entries that it may choose from"


def _grid(
    means: Sequence[Transfer], comparison: Comparison, task: str | None
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Head and rows of the table of scores: of a task vector languages × systems, of a language
    vector systems × tasks."""
    cells = {}
    for m in means:
        spread = f" (sd {100 * m.sd:.1f})" if m.sd is not None else ""
        place = (m.language, m.system) if task else (m.system, m.task)
        cells[place] = f"{100 * m.mean:.1f} ± {50 * (m.high - m.low):.1f}{spread}"
    columns = list(dict.fromkeys(column for _, column in cells))
    return columns, [
        (comparison.heading(task, row) if task else row, [cells.get((row, c), "") for c in columns])
        for row in dict.fromkeys(row for row, _ in cells)
    ]


def _front(
    vector: Vector,
    provenance: Mapping[str, Any],
    comparison: Comparison,
    means: Sequence[Transfer],
    tests: Mapping[str, DatasetFacts],
) -> dict[str, Any]:
    languages = list(dict.fromkeys(part.language for part in vector.data))
    if not vector.data and provenance["target"].startswith("lang-"):
        languages = [provenance["target"].removeprefix("lang-")]
    known = [facts for facts in (*vector.data, *(tests[m.task] for m in means)) if facts.hub_id]
    return {
        "library_name": "deftx",
        "license": _licence(vector),
        "base_model": provenance["base"]["id"],
        **({"language": languages} if languages else {}),
        **({"datasets": list(dict.fromkeys(f.hub_id for f in known))} if known else {}),
        "metrics": list(dict.fromkeys(HUB_METRICS[m.metric] for m in means)),
        "tags": [
            "sparse-fine-tuning",
            "cross-lingual-transfer",
            provenance["method"],
            "task-vector" if provenance["target"].startswith("task-") else "language-vector",
        ],
        "model-index": [
            {
                "name": vector.folder.partition("/")[2],
                "results": [
                    _result(comparison, mean, tests[mean.task])
                    for mean in means
                    if mean.language in comparison.tasks[mean.task].languages  # and no mean of some
                ],
            }
        ],
    }


def _licence(vector: Vector) -> str:
    """That of the data if it is one; else the hub's words for what cannot be said in one."""
    licences = {part.licence for part in vector.data}
    if None in licences or not licences:
        return "unknown"
    return str(licences.pop()) if len(licences) == 1 else "other"


def _result(comparison: Comparison, mean: Transfer, test: DatasetFacts) -> dict[str, Any]:
    return {
        "task": {"type": "text-classification", "name": mean.task},
        "dataset": {
            "type": test.hub_id or test.dataset,
            "name": f"{test.dataset}, {comparison.name(mean.language)}",
            "config": mean.language,
            "split": "test",
        },
        "metrics": [
            {
                "type": HUB_METRICS[mean.metric],
                "name": f"{METRIC_NAMES[mean.metric]} of {mean.system}",
                "value": round(100 * mean.mean, 2),
            }
        ],
    }
