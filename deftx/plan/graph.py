"""What a config asks for: evaluations, the vectors behind them, and the data behind those.

The stages' `plan.py` ask here; `deftx.plan.plan.Plan` puts all of it together. Free of torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import Any, TypeVar

from deftx.plan.artefact import BASE, NONE, OWN_TEXT, ROUND, Artefact, Inputs, Target, once
from deftx.plan.method import KINDS, Kind, Row
from deftx.plan.schema import Config, is_path
from deftx.plan.task import Prior
from deftx.plan.user_files import UserFiles
from deftx.stages.denoise.settings import RankRule
from deftx.stages.tokens.settings import WHOLE

R = TypeVar("R", bound=Row)


class Graph(ABC):
    """A config, and the questions about it that several stages have."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.root = f"results/{config.run}"
        self.user_files = UserFiles(config)
        self._row = cache(config.row)  # asked for a handful, tens of thousands of times

    @abstractmethod
    def path(self, artefact: Artefact) -> str:
        """Where an artefact is, relative to the project's folder."""

    # Evaluations and vectors

    @cached_property
    def evaluations(self) -> list[Artefact]:
        """Every system on every task in every language with every seed."""
        config = self.config
        pairs = [(system, task) for task in config.tasks for system in config.task_systems(task)]
        return [evaluation for pair in pairs for evaluation in self.evaluations_of(*pair)]

    def evaluations_of(self, system: str, task: str) -> list[Artefact]:
        """A system on a task in every language with every seed."""
        return [
            Artefact.of("evaluate", system=system, task=task, language=language, seed=seed)
            for language in self.config.task_languages(task)
            for seed in self.config.system_seeds(system)
        ]

    @cached_property
    def models(self) -> list[Artefact]:
        """What makes the models of languages without a test set."""
        config = self.config
        return [
            Artefact.of("compose", system=system, task=task, language=language, seed=seed)
            for task, settings in config.tasks.items()
            for language in settings.models_for
            for system in config.task_systems(task)
            for seed in config.system_seeds(system)
        ]

    @cached_property
    def priors(self) -> list[Artefact]:
        """The bias of each evaluation in a language that has items for a prior."""
        return [
            Artefact("prior", evaluation.wildcards)
            for evaluation in self.evaluations
            if evaluation["language"] in self.config.prior_languages(evaluation["task"])
        ]

    def prior_of(self, task: str) -> Prior:
        """The prior of a task that has one."""
        prior = self.config.tasks[task].prior
        assert prior is not None, f"task {task} has no prior"
        return prior

    def vectors(self, evaluation: Artefact) -> tuple[Artefact, Artefact | None]:
        """The task vector and the language vector of a system; no language vector where the system
        adds none or the language has no text."""
        system = self.config.systems[evaluation["system"]]
        row = self._row(system.task, "task")
        # A module is trained on top of another one, not from other weights; a vector that exists
        # already is what it is.
        start = BASE
        if row.is_trained and not row.is_stacked:
            start = system.task_start or self.config.task_start
        seed, language = evaluation["seed"], evaluation["language"]
        target = Target("task", evaluation["task"], start)
        task = self.vector(system.task, target, seed, system.task_seeds)
        if system.language == NONE or not self.config.has_vector(system.language, language):
            return task, None
        target = Target("language", language)
        return task, self.vector(system.language, target, seed, system.language_seeds)

    def vector(
        self, method: str, target: Target, seed: str, mean_over: Sequence[int] | None = None
    ) -> Artefact:
        """The vector of a target by a method with a seed, or the mean over several seeds."""
        if mean_over:
            seeds = "-".join(map(str, sorted(mean_over)))
            return Artefact.of("mean", method=method, target=target, seeds=seeds)
        row = self._row(method, target.kind)
        if not row.is_trained:  # the same for every seed
            return Artefact.of(row.stage, method=method, target=target.label)
        if row.stage in ("full", "denoise"):
            of_target = Artefact.of("full", target=target, seed=seed)
            return difference(row.rank_rule, of_target, average=row.full_average)
        return Artefact.of(row.stage, method=method, target=target, seed=seed)

    def is_sparse_sum(self, evaluation: Artefact) -> bool:
        """Whether task and language vector are sparse and are added, so that their sum is
        stored."""
        system = self.config.systems[evaluation["system"]]
        _, language = self.vectors(evaluation)
        return (
            system.combine is None
            and self._row(system.task, "task").is_sparse
            and (language is None or self._row(system.language, "language").is_sparse)
        )

    @cached_property
    def all_vectors(self) -> list[Artefact]:
        """Every vector of every system, once."""
        every = [*self.evaluations, *self.models]
        return once(vector for each in every for vector in self.vectors(each))

    # Methods

    def row(self, artefact: Artefact, kind_of_row: type[R]) -> R:
        """The method of an artefact for its kind of target, which is of this kind of row."""
        row = self._row(ROUND.sub("", artefact["method"]), artefact.target.kind)
        assert isinstance(row, kind_of_row), f"{artefact} is planned as {kind_of_row.__name__}"
        return row

    @cached_property
    def rules(self) -> dict[tuple[Kind, str], RankRule]:
        """The rank rule of each kind of target by its slug, which is in paths."""
        return {
            (kind, rule.slug()): rule
            for method in self.config.methods
            for kind in KINDS
            if (rule := self._row(method, kind).rank_rule) is not None
        }

    def methods(self) -> dict[str, dict[Kind, Row]]:
        """Every method that some system uses, for the kinds of target for which it does."""
        config, systems = self.config, self.config.systems.values()
        tasks = {system.task for system in systems}
        stacked = {task for task in tasks if self._row(task, "task").is_stacked}
        languages = {*stacked, *config.starts.values(), *(system.language for system in systems)}
        observed = {self._row(method, kind).observes for method in config.methods for kind in KINDS}
        used = {"task": tasks | observed, "language": languages | observed}
        rows = {
            name: {kind: self._row(name, kind) for kind in KINDS if name in used[kind]}
            for name in config.methods
        }
        return {name: kinds for name, kinds in rows.items() if kinds}

    # Data

    def items(self, dataset: str, language: str, split: str) -> Artefact:
        """A split of one language, made by `world`, or read by `data` and perhaps trimmed."""
        stage, found = "data", self.config.datasets.get(dataset)
        if found and found.world:
            stage = "world"
        elif found and found.without_nearest:
            stage = "trim"
        return Artefact.of(stage, dataset=dataset, language=language, split=split)

    def texts(self, language: str) -> list[Artefact]:
        """The text of a language as its datasets have it."""
        return [
            self.items(OWN_TEXT if is_path(text) else text, language, "train")
            for text in self.config.languages[language].texts
        ]

    def test_items(self, evaluation: Artefact) -> Artefact:
        """The test set of an evaluation."""
        test = self.config.tasks[evaluation["task"]].test
        return self.items(test.dataset, evaluation["language"], test.split)

    def training_items(self, target: Target) -> Inputs:
        """What a target is trained and validated on."""
        if target.kind == "task":
            task = self.config.tasks[target.name]
            return {
                "train": [
                    self.items(task.train.dataset, task.source, task.train.split),
                    *(self.items(s.dataset, s.language, s.split) for s in task.more_sources),
                ],
                "valid": [self.items(task.valid.dataset, task.source, task.valid.split)],
            }
        if self.config.cleaning is not None:
            return {"train": [Artefact.of("clean", language=target.name)], "valid": []}
        return {"train": self.texts(target.name), "valid": []}

    def tokens(self, items: Artefact, length: int | str) -> Artefact:
        """The tokens of a text or of labelled items, each cut to a length or `WHOLE`."""
        place = self.path(items).removeprefix(f"{self.root}/").removesuffix(".parquet")
        return Artefact.of("tokens", of=place, length=length)

    # Training

    def training_inputs(self, artefact: Artefact) -> Inputs:
        """What every training reads: the base, tokens, and the vector that it starts from."""
        target, text = artefact.target, self.config.language_training
        if target.kind == "task":
            length: int | str = self.config.tasks[target.name].training.max_length
        else:
            length = WHOLE if text.packed else text.max_length
        return {
            "base": [BASE_MODEL],
            **{
                role: [self.tokens(part, length) for part in parts]
                for role, parts in self.training_items(target).items()
            },
            "start_vector": self.start_vector(artefact),
        }

    def training_params(self, artefact: Artefact, average: int | None) -> dict[str, Any]:
        """What every training depends on, whatever is trained. `average` is that of the method, if
        it has one of its own."""
        target, own = artefact.target, {"average": average} if average else {}
        params = {**target_params(artefact), "engine": self.config.engine.model_dump()}
        if target.kind == "language":
            return {**params, "language": self.config.language_training.model_dump() | own}
        task = self.config.tasks[target.name]
        training = task.training.model_dump(exclude={"full_epochs"})
        if artefact.stage == "full" and task.training.full_epochs:
            training["epochs"] = task.training.full_epochs
        return {**params, **task.head, "task": training | own}

    def start_vector(self, artefact: Artefact) -> list[Artefact]:
        """What the training of a task builds on beside the base: the vector of the source language
        that it starts from, or for a module that language's own; empty if there is none, and for a
        mean over seeds, which is a difference already."""
        target = artefact.target
        if target.kind == "language" or artefact.stage == "mean":
            return []
        task = self.config.tasks[target.name]
        source = Target("language", task.source)
        method = dict(artefact.wildcards).get("method", "")
        if method and self._row(ROUND.sub("", method), "task").is_stacked:
            start = method if self.config.has_text(task.source) else None
        else:
            start = None if task.more_sources or target.start == BASE else target.start
        return [self.vector(start, source, artefact["seed"])] if start else []

    def several_sources_params(self, target: Target) -> dict[str, Any]:
        """The sources of a task that has several, and those with a vector; empty for one source."""
        if target.kind == "language" or not self.config.tasks[target.name].more_sources:
            return {}
        sources = self.config.tasks[target.name].sources
        known = target.start != BASE
        with_vectors = [s for s in sources if known and self.config.has_vector(target.start, s)]
        return {"sources": sources, "with_vectors": with_vectors}

    def source_vectors(self, artefact: Artefact) -> list[Artefact]:
        """The vectors under which the batches of several sources are trained."""
        target = artefact.target
        return [
            self.vector(target.start, Target("language", language), artefact["seed"])
            for language in self.several_sources_params(target).get("with_vectors", [])
        ]


BASE_MODEL = Artefact.of("base")


def target_params(artefact: Artefact) -> dict[str, Any]:
    """Target, start and seed of an artefact as parameters."""
    target = artefact.target
    return {"target": target.label, "start": target.start, "seed": int(artefact["seed"])}


def difference(
    rule: RankRule | None, artefact: Artefact, added: str = "", average: int | None = None
) -> Artefact:
    """The difference of an artefact's target, denoised by a rule or raw. `added` is the vector of
    the round before, from which its full phase started; `average` the number of states that the
    phase averages."""
    target = replace(artefact.target, added=added, average=average)
    same = {"target": target, "seed": artefact["seed"]}
    if rule is None:
        return Artefact.of("full", **same)
    return Artefact.of("denoise", rule=rule.slug(), **same)
