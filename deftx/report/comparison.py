"""Which systems are compared on which tasks: the parameters that all pages of results share."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from deftx.engine.settings import MetricName
from deftx.report.metrics import Measures, Metric
from deftx.store.strict import Strict
from deftx.tasks.measures import MEASURES

MEAN = "mean"
"""The column of the mean over languages."""

REFERENCE = "lt-sft"
"""The default reference system."""


SUFFIX = " + prior"
"""How the name of a system ends whose predictions were given a prior by the stage `prior`."""


class PriorTable(Strict):
    """The assumption of the systems whose names end in SUFFIX."""

    items: str = Field(description="the unlabelled items that it is about")
    languages: list[str] = Field(description="that have such items")
    target: Literal["uniform", "source"]


class TaskTable(Strict):
    """What is shown of a task."""

    kind: str = Field(default="classification", description="of the task")
    metric: MetricName
    source: str
    sources: list[str] = Field(default=[], description="all languages with labels, if several")
    languages: list[str]
    dataset: str = Field(default="", description="of the test items, as published numbers name it")
    systems: list[str] = Field(default=[], description="that are evaluated on it; default: all")
    prior: PriorTable | None = Field(default=None, description="also shown with it; default: none")

    @property
    def labelled(self) -> set[str]:
        """The languages whose labels the task was trained on."""
        return {self.source, *self.sources}

    @property
    def measures(self) -> Measures:
        """How such tasks are measured and shown."""
        return MEASURES[self.kind]

    @model_validator(mode="after")
    def _has_the_metric(self) -> Self:
        if self.kind not in MEASURES:
            raise ValueError(f"kind: {self.kind!r}, expected one of {', '.join(MEASURES)}")
        if self.metric not in self.measures.metrics:
            known = ", ".join(self.measures.metrics)
            raise ValueError(f"metric: {self.kind} has {known}, not {self.metric}")
        return self


class Comparison(Strict):
    """Which systems are compared on which tasks, in the order in which they are shown."""

    systems: list[str]
    tasks: dict[str, TaskTable]
    names: dict[str, str] = Field(default={}, description="language → its name")
    without_text: list[str] = Field(default=[], description="languages without a vector")
    groups: dict[str, list[str]] = Field(
        default={}, description="name → languages whose mean is shown where a task has them all"
    )
    reference: str | None = Field(
        default=None,
        description="system with which the others are compared in single languages; default: "
        "lt-sft, or the first",
    )
    seeds: list[int] = Field(default=[], description="default: all that were evaluated")
    once: list[str] = Field(
        default=[],
        description="systems of vectors that are means over seeds, evaluated with the first alone",
    )
    base_name: str = Field(default="", description="name of the base model")
    assumption: str = Field(default="", description="of all systems, as their names end")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = [("reference", self.reference)] if self.reference is not None else []
        named += [(f"tasks.{t}.systems", s) for t, of in self.tasks.items() for s in of.systems]
        for key, system in named:
            if system not in self.systems:
                raise ValueError(f"{key}: {system} is not among systems: {self.systems}")
        languages = {key for table in self.tasks.values() for key in table.languages}
        for name, members in self.groups.items():
            if name in {MEAN, *languages}:
                raise ValueError(f"groups: {name} is the name of another column")
            if not members:
                raise ValueError(f"groups: {name} has no language")
        return self

    @property
    def reference_system(self) -> str:
        """The system with which the others are compared in single languages."""
        default = REFERENCE if REFERENCE in self.systems else self.systems[0]
        return self.reference or default

    def seeds_of(self, system: str, seeds: Sequence[int]) -> list[int]:
        """Those of the seeds with which a system is evaluated."""
        return list(seeds[:1] if system in self.once else seeds)

    def systems_of(self, task: str) -> list[str]:
        """The systems that are evaluated on a task, in the order of all."""
        wanted = self.tasks[task].systems
        return [system for system in self.systems if not wanted or system in wanted]

    def reference_of(self, task: str) -> str:
        """The reference system, or the first one of a task on which it is not evaluated."""
        systems = self.systems_of(task)
        return self.reference_system if self.reference_system in systems else systems[0]

    def with_prior(self) -> "tuple[Comparison, Comparison, Comparison]":
        """The comparisons on the tasks and languages that have a prior: of the systems without it,
        of the systems with it, and of both."""
        tasks = {task: table for task, table in self.tasks.items() if table.prior}

        def of(endings: list[str]) -> Comparison:
            """Each system with each ending."""

            def named(systems: list[str]) -> list[str]:
                return [system + ending for ending in endings for system in systems]

            tables = {
                task: table.model_copy(
                    update={
                        "systems": named(self.systems_of(task)),
                        "languages": [k for k in table.languages if k in table.prior.languages],
                    }
                )
                for task, table in tasks.items()
                if table.prior
            }
            changes = {"systems": named(self.systems), "once": named(self.once), "tasks": tables}
            changes["reference"] = self.reference_system + endings[0]
            return self.model_copy(update={**changes, "assumption": endings[0]})

        return of([""]), of([SUFFIX]), of(["", SUFFIX])

    def metric(self, task: str) -> Metric:
        """By which systems are compared on a task."""
        return self.tasks[task].measures.metrics[self.tasks[task].metric]

    def title(self, task: str, joint: str = " + ") -> str:
        """A task with the assumption of all systems."""
        return f"{task}{self.assumption.replace(' + ', joint)}"

    def name(self, language: str) -> str:
        """The name of a language."""
        return self.names.get(language) or language

    def target_name(self, target: str) -> str:
        """The language's name for `lang-ace`, `task sentiment` for `task-sentiment`."""
        kind, _, name = target.partition("-")
        return self.name(name) if kind == "lang" else f"task {name}"

    def heading(self, task: str, column: str) -> str:
        """The heading of a column; a source and a language without text are marked."""
        source = " (source)" if column in self.tasks[task].labelled else ""
        textless = " †" if column in self.without_text else ""
        return self.name(column) + source + textless

    def averaged(self, task: str) -> list[str]:
        """The languages that the mean of a task is over: those with text, without the sources."""
        table = self.tasks[task]
        left_out = {*table.labelled, *self.without_text}
        return [language for language in table.languages if language not in left_out]

    def means(self, task: str) -> dict[str, list[str]]:
        """Column → the languages that it averages: MEAN, if there are any, and each group whose
        languages the task has all."""
        table, averaged = self.tasks[task], self.averaged(task)
        groups = {g: m for g, m in self.groups.items() if set(m) <= set(table.languages)}
        return {**({MEAN: averaged} if averaged else {}), **groups}

    def columns(self, task: str) -> list[str]:
        """The languages of a task, then MEAN and the groups, see `means`."""
        return [*self.tasks[task].languages, *self.means(task)]

    def members(self, task: str, column: str) -> list[str]:
        """The languages that a column is over; for a language itself."""
        return self.means(task).get(column, [column])
