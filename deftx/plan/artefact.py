"""Artefacts and targets: the nodes of the graph that a config asks for. Free of torch."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from deftx.plan.method import Kind

NONE = "none"
BASE = "base"
"""The start of a target that starts at the base's own weights."""

OWN_TEXT = "own-text"
"""The dataset of languages whose `text` is a path."""

ROUND = re.compile(r"\.round(\d+)$")
"""How the name of a method ends in artefacts of any round but its last."""

LAST = "@last"
"""What precedes the number of averaged states in a target as text."""


@dataclass(frozen=True)
class Artefact:
    """One artefact: the stage that makes it, and the values of the wildcards in its path."""

    stage: str
    wildcards: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, stage: str, **wildcards: Any) -> "Artefact":
        """The artefact of a stage, by its wildcards."""
        return cls(stage, tuple(sorted((name, str(value)) for name, value in wildcards.items())))

    def __getitem__(self, name: str) -> str:
        return dict(self.wildcards)[name]

    def same(self, stage: str, **wildcards: str) -> "Artefact":
        """The artefact of another stage for the same target and seed."""
        return Artefact.of(stage, target=self["target"], seed=self["seed"], **wildcards)

    @property
    def target(self) -> "Target":
        """The target in its path."""
        return Target.parse(self["target"])


Inputs = dict[str, list[Artefact]]
"""Role → artefacts. The roles of a stage are always the same; some may be empty."""


def once(artefacts: Iterable[Artefact | None]) -> list[Artefact]:
    """Each artefact once, in the order of its first appearance."""
    return list(dict.fromkeys(artefact for artefact in artefacts if artefact is not None))


@dataclass(frozen=True)
class Target:
    """A language or a task, with the weights that its training starts from.

    As text: `lang-ace`, `task-nli/base`, `task-nli/lt-sft` (the base plus the source language's
    vector by lt-sft). In the full phase of a later round the target's own vector of the round
    before is added: `lang-ace/base+lt-sft.round1`. A full phase that ends with the mean of its last
    5 evaluated states: `lang-ace@last5`."""

    kind: Kind
    name: str
    start: str = BASE
    added: str = ""
    average: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Target":
        """The inverse of `str`."""
        text, _, average = text.partition(LAST)
        label, _, start = text.partition("/")
        prefix, _, name = label.partition("-")
        start, _, added = (start or BASE).partition("+")
        kind: Kind = "language" if prefix == "lang" else "task"
        return cls(kind, name, start, added, int(average) if average else None)

    @property
    def label(self) -> str:
        """`lang-ace` or `task-nli`, as provenance and parameters have it."""
        return f"{'lang' if self.kind == 'language' else 'task'}-{self.name}"

    def __str__(self) -> str:
        last = f"{LAST}{self.average}" if self.average else ""
        if self.added:
            return f"{self.label}/{self.start}+{self.added}{last}"
        return (f"{self.label}/{self.start}" if self.kind == "task" else self.label) + last
