"""From a config to artefacts: which there are, what each is made from, and with what parameters.

The workflow asks here and nowhere else, so that the edges of its graph can be tested without it.
Free of torch.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from deftx.artefact import file_sha256
from deftx.base import Base
from deftx.config import NONE, OWN_TEXT, Config, ConfigError, is_path
from deftx.feasible import check_methods
from deftx.fingerprint import fingerprint
from deftx.model_folder import MODEL_FILES, folder_sha256
from deftx.settings.data import Columns, Dataset
from deftx.settings.method import Kind, ObservedShares, Row, System

PATTERNS = {
    "data": "data/{dataset}/{language}/{split}.parquet",
    "world": "data/{dataset}/{language}/{split}.parquet",
    "base": "base/model.safetensors",
    "full": "full/{target}/seed{seed}/model.safetensors",
    "denoise": "denoise/{rule}/{target}/seed{seed}.safetensors",
    "mask": "mask/{method}/{target}/seed{seed}.safetensors",
    "sparse": "sparse/{method}/{target}/seed{seed}/sft_model.safetensors",
    "compose": "compose/{system}/{task}/{language}/seed{seed}.safetensors",
    "evaluate": "evaluate/{system}/{task}/{language}/seed{seed}.safetensors",
    "tables": "tables/transfer.csv",
    "figures": "figures/transfer.svg",
}
"""Stage → its main artefact below results/{run}/. `{target}` is `lang-<language>`, or
`task-<task>/<start>`; `{rule}` is the slug of a rank rule."""


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


class Plan:
    """What a config asks for."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.root = f"results/{config.run}"

    # What there is

    def artefacts(self) -> list[Artefact]:
        """Every artefact that the config asks for, inputs before what is made from them."""
        done: dict[Artefact, None] = {}

        def visit(artefact: Artefact) -> None:
            if artefact not in done:
                for parts in self.inputs(artefact).values():
                    for part in parts:
                        visit(part)
                done[artefact] = None

        visit(Artefact.of("tables"))
        visit(Artefact.of("figures"))
        return list(done)

    def evaluations(self) -> list[Artefact]:
        """Every system on every task in every language with every seed."""
        return [
            Artefact.of("evaluate", system=system, task=task, language=language, seed=seed)
            for task in self.config.tasks
            for system in self.config.systems
            for language in self.config.task_languages(task)
            for seed in self.config.seeds
        ]

    # What it is made from

    def inputs(self, artefact: Artefact) -> Inputs:
        """Role → artefacts that go into this one; a stage's roles are always the same, some of
        them empty."""
        find: Callable[[Artefact], Inputs] = getattr(self, f"_{artefact.stage}_inputs")
        return find(artefact)

    def _data_inputs(self, artefact: Artefact) -> Inputs:
        return {}

    _world_inputs = _data_inputs

    def _base_inputs(self, artefact: Artefact) -> Inputs:
        pretrain = self.config.base.pretrain
        if pretrain is None:
            return {"text": []}
        return {"text": [self.items(pretrain.text, key, "train") for key in pretrain.languages]}

    def _full_inputs(self, artefact: Artefact) -> Inputs:
        return {
            "base": [Artefact.of("base")],
            **self._target_data(artefact["target"]),
            "start_vector": self._start(artefact),
        }

    def _denoise_inputs(self, artefact: Artefact) -> Inputs:
        return {
            "base": [Artefact.of("base")],
            "full": [self._same_target("full", artefact)],
            "start_vector": self._start(artefact),
        }

    def _mask_inputs(self, artefact: Artefact) -> Inputs:
        row = self._row(artefact)
        looks, shares = row.selection.score == "magnitude", row.selection.shares
        observed = shares.observed if isinstance(shares, ObservedShares) else None
        return {
            "base": [Artefact.of("base")],
            "delta": [self._difference(row, artefact)] if looks else [],
            "start_vector": self._start(artefact) if looks and not row.denoise else [],
            "observed": (
                [self._same_target("mask", artefact, method=observed)] if observed else []
            ),
        }

    def _sparse_inputs(self, artefact: Artefact) -> Inputs:
        row = self._row(artefact)
        return {
            "base": [Artefact.of("base")],
            "mask": [self._same_target("mask", artefact, method=artefact["method"])],
            **self._target_data(artefact["target"]),
            "start_vector": self._start(artefact),
            "delta": [] if row.retrain else [self._difference(row, artefact)],
        }

    def _compose_inputs(self, artefact: Artefact) -> Inputs:
        task, language = self._vectors(artefact)
        return {
            "base": [Artefact.of("base")],
            "task_vector": [task],
            "language_vector": [language] if language else [],
        }

    def _evaluate_inputs(self, artefact: Artefact) -> Inputs:
        task = self.config.tasks[artefact["task"]]
        vector, language = self._vectors(artefact)
        # A composed vector that is sparse holds all; dense ones are added in memory.
        dense = vector.stage != "sparse" or (language and language.stage != "sparse")
        return {
            "base": [Artefact.of("base")],
            "composed": [Artefact.of("compose", **dict(artefact.wildcards))],
            "test": [self.items(task.test.dataset, artefact["language"], task.test.split)],
            "task_vector": [vector] if dense else [],
            "language_vector": [language] if dense and language else [],
            "start_vector": self._start(vector) if dense else [],
        }

    def _tables_inputs(self, artefact: Artefact) -> Inputs:
        return {"evaluated": self.evaluations()}

    def _figures_inputs(self, artefact: Artefact) -> Inputs:
        vectors = dict.fromkeys(
            vector for e in self.evaluations() for vector in self._vectors(e) if vector
        )
        first = [v for v in vectors if v["seed"] == str(self.config.seeds[0])]
        masks = [
            self._same_target("mask", v, method=v["method"]) for v in first if v.stage == "sparse"
        ]
        needed = [part for mask in masks for part in self.inputs(mask)["delta"]]
        denoised = dict.fromkeys(a for a in [*first, *needed] if a.stage == "denoise")
        return {
            "base": [Artefact.of("base")],
            "evaluated": self.evaluations(),
            "masks": masks,
            "denoised": list(denoised),
        }

    # With what parameters

    def params(self, artefact: Artefact) -> dict[str, Any]:
        """What the stage reads of the config, and nothing else: a change of it makes the artefact
        stale. With the fingerprint of the stage's code, and its threads where they matter."""
        find: Callable[[Artefact], dict[str, Any]] = getattr(self, f"_{artefact.stage}_params")
        params = {**find(artefact), "code": _code(artefact.stage)}
        threads = getattr(self.config.threads, artefact.stage, None)
        return params if threads is None else {**params, "threads": threads}

    def _data_params(self, artefact: Artefact) -> dict[str, Any]:
        dataset = self._dataset(artefact["dataset"])
        path = self.file(artefact)
        return {
            **dict(artefact.wildcards),
            "columns": dataset.columns.model_dump(),
            "labels": dataset.labels,
            "quoting": dataset.quoting,
            "sha256": _sha256(path) if path.is_file() else None,
        }

    def _world_params(self, artefact: Artefact) -> dict[str, Any]:
        dataset, world = self.config.datasets[artefact["dataset"]], self.config.world
        assert world is not None
        language = artefact["language"]
        # Only its own distance: so that another language added leaves this one alone.
        alone = {**world.model_dump(), "languages": {language: world.languages[language]}}
        return {
            **dict(artefact.wildcards),
            "kind": dataset.world,
            "items": dataset.items[artefact["split"]],  # type: ignore[index]
            "world": alone,
        }

    def _base_params(self, artefact: Artefact) -> dict[str, Any]:
        base = self.config.base
        if base.pretrain is not None:
            return {"id": f"{self.config.run}-base", "pretrain": base.pretrain.model_dump()}
        assert base.model is not None
        folder = self.base_folder()
        if folder is None:
            return {"id": base.model, "revision": base.revision}
        return {"id": folder.name, "content": _folder_sha256(folder)}

    def _full_params(self, artefact: Artefact) -> dict[str, Any]:
        target, start = _split(artefact["target"])
        kind, name = _kind(target)
        params: dict[str, Any] = {
            "target": target,
            "start": start,
            "seed": int(artefact["seed"]),
            "engine": self.config.engine.model_dump(),
        }
        if kind == "language":
            return {**params, "language": self.config.language_training.model_dump()}
        task = self.config.tasks[name]
        return {**params, "classes": task.classes, "task": task.training.model_dump()}

    def _denoise_params(self, artefact: Artefact) -> dict[str, Any]:
        target, start = _split(artefact["target"])
        rule = next(
            rule
            for method in self.config.methods
            if (rule := self.config.row(method, _kind(target)[0]).denoise) is not None
            and rule.slug() == artefact["rule"]
        )
        seed = int(artefact["seed"])
        return {"rule": rule.model_dump(), "target": target, "start": start, "seed": seed}

    def _mask_params(self, artefact: Artefact) -> dict[str, Any]:
        target, start = _split(artefact["target"])
        return {
            "method": artefact["method"],
            "target": target,
            "start": start,
            "seed": int(artefact["seed"]),
            "selection": self._row(artefact).selection.model_dump(),
        }

    def _sparse_params(self, artefact: Artefact) -> dict[str, Any]:
        row = self._row(artefact)
        return {
            **self._full_params(artefact),
            "method": artefact["method"],
            "retrain": row.retrain,
            "learning_rate": row.learning_rate,
        }

    def _compose_params(self, artefact: Artefact) -> dict[str, Any]:
        system = self.config.systems[artefact["system"]]
        return {
            **dict(artefact.wildcards),
            "seed": int(artefact["seed"]),
            "task_scale": system.task_scale,
            "language_scale": system.language_scale,
        }

    def _evaluate_params(self, artefact: Artefact) -> dict[str, Any]:
        task = self.config.tasks[artefact["task"]]
        return {
            **dict(artefact.wildcards),
            "seed": int(artefact["seed"]),
            "classes": task.classes,
            "max_length": task.training.max_length,
        }

    def _tables_params(self, artefact: Artefact) -> dict[str, Any]:
        return {
            "systems": list(self.config.systems),
            "tasks": {
                name: {
                    "metric": task.training.metric,
                    "source": task.source,
                    "languages": self.config.task_languages(name),
                }
                for name, task in self.config.tasks.items()
                if self.config.task_languages(name)
            },
            "names": {key: lang.name or key for key, lang in self.config.languages.items()},
            "without_text": [k for k in self.config.languages if not self.config.has_text(k)],
        }

    _figures_params = _tables_params

    # Parts

    def items(self, dataset: str, language: str, split: str) -> Artefact:
        """A split of one language, made by `world` or read by `data`."""
        world = dataset in self.config.datasets and self.config.datasets[dataset].world
        stage = "world" if world else "data"
        return Artefact.of(stage, dataset=dataset, language=language, split=split)

    def file(self, artefact: Artefact) -> Path:
        """The user's file that a `data` artefact is read from."""
        dataset = self._dataset(artefact["dataset"])
        language, split = artefact["language"], artefact["split"]
        if artefact["dataset"] == OWN_TEXT:
            return self.locate(self.config.languages[language].text)
        assert dataset.files is not None
        name = dataset.files.replace("{language}", dataset.aliases.get(language, language))
        return self.locate(name.replace("{split}", dataset.splits.get(split, split)))  # type: ignore[call-overload]

    def locate(self, path: str) -> Path:
        """A path of the config: as it is if absolute, else below data_dir, $DEFTX_DATA, or the
        working folder, the first of these that is set."""
        folder = self.config.data_dir or os.environ.get("DEFTX_DATA") or "."
        return Path(os.path.expanduser(folder)) / os.path.expanduser(path)

    def base_folder(self) -> Path | None:
        """The local folder of the base, or None if it is a hub id or is made here."""
        model = self.config.base.model
        if model is None or not (self.locate(model) / "config.json").is_file():
            return None
        return self.locate(model)

    def data_folder_is_known(self) -> bool:
        """Whether the config or the environment says where relative paths start."""
        return bool(self.config.data_dir or os.environ.get("DEFTX_DATA"))

    def check_files(self) -> None:
        """Raise ConfigError, naming each, if files of the user are missing."""
        if missing := self.missing_files():
            hint = "" if self.data_folder_is_known() else "; set data_dir or $DEFTX_DATA"
            raise ConfigError("\n".join([f"missing{hint}:", *(f"  {line}" for line in missing)]))

    def methods(self) -> dict[str, dict[Kind, Row]]:
        """Every method that some system uses, for the kinds of target for which it does."""
        rows = {
            name: {kind: self.config.row(name, kind) for kind in self._kinds(name)}
            for name in self.config.methods
        }
        return {name: kinds for name, kinds in rows.items() if kinds}

    def check_base(self) -> None:
        """Raise ConfigError if a method cannot work on the base that is there. One that is still to
        be made is checked by the job that makes it."""
        artefact = Artefact.of("base")
        folder = (Path(self.root) / artefact.path).parent
        if not (folder / "backbone.json").is_file():
            return
        base = Base.load(folder)
        if {k: v for k, v in base.source.items() if v is not None} != self._base_params(artefact):
            return
        try:
            check_methods(base, self.methods())
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def missing_files(self) -> list[str]:
        """A line for each user's file that is not there, naming who needs it."""
        lines = []
        for artefact in self.artefacts():
            if artefact.stage == "data" and not (path := self.file(artefact)).is_file():
                who, language = artefact["dataset"], artefact["language"]
                key = f"languages.{language}.text" if who == OWN_TEXT else f"datasets.{who}.files"
                split = "" if who == OWN_TEXT else f" ({artefact['split']} of {language})"
                lines.append(f"{key}{split}: no file {path}")
        model = self.config.base.model
        if model and self.base_folder() is None and (model.startswith(("/", ".", "~"))):
            lines.append(f"base.model: no model folder {self.locate(model)}")
        return lines

    def _dataset(self, name: str) -> Dataset:
        if name == OWN_TEXT:
            return Dataset(files="", columns=Columns())
        return self.config.datasets[name]

    def _target_data(self, target: str) -> Inputs:
        kind, name = _kind(_split(target)[0])
        if kind == "task":
            task = self.config.tasks[name]
            return {
                "train": [self.items(task.train.dataset, task.source, task.train.split)],
                "valid": [self.items(task.valid.dataset, task.source, task.valid.split)],
            }
        text = self.config.languages[name].text
        text = OWN_TEXT if is_path(text) else text
        return {"train": [self.items(text, name, "train")], "valid": []}

    def _start(self, artefact: Artefact) -> list[Artefact]:
        """The vector that a task starts from, if it does not start at the base."""
        target, start = _split(artefact["target"])
        if start == "base":
            return []
        source = self.config.tasks[_kind(target)[1]].source
        seed = artefact["seed"]
        return [Artefact.of("sparse", method=start, target=f"lang-{source}", seed=seed)]

    def _row(self, artefact: Artefact) -> Row:
        return self.config.row(artefact["method"], _kind(artefact["target"])[0])

    def _kinds(self, method: str) -> Iterator[Kind]:
        """The kinds of target for which a method is used."""
        systems = self.config.systems.values()
        observers = {
            shares.observed
            for name in self.config.methods
            for kind in ("task", "language")
            if isinstance(shares := self.config.row(name, kind).selection.shares, ObservedShares)
        }
        if method in observers or any(system.task == method for system in systems):
            yield "task"
        if method in {*observers, self.config.task_start} or any(
            system.language == method for system in systems
        ):
            yield "language"

    @staticmethod
    def _same_target(stage: str, artefact: Artefact, **wildcards: str) -> Artefact:
        return Artefact.of(stage, target=artefact["target"], seed=artefact["seed"], **wildcards)

    def _difference(self, row: Row, artefact: Artefact) -> Artefact:
        """The (denoised) difference that a method looks at."""
        if row.denoise is None:
            return self._same_target("full", artefact)
        return self._same_target("denoise", artefact, rule=row.denoise.slug())

    def _vectors(self, artefact: Artefact) -> tuple[Artefact, Artefact | None]:
        """The task vector and the language vector of a system; none where the system has none or
        the language has no text."""
        system: System = self.config.systems[artefact["system"]]
        target = f"task-{artefact['task']}/{self.config.task_start}"
        task = self._vector(system.task, target, artefact["seed"])
        language = artefact["language"]
        if system.language == NONE or not self.config.has_text(language):
            return task, None
        return task, self._vector(system.language, f"lang-{language}", artefact["seed"])

    def _vector(self, method: str, target: str, seed: str) -> Artefact:
        row = self.config.row(method, _kind(target)[0])
        sparse = Artefact.of("sparse", method=method, target=target, seed=seed)
        return self._difference(row, sparse) if row.dense else sparse


def _split(target: str) -> tuple[str, str]:
    """`task-sentiment/base` → (`task-sentiment`, `base`); a language always starts at the base."""
    name, _, start = target.partition("/")
    return name, start or "base"


def _kind(target: str) -> tuple[Kind, str]:
    """`lang-ace` → (language, ace); `task-sentiment/base` → (task, sentiment)."""
    prefix, _, name = target.partition("/")[0].partition("-")
    return ("language" if prefix == "lang" else "task"), name


@cache
def _code(stage: str) -> str:
    return fingerprint(stage)


_sha256 = cache(file_sha256)


@cache
def _folder_sha256(folder: Path) -> str:
    missing = [name for name in MODEL_FILES[-1:] if not (folder / name).is_file()]
    if missing:
        raise ConfigError(f"base.model: no {missing[0]} in {folder}")
    return folder_sha256(folder)
