"""What the pages about a run as a whole tell of its config: its jobs, its vectors, its settings."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import yaml

from deftx.accounting import Job
from deftx.artefact import ArtefactError, canonical
from deftx.card import DatasetFacts, Part, Vector
from deftx.config import OWN_TEXT, Config
from deftx.config_checks import check_config
from deftx.graph import PAGES, Artefact, Graph, Target

UNMEASURED = ("config", *PAGES)
"""Stages whose jobs leave no cost: they belong to the run, and take seconds."""


def load_config(path: Path) -> Config:
    """The config that the stage `config` wrote down. Raises ArtefactError if the file is none."""
    try:
        return check_config(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path}: not a config as `deftx config` writes it: {error}") from None


def jobs_of(graph: Graph) -> list[Job]:
    """Every job that leaves a cost, with the systems that need what it makes."""
    users: dict[Artefact, dict[str, None]] = {artefact: {} for artefact in graph.artefacts()}
    for evaluation in graph.evaluations():
        for artefact in _closure(graph, [evaluation], set()):
            users[artefact][evaluation["system"]] = None
    return [
        _job(artefact, list(systems))
        for artefact, systems in users.items()
        if artefact.stage not in UNMEASURED
    ]


def _closure(
    graph: Graph, artefacts: Iterable[Artefact], seen: set[Artefact]
) -> Iterable[Artefact]:
    for artefact in artefacts:
        if artefact not in seen:
            seen.add(artefact)
            yield artefact
            for parts in graph.inputs(artefact).values():
                yield from _closure(graph, parts, seen)


def _job(artefact: Artefact, systems: list[str]) -> Job:
    known = dict(artefact.wildcards)
    if artefact.stage == "diagnostics":
        systems = [artefact["system"]]
    if "target" in known:
        target = Target.parse(known["target"])
        known[target.kind] = target.name
    return Job(
        stage=artefact.stage,
        path=artefact.path,
        systems=systems,
        task=known.get("task"),
        language=known.get("language"),
        seed=int(known["seed"]) if "seed" in known else None,
    )


def vectors_of(graph: Graph) -> list[Vector]:
    """Every sparse vector that a system uses, with what its card tells of it."""
    users: dict[Artefact, dict[str, None]] = {}
    for evaluation in graph.evaluations():
        for vector in graph.vectors(evaluation):
            if vector is not None and vector.stage == "sparse":
                users.setdefault(vector, {})[evaluation["system"]] = None
    return [
        Vector(
            path=vector.path,
            row=graph.row(vector),
            systems=list(systems),
            data=[_part(graph.config, data) for data in graph.inputs(vector)["train"]],
        )
        for vector, systems in users.items()
    ]


def _part(config: Config, data: Artefact) -> Part:
    facts = dataset_facts(config, data["dataset"])
    return Part(
        **facts.model_dump(), language=data["language"], split=data["split"], path=data.path
    )


def dataset_facts(config: Config, name: str) -> DatasetFacts:
    """A dataset as cards tell of it."""
    if name == OWN_TEXT:
        return DatasetFacts(dataset=name)
    dataset = config.datasets[name]
    return DatasetFacts(dataset=name, licence=dataset.licence, source=dataset.source)


def config_text(config: Config) -> str:
    """The config as YAML, its defaults filled in."""
    plain = config.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


def config_sha256(config: Config) -> str:
    """SHA-256 over the config as canonical JSON."""
    return hashlib.sha256(canonical(config.model_dump(mode="json")).encode()).hexdigest()
