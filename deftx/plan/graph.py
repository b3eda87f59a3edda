"""From a config to artefacts: which there are, and what each is made from. Free of torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from deftx.core.vector_files import SFT_STAGES
from deftx.plan.config import BASE, NONE, OWN_TEXT, ROUND, Config, is_path
from deftx.plan.method import Kind, Row, System
from deftx.stages.mask.settings import ObservedShares

PATTERNS = {
    "config": "config.json",
    "download": "download/{dataset}/{language}/{split}.json",
    "data": "data/{dataset}/{language}/{split}.parquet",
    "world": "data/{dataset}/{language}/{split}.parquet",
    "trim": "trim/{dataset}/{language}/{split}.parquet",
    "clean": "clean/{language}.parquet",
    "base": "base/model.safetensors",
    "full": "full/{target}/seed{seed}/model.safetensors",
    "denoise": "denoise/{rule}/{target}/seed{seed}.safetensors",
    "mask": "mask/{method}/{target}/seed{seed}.safetensors",
    "sparse": "sparse/{method}/{target}/seed{seed}/sft_model.safetensors",
    "convert": "convert/{method}/{target}/sft_model.safetensors",
    "adapter": "adapter/{method}/{target}/seed{seed}.safetensors",
    "gate": "gate/{method}/{target}/seed{seed}.safetensors",
    "gated": "gated/{method}/{target}/seed{seed}.safetensors",
    "lora": "lora/{method}/{target}/seed{seed}.safetensors",
    "compose": "compose/{system}/{task}/{language}/seed{seed}.safetensors",
    "evaluate": "evaluate/{system}/{task}/{language}/seed{seed}.safetensors",
    "diagnostics": "diagnostics/{system}/{task}.csv",
    "coverage": "coverage/coverage.csv",
    "tables": "tables/transfer.csv",
    "claims": "tables/claims.csv",
    "figures": "figures/transfer.svg",
    "costs": "costs/systems.csv",
    "cards": "cards/index.md",
    "summary": "summary/index.html",
}
"""Stage → its main artefact below results/{run}/. `{target}` is a `Target` as text, `{rule}` the
slug of a rank rule, `{method}` ends in `.round<i>` before the last of several rounds."""

PAGES = ("tables", "claims", "figures", "costs", "cards", "summary")
"""Stages that end in what is read by people."""

WITHOUT_MANIFEST = ("config", "download", "diagnostics", "coverage", *PAGES)
"""Stages whose artefacts are text, small, and compared by what is in them."""


@dataclass(frozen=True)
class Artefact:
    """One artefact: the stage that makes it, and what stands in its path."""

    stage: str
    wildcards: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, stage: str, **wildcards: Any) -> "Artefact":
        """The artefact of a stage, by its wildcards."""
        return cls(stage, tuple(sorted((name, str(value)) for name, value in wildcards.items())))

    @property
    def path(self) -> str:
        """Where it lies below results/{run}/."""
        return PATTERNS[self.stage].format(**dict(self.wildcards))

    def __getitem__(self, name: str) -> str:
        return dict(self.wildcards)[name]


Inputs = dict[str, list[Artefact]]


@dataclass(frozen=True)
class Target:
    """A language or a task with the weights that its training starts from.

    As text `lang-ace`, `task-nli/base`, `task-nli/lt-sft` (the base plus the source's vector by
    lt-sft). In the full phase of a later round the target's own vector of the round before is
    added: `lang-ace/base+lt-sft.round1`.
    """

    kind: Kind
    name: str
    start: str = BASE
    added: str = ""

    @classmethod
    def parse(cls, text: str) -> "Target":
        """The inverse of `str`."""
        label, _, start = text.partition("/")
        prefix, _, name = label.partition("-")
        start, _, added = (start or BASE).partition("+")
        return cls("language" if prefix == "lang" else "task", name, start, added)

    @property
    def label(self) -> str:
        """`lang-ace` or `task-nli`, as provenance and parameters have it."""
        return f"{'lang' if self.kind == 'language' else 'task'}-{self.name}"

    def __str__(self) -> str:
        if self.added:
            return f"{self.label}/{self.start}+{self.added}"
        return f"{self.label}/{self.start}" if self.kind == "task" else self.label


class Graph:
    """What a config asks for, and what each artefact is made from."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.root = f"results/{config.run}"
        self._row = cache(config.row)  # asked for a handful, ten thousands of times

    # What there is

    def artefacts(self) -> list[Artefact]:
        """Every artefact that the config asks for, inputs before what is made from them."""
        return self._artefacts

    @cached_property
    def _artefacts(self) -> list[Artefact]:
        done: dict[Artefact, None] = {}

        def visit(artefact: Artefact) -> None:
            if artefact not in done:
                for parts in self.inputs(artefact).values():
                    for part in parts:
                        visit(part)
                done[artefact] = None

        for page in PAGES:
            visit(Artefact.of(page))
        return list(done)

    def evaluations(self) -> list[Artefact]:
        """Every system on every task in every language with every seed."""
        return self._evaluations

    @cached_property
    def _evaluations(self) -> list[Artefact]:
        return [
            evaluation
            for task in self.config.tasks
            for system in self.config.task_systems(task)
            for evaluation in self._evaluations_of(system, task)
        ]

    def _evaluations_of(self, system: str, task: str) -> list[Artefact]:
        return [
            Artefact.of("evaluate", system=system, task=task, language=language, seed=seed)
            for language in self.config.task_languages(task)
            for seed in self.config.seeds
        ]

    # What it is made from

    def inputs(self, artefact: Artefact) -> Inputs:
        """Role → artefacts that go into this one; a stage's roles are always the same, some of
        them empty."""
        find: Callable[[Artefact], Inputs] = getattr(self, f"_{artefact.stage}_inputs")
        return find(artefact)

    def _config_inputs(self, artefact: Artefact) -> Inputs:
        return {}

    _world_inputs = _download_inputs = _config_inputs

    def _data_inputs(self, artefact: Artefact) -> Inputs:
        dataset = self.config.datasets.get(artefact["dataset"])
        same = Artefact("download", artefact.wildcards)
        return {"download": [same] if dataset and dataset.remote else []}

    def _trim_inputs(self, artefact: Artefact) -> Inputs:
        other = self.config.datasets[artefact["dataset"]].without_nearest
        assert other is not None
        whole = {"dataset": artefact["dataset"], "language": artefact["language"]}
        return {
            "splits": [Artefact.of("data", **whole, split=split) for split in other.among],
            "made_from": [self.items(other.dataset, other.language, other.split)],
        }

    def _clean_inputs(self, artefact: Artefact) -> Inputs:
        language, cleaning = artefact["language"], self.config.cleaning
        assert cleaning is not None
        return {
            "text": self._texts(language),
            "evaluation": self._evaluation_items(language) if cleaning.evaluation else [],
        }

    def _base_inputs(self, artefact: Artefact) -> Inputs:
        pretrain = self.config.base.pretrain
        if pretrain is None:
            return {"text": []}
        return {"text": [self.items(pretrain.text, key, "train") for key in pretrain.languages]}

    def _full_inputs(self, artefact: Artefact) -> Inputs:
        target = Target.parse(artefact["target"])
        alone = replace(target, added="")
        before = self._method("sparse", target.added, alone, artefact)
        return {
            **self._training_inputs(artefact),
            "round_vector": [before] if target.added else [],
            "source_vector": self._source_vectors(artefact),
        }

    def _denoise_inputs(self, artefact: Artefact) -> Inputs:
        return {
            "base": [Artefact.of("base")],
            "full": [self._same_target("full", artefact)],
            "start_vector": self._start(artefact),
        }

    def _mask_inputs(self, artefact: Artefact) -> Inputs:
        row = self.row(artefact)
        looks, shares = row.selection.score == "magnitude", row.selection.shares
        observed = shares.observed if isinstance(shares, ObservedShares) else None
        return {
            "base": [Artefact.of("base")],
            "delta": [self._difference(row, artefact)] if looks else [],
            "start_vector": self._start(artefact) if looks and not row.denoise else [],
            "observed": (
                [self._same_target("mask", artefact, method=observed)] if observed else []
            ),
            "chosen": self._round_before("mask", artefact),
        }

    def _sparse_inputs(self, artefact: Artefact) -> Inputs:
        row = self.row(artefact)
        return {
            **self._training_inputs(artefact),
            "mask": [self._same_target("mask", artefact, method=artefact["method"])],
            "delta": [] if row.retrain else [self._difference(row, artefact)],
            "round_vector": self._round_before("sparse", artefact),
            "source_vector": self._source_vectors(artefact),
        }

    def _convert_inputs(self, artefact: Artefact) -> Inputs:
        return {"base": [Artefact.of("base")]}

    def _adapter_inputs(self, artefact: Artefact) -> Inputs:
        inputs = self._training_inputs(artefact)
        del inputs["start_vector"]
        return {**inputs, "language_adapter": self._start(artefact)}

    def _gate_inputs(self, artefact: Artefact) -> Inputs:
        return self._training_inputs(artefact)

    def _gated_inputs(self, artefact: Artefact) -> Inputs:
        gates = self._same_target("gate", artefact, method=artefact["method"])
        return {**self._training_inputs(artefact), "gates": [gates]}

    _lora_inputs = _gate_inputs

    def _compose_inputs(self, artefact: Artefact) -> Inputs:
        task, language = self.vectors(artefact)
        return {
            "base": [Artefact.of("base")],
            "task_vector": [task],
            "language_vector": [language] if language else [],
        }

    def _evaluate_inputs(self, artefact: Artefact) -> Inputs:
        task = self.config.tasks[artefact["task"]]
        vector, language = self.vectors(artefact)
        combine = self.config.systems[artefact["system"]].combine
        # A composed vector that is sparse holds all; others are put together in memory.
        apart = combine or any(v.stage not in SFT_STAGES for v in (vector, language) if v)
        return {
            "base": [Artefact.of("base")],
            "composed": [Artefact.of("compose", **dict(artefact.wildcards))],
            "test": [self.items(task.test.dataset, artefact["language"], task.test.split)],
            "task_vector": [vector] if apart else [],
            "language_vector": [language] if apart and language else [],
            "start_vector": self._start(vector) if apart else [],
        }

    def _diagnostics_inputs(self, artefact: Artefact) -> Inputs:
        evaluated = self._evaluations_of(artefact["system"], artefact["task"])
        pairs = [self.vectors(e) for e in evaluated]
        tasks = dict.fromkeys(task for task, _ in pairs)
        return {
            "base": [Artefact.of("base")],
            "vectors": [*tasks, *dict.fromkeys(language for _, language in pairs if language)],
            "start_vector": [start for task in tasks for start in self._start(task)],
            "evaluated": evaluated,
        }

    def _coverage_inputs(self, artefact: Artefact) -> Inputs:
        languages = [key for key in self.config.languages if self.config.has_text(key)]
        tasks = [task for task in self.config.tasks if self.config.task_languages(task)]
        targets = [
            *(Target("language", key) for key in languages),
            *(Target("task", task) for task in tasks),
        ]
        train = [part for target in targets for part in self._data_of(target)["train"]]
        tests = [self._evaluate_inputs(e)["test"][0] for e in self.evaluations()]
        return {"base": [Artefact.of("base")], "data": list(dict.fromkeys([*train, *tests]))}

    def _tables_inputs(self, artefact: Artefact) -> Inputs:
        return {"evaluated": self.evaluations()}

    def _claims_inputs(self, artefact: Artefact) -> Inputs:
        return {
            "evaluated": self.evaluations(),
            "diagnostics": self._diagnostics(),
            "coverage": [Artefact.of("coverage")],
        }

    def _figures_inputs(self, artefact: Artefact) -> Inputs:
        first = str(self.config.seeds[0])
        all_vectors = self._all_vectors()
        vectors = [v for v in all_vectors if v.stage != "convert" and v["seed"] == first]
        masks = [
            self._same_target("mask", vector, method=vector["method"])
            for vector in vectors
            if vector.stage == "sparse"
        ]
        needed = [part for mask in masks for part in self.inputs(mask)["delta"]]
        masks += [vector for vector in all_vectors if vector.stage == "convert"]
        denoised = dict.fromkeys(a for a in [*vectors, *needed] if a.stage == "denoise")
        return {
            "base": [Artefact.of("base")],
            "masks": masks,
            "denoised": list(denoised),
            **self._claims_inputs(artefact),
        }

    def _costs_inputs(self, artefact: Artefact) -> Inputs:
        return {"config": [Artefact.of("config")], "evaluated": self.evaluations()}

    def _cards_inputs(self, artefact: Artefact) -> Inputs:
        return {
            **self._costs_inputs(artefact),
            "vectors": [v for v in self._all_vectors() if v.stage in SFT_STAGES],
        }

    def _summary_inputs(self, artefact: Artefact) -> Inputs:
        pages = [page for page in PAGES if page != "summary"]
        cleaned = [a for a in self._coverage_inputs(artefact)["data"] if a.stage == "clean"]
        return {
            **{page: [Artefact.of(page)] for page in [*pages, "base", "config", "coverage"]},
            "cleaned": cleaned,
        }

    # Parts

    def items(self, dataset: str, language: str, split: str) -> Artefact:
        """A split of one language, made by `world`, or read by `data` and perhaps trimmed."""
        stage, found = "data", self.config.datasets.get(dataset)
        if found and found.world:
            stage = "world"
        elif found and found.without_nearest:
            stage = "trim"
        return Artefact.of(stage, dataset=dataset, language=language, split=split)

    def _texts(self, language: str) -> list[Artefact]:
        """The text of a language as its datasets have it."""
        return [
            self.items(OWN_TEXT if is_path(text) else text, language, "train")
            for text in self.config.languages[language].texts
        ]

    def _evaluation_items(self, language: str) -> list[Artefact]:
        """What tasks are tested or validated on in a language."""
        found = []
        for name, task in self.config.tasks.items():
            languages = self.config.task_languages(name)
            if language in languages:
                found.append(self.items(task.test.dataset, language, task.test.split))
            if languages and language == task.source:
                found.append(self.items(task.valid.dataset, language, task.valid.split))
        return list(dict.fromkeys(found))

    def methods(self) -> dict[str, dict[Kind, Row]]:
        """Every method that some system uses, for the kinds of target for which it does."""
        rows = {
            name: {kind: self._row(name, kind) for kind in self._kinds(name)}
            for name in self.config.methods
        }
        return {name: kinds for name, kinds in rows.items() if kinds}

    def row(self, artefact: Artefact) -> Row:
        """The method of an artefact, for its kind of target."""
        method = ROUND.sub("", artefact["method"])
        return self._row(method, Target.parse(artefact["target"]).kind)

    def round(self, artefact: Artefact) -> int:
        """Which round of its method an artefact is of, from 1."""
        found = ROUND.search(artefact["method"])
        return int(found[1]) if found else self.row(artefact).rounds

    def vectors(self, artefact: Artefact) -> tuple[Artefact, Artefact | None]:
        """The task vector and the language vector of a system; none where the system has none or
        the language has no text."""
        system: System = self.config.systems[artefact["system"]]
        row = self._row(system.task, "task")
        # What an adapter is trained on top of is another adapter, and no start of its weights; a
        # vector that exists is what it is.
        alone = row.adapter or row.vector
        start = BASE if alone else system.task_start or self.config.task_start
        task = self._vector(system.task, Target("task", artefact["task"], start), artefact)
        language = artefact["language"]
        if system.language == NONE or not self.config.has_vector(system.language, language):
            return task, None
        return task, self._vector(system.language, Target("language", language), artefact)

    def _all_vectors(self) -> list[Artefact]:
        """Every vector of every system, once."""
        pairs = [self.vectors(e) for e in self.evaluations()]
        return list(dict.fromkeys(vector for pair in pairs for vector in pair if vector))

    def _diagnostics(self) -> list[Artefact]:
        return list(
            dict.fromkeys(
                Artefact.of("diagnostics", system=e["system"], task=e["task"])
                for e in self.evaluations()
            )
        )

    def _training_inputs(self, artefact: Artefact) -> Inputs:
        return {
            "base": [Artefact.of("base")],
            **self._data_of(Target.parse(artefact["target"])),
            "start_vector": self._start(artefact),
        }

    def _data_of(self, target: Target) -> Inputs:
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
        return {"train": self._texts(target.name), "valid": []}

    def _start(self, artefact: Artefact) -> list[Artefact]:
        """What the training of a target builds on beside the base: the source language's vector
        that it starts from, or for an adapter the source language's adapter."""
        target = Target.parse(artefact["target"])
        if target.kind == "language":
            return []
        task = self.config.tasks[target.name]
        source = Target("language", task.source)
        if artefact.stage == "adapter":
            if not self.config.has_text(task.source):
                return []
            return [self._method("adapter", artefact["method"], source, artefact)]
        if target.start == BASE or task.more_sources:
            return []
        return [self._vector(target.start, source, artefact)]

    def _source_vectors(self, artefact: Artefact) -> list[Artefact]:
        """The vectors under which the batches of several sources are trained."""
        target = Target.parse(artefact["target"])
        return [
            self._vector(target.start, Target("language", language), artefact)
            for language in self.sources_with_vectors(target)
        ]

    def sources_with_vectors(self, target: Target) -> list[str]:
        """The sources of a task with several of which each has its vector in training."""
        if target.kind == "language" or target.start == BASE:
            return []
        task = self.config.tasks[target.name]
        several = task.sources if task.more_sources else []
        return [key for key in several if self.config.has_vector(target.start, key)]

    def _kinds(self, method: str) -> Iterator[Kind]:
        """The kinds of target for which a method is used."""
        systems = self.config.systems.values()
        observers = {
            shares.observed
            for name in self.config.methods
            for kind in ("task", "language")
            if isinstance(shares := self._row(name, kind).selection.shares, ObservedShares)
        }
        starts = {self.config.task_start, *(system.task_start for system in systems)}
        if method in observers or any(system.task == method for system in systems):
            yield "task"
        if method in {*observers, *starts} or any(
            method in (system.language, system.task if self._stacks(system) else None)
            for system in systems
        ):
            yield "language"

    def _stacks(self, system: System) -> bool:
        """Whether its task method is trained on top of the source's adapter."""
        return self.config.methods[system.task].adapter is not None

    @staticmethod
    def _method(stage: str, method: str, target: Target, like: Artefact) -> Artefact:
        """An artefact of a method, with the seed of another artefact."""
        return Artefact.of(stage, method=method, target=target, seed=like["seed"])

    @staticmethod
    def _same_target(stage: str, artefact: Artefact, **wildcards: str) -> Artefact:
        return Artefact.of(stage, target=artefact["target"], seed=artefact["seed"], **wildcards)

    def _round_before(self, stage: str, artefact: Artefact) -> list[Artefact]:
        """The same of the round before, if there is one."""
        number = self.round(artefact)
        if number == 1:
            return []
        return [self._same_target(stage, artefact, method=self._round_name(artefact, number - 1))]

    def _round_name(self, artefact: Artefact, number: int) -> str:
        return f"{ROUND.sub('', artefact['method'])}.round{number}"

    def _difference(self, row: Row, artefact: Artefact) -> Artefact:
        """The (denoised) difference that a method looks at, in the artefact's round."""
        target = artefact["target"]
        if row.chooses and (number := self.round(artefact)) > 1:
            added = self._round_name(artefact, number - 1)
            target = str(replace(Target.parse(target), added=added))
        same = {"target": target, "seed": artefact["seed"]}
        if row.denoise is None:
            return Artefact.of("full", **same)
        return Artefact.of("denoise", rule=row.denoise.slug(), **same)

    def _vector(self, method: str, target: Target, like: Artefact) -> Artefact:
        row = self._row(method, target.kind)
        if row.stage == "convert":  # whatever the seed
            return Artefact.of("convert", method=method, target=target.label)
        if row.stage in ("full", "denoise"):
            return self._difference(row, Artefact.of("full", target=target, seed=like["seed"]))
        return self._method(row.stage, method, target, like)
