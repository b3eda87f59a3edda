"""Methods whose vector is the whole difference (plain fine-tuning, task arithmetic), and what the
stage `full` reads. Free of torch."""

from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from deftx.models.base import Base
from deftx.plan.artefact import ROUND, Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.plan.method import Row, check_truncates
from deftx.stages.denoise.settings import RankRule


class Dense(Row):
    """The whole difference, denoised or not: plain fine-tuning, task arithmetic."""

    takes_several_sources: ClassVar[bool] = True

    prune: Literal[False]
    retrain: bool = True
    denoise: RankRule | None = None

    @property
    def stage(self) -> str:
        """The stage whose artefact is the vector."""
        return "denoise" if self.denoise else "full"

    @property
    def rank_rule(self) -> RankRule | None:
        """How the difference is denoised, if it is."""
        return self.denoise

    @model_validator(mode="after")
    def _is_not_trained_again(self) -> Self:
        if self.retrain:
            raise ValueError(
                "prune: false with retrain: true would train everything again; add retrain: false"
            )
        return self

    def check_base(self, base: Base) -> None:
        """Raise InputError if the rank rule truncates no matrix of this base."""
        if self.denoise is not None:
            check_truncates(self.denoise, base)


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    target = artefact.target
    former = {"method": target.added, "target": replace(target, added=""), "seed": artefact["seed"]}
    return {
        **graph.training_inputs(artefact),
        "round_vector": [Artefact.of("sparse", **former)] if target.added else [],
        "source_vector": graph.source_vectors(artefact),
    }


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    before = ROUND.search(artefact.target.added)
    return {
        **graph.training_params(artefact),
        **graph.several_sources_params(artefact.target),
        "round": int(before[1]) + 1 if before else 1,
    }
