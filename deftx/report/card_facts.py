"""What the cards of vectors tell of a config: methods, and data with their licences."""

from deftx.core.vector_files import SFT_STAGES
from deftx.plan.artefact import OWN_TEXT, Artefact
from deftx.plan.config import Config
from deftx.plan.method import Row
from deftx.plan.plan import Plan
from deftx.report.card import DatasetFacts, Part, Vector
from deftx.stages.table import path_of


def vectors_of(graph: Plan) -> list[Vector]:
    """Every sparse vector that a system uses, with what its card tells of it."""
    users: dict[Artefact, dict[str, None]] = {}
    for evaluation in graph.evaluations:
        for vector in graph.vectors(evaluation):
            if vector is not None and vector.stage in SFT_STAGES:
                users.setdefault(vector, {})[evaluation["system"]] = None
    return [
        Vector(
            path=path_of(vector),
            row=graph.row(vector, Row),
            systems=list(systems),
            data=[_part(graph, data) for data in _data(graph, vector)],
        )
        for vector, systems in users.items()
    ]


def _data(graph: Plan, vector: Artefact) -> list[Artefact]:
    """What a vector was trained on, as it was before it was cleaned; nothing of one that others
    made."""
    return [
        part
        for data in graph.inputs(vector).get("train", [])
        for part in (graph.inputs(data)["text"] if data.stage == "clean" else [data])
    ]


def _part(graph: Plan, data: Artefact) -> Part:
    facts = dataset_facts(graph.config, data["dataset"])
    return Part(
        **facts.model_dump(),
        language=data["language"],
        split=data["split"],
        path=path_of(data),
    )


def dataset_facts(config: Config, name: str) -> DatasetFacts:
    """A dataset as cards tell of it."""
    if name == OWN_TEXT:
        return DatasetFacts(dataset=name)
    dataset = config.datasets[name]
    return DatasetFacts(dataset=name, licence=dataset.licence, source=dataset.source)
