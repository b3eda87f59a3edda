"""The README of a vector: its scores, data, method and use, as a model card of the Hugging Face Hub
(https://huggingface.co/docs/hub/model-cards)."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml
from huggingface_hub import EvalResult, ModelCardData

from deftx.core.vector_files import SFT_STAGES
from deftx.plan.artefact import OWN_TEXT, Artefact, Target
from deftx.plan.method import Row
from deftx.plan.plan import Plan
from deftx.plan.schema import Config
from deftx.report.comparison import SUFFIX, Comparison
from deftx.report.language_tags import language_tag
from deftx.report.scores import Transfer
from deftx.report.template import render
from deftx.stages.table import path_of
from deftx.tasks.heads import head_of


class Data(NamedTuple):
    """A split of a dataset in a language, with origin and licence as far as the config has them.

    Attributes:
        licence: the Hub's identifier: cc-by-sa-4.0.
        source: an address.
        path: of its parquet artefact, below results/{run}/.
    """

    dataset: str
    licence: str | None = None
    source: str | None = None
    language: str = ""
    split: str = ""
    path: str = ""

    @property
    def hub_id(self) -> str | None:
        """`owner/name` of a dataset on the Hub."""
        found = re.match(r"https://huggingface\.co/datasets/([\w.-]+/[\w.-]+)", self.source or "")
        return found[1] if found else None


class Vector(NamedTuple):
    """A sparse vector of the run.

    Attributes:
        path: of its safetensors file, below results/{run}/.
        row: its method.
        systems: that use it → the settings by which a system does more than to add its two vectors.
        data: that it was trained on.
        provenance: what its file holds; empty until that is read.
    """

    path: str
    row: Row
    systems: Mapping[str, Mapping[str, Any]]
    data: list[Data]
    provenance: Mapping[str, Any] = MappingProxyType({})

    @property
    def folder(self) -> str:
        """The folder of its card, below results/{run}/."""
        return self.path.rpartition("/")[0]

    @property
    def target(self) -> Target:
        """The task or the language."""
        return Target.parse(self.provenance["target"])

    @property
    def classes(self) -> list[str]:
        """The classes of its task; empty for a language."""
        return self.provenance["params"]["classes"] or []

    @property
    def kind(self) -> str | None:
        """The kind of its task; None for a language, and for classification."""
        found: str | None = self.provenance["params"].get("kind")
        return found


def vectors_of(plan: Plan) -> list[Vector]:
    """Every sparse vector that a system uses, not yet read."""
    users: dict[Artefact, dict[str, Mapping[str, Any]]] = {}
    for evaluation in [*plan.evaluations, *plan.models]:
        for vector in plan.vectors(evaluation):
            if vector is not None and vector.stage in SFT_STAGES:
                name = evaluation["system"]
                changes = plan.config.systems[name].model_dump(
                    exclude={"task", "language", "task_start"}, exclude_defaults=True
                )
                users.setdefault(vector, {})[name] = changes
    found = []
    for vector, systems in users.items():
        # The data before cleaning; none for a vector of others.
        trained = plan.training_items(vector.target)["train"] if vector.stage == "sparse" else []
        texts = [text for data in trained for text in plan.inputs(data).get("text", [data])]
        data = [
            dataset(plan.config, text["dataset"])._replace(
                language=text["language"], split=text["split"], path=path_of(text)
            )
            for text in texts
        ]
        row = plan.config.row(vector["method"], vector.target.kind)
        found.append(Vector(path_of(vector), row, systems, data))
    return found


def dataset(config: Config, name: str) -> Data:
    """Origin and licence of a dataset of the config."""
    if name == OWN_TEXT:
        return Data(name)
    return Data(name, config.datasets[name].licence, config.datasets[name].source)


def model_card(
    vector: Vector,
    partner: Vector | None,
    comparison: Comparison,
    means: Sequence[Transfer],
    *,
    tests: Mapping[str, Data],
    items: Mapping[str, int],
    maskable: int,
) -> str:
    """Markdown with front matter.

    Args:
        vector: with its provenance.
        partner: a vector of the other kind and the same seed that a system adds to this one.
        means: the scores of all systems on all tasks, with a prior too; those that concern this
            vector are shown.
        tests: task → the dataset of its test items.
        items: path of a part → its number of items.
        maskable: how many entries of the base a method may select from.
    """
    own, name = vector.provenance, vector.target.name
    task = name if vector.target.kind == "task" else None
    mine = [
        m
        for m in means
        if m.system.removesuffix(SUFFIX) in vector.systems
        and name == (m.task if task else m.language)
    ]
    assumed = {m.task for m in mine if m.system.endswith(SUFFIX)}
    shown = {m.system.removesuffix(SUFFIX) for m in mine}
    changed = {
        name: yaml.safe_dump(dict(changes), default_flow_style=True, width=1000).strip()
        for name, changes in vector.systems.items()
        if changes and name in shown
    }
    priors = [table.prior for t, table in comparison.tasks.items() if t in assumed and table.prior]
    params, kind = own["params"], vector.kind or (partner.kind if partner else None)
    # The settings that are not the default; those of training are shown elsewhere.
    elsewhere = {"prune", "retrain", "learning_rate", "average", "vector"}
    settings = vector.row.model_dump(exclude=elsewhere, exclude_none=True, exclude_defaults=True)
    settings |= settings.pop("denoise", {})
    trained = params.get("task") or params.get("language") or {}
    training = {key: value for key, value in trained.items() if value is not None}
    if params.get("learning_rate") is not None:
        training["learning_rate"] = params["learning_rate"]
    return render(
        "card.md.j2",
        front=_front(vector, comparison, mine, tests).to_yaml(),
        vector=vector,
        partner=partner,
        task=task,
        title=name if task else comparison.name(name),
        own=own,
        share=f"{100 * own['k'] / maskable:.2g}",
        maskable=maskable,
        settings={name.replace("_", " "): value for name, value in settings.items()},
        training=training if vector.row.retrains else {},
        classes=vector.classes or (partner.classes if partner else []),
        kind=kind,
        on_hub=head_of(kind).pipeline,
        selected=vector.row.selected,
        items=items,
        licences=sorted({part.licence for part in vector.data if part.licence}),
        unlicensed=sorted({part.dataset for part in vector.data if not part.licence}),
        metrics=" and ".join(dict.fromkeys(comparison.metric(m.task).in_full for m in mine)),
        priors=[prior.model_dump() for prior in priors],
        changed=changed,
        textless=any(not m.has_text for m in mine),
        seeds=max((m.seeds for m in mine), default=0),
        grid=_grid(mine, comparison, task),
    )


def _grid(
    means: Sequence[Transfer], comparison: Comparison, task: str | None
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Headings and rows of the table of scores: languages × systems for a task vector, systems ×
    tasks for a language vector."""
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
    vector: Vector, comparison: Comparison, means: Sequence[Transfer], tests: Mapping[str, Data]
) -> ModelCardData:
    own, target = vector.provenance, vector.target
    licences = sorted({part.licence or "unknown" for part in vector.data})
    languages = list(dict.fromkeys(part.language for part in vector.data))
    if not vector.data and target.kind == "language":
        languages = [target.name]
    used = [*vector.data, *(tests[m.task] for m in means)]
    results = [
        EvalResult(
            task_type=head_of(comparison.tasks[mean.task].kind).pipeline,
            task_name=mean.task,
            dataset_type=tests[mean.task].hub_id or tests[mean.task].dataset,
            dataset_name=f"{tests[mean.task].dataset}, {comparison.name(mean.language)}",
            dataset_config=mean.language,
            dataset_split="test",
            metric_type=comparison.metric(mean.task).hub,
            metric_name=f"{comparison.metric(mean.task).name} of {mean.system}",
            metric_value=round(100 * mean.mean, 2),
        )
        for mean in means
        if mean.language in comparison.tasks[mean.task].languages  # means are left out
    ]
    return ModelCardData(
        library_name="deftx",
        # The Hub has a word for several licences, and one for none.
        license="unknown"
        if "unknown" in licences or not licences
        else "other"
        if licences[1:]
        else licences[0],
        base_model=own["base"]["id"],
        language=list(map(language_tag, languages)) or None,
        datasets=list(dict.fromkeys(facts.hub_id for facts in used if facts.hub_id)) or None,
        metrics=list(dict.fromkeys(comparison.metric(m.task).hub for m in means)),
        tags=[
            *("sparse-fine-tuning", "cross-lingual-transfer"),
            *(own["method"], f"{target.kind}-vector"),
        ],
        model_name=vector.folder.partition("/")[2],
        eval_results=results,
    )
