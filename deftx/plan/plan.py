"""What a config asks for: the graph of its artefacts, and the parameters of each.

The workflow asks here and nowhere else, so that its edges and parameters can be tested without it.
Free of torch.
"""

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from deftx.models.base import Base
from deftx.plan.config import NONE, ROUND, Config
from deftx.plan.feasible import check_methods
from deftx.plan.graph import Artefact, Graph, Target
from deftx.plan.sweeps import sweeps
from deftx.plan.user_files import UserFiles, folder_sha256, sha256
from deftx.run.fingerprint import fingerprint
from deftx.store.errors import ConfigError


class Plan(Graph):
    """The artefacts of a config with their parameters."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.files = UserFiles(config)

    def check_files(self) -> None:
        """Raise ConfigError, naming each, if files of the user are missing."""
        self.files.check(self.artefacts())

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

    def params(self, artefact: Artefact) -> dict[str, Any]:
        """What the stage reads of the config, and nothing else: a change of it makes the artefact
        stale. With the fingerprint of the stage's code, and its threads where they matter."""
        find: Callable[[Artefact], dict[str, Any]] = getattr(self, f"_{artefact.stage}_params")
        params = {**find(artefact), "code": _code(artefact.stage)}
        threads = getattr(self.config.threads, artefact.stage, None)
        return params if threads is None else {**params, "threads": threads}

    def _download_params(self, artefact: Artefact) -> dict[str, Any]:
        dataset = self.config.datasets[artefact["dataset"]]
        fill = partial(dataset.fill, language=artefact["language"], split=artefact["split"])
        hub = dataset.hub
        return {
            **dict(artefact.wildcards),
            "url": dataset.url and fill(dataset.url),
            "hub": hub and {**hub.model_dump(), "file": fill(hub.file)},
            "given": self._given(artefact),
        }

    def _given(self, artefact: Artefact) -> str | None:
        """The checksum of the user's own copy of a file that could be fetched; None if it is to be
        fetched, or was.

        What a finished download says stands as long as the file is as it found it. So fetching a
        file does not make its own download stale, and another copy in its place does.
        """
        file, done = self.files.of(artefact), Path(self.root) / artefact.path
        found = json.loads(done.read_text(encoding="utf-8")) if done.is_file() else None
        if not file.is_file():
            return found and found["given"]
        # Not hashed as long as nothing speaks for a change: these files may have gigabytes.
        if found and file.stat().st_size == found["bytes"]:
            if file.stat().st_mtime <= done.stat().st_mtime:
                return found["given"]
            if sha256(file) == found["sha256"]:
                return found["given"]
        return sha256(file)

    def _data_params(self, artefact: Artefact) -> dict[str, Any]:
        dataset = self.files.dataset(artefact["dataset"])
        path = self.files.of(artefact)
        # The checksum of what can be fetched is an input.
        known = not dataset.remote and path.is_file()
        return {
            **dict(artefact.wildcards),
            "columns": dataset.columns.model_dump(),
            "labels": dataset.labels,
            "quoting": dataset.quoting,
            "header": dataset.header,
            "format": dataset.format,
            "limit": dataset.limit.get(artefact["language"]),
            "sha256": sha256(path) if known else None,
        }

    def _trim_params(self, artefact: Artefact) -> dict[str, Any]:
        other = self.config.datasets[artefact["dataset"]].without_nearest
        assert other is not None
        return {**dict(artefact.wildcards), "among": other.among}

    def _clean_params(self, artefact: Artefact) -> dict[str, Any]:
        assert self.config.cleaning is not None
        return {
            **dict(artefact.wildcards),
            "datasets": [part["dataset"] for part in self.inputs(artefact)["text"]],
            "cleaning": self.config.cleaning.model_dump(),
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
        folder = self.files.base_folder()
        if folder is None:
            return {"id": base.model, "revision": base.revision}
        return {"id": folder.name, "content": folder_sha256(folder)}

    def _convert_params(self, artefact: Artefact) -> dict[str, Any]:
        target = Target.parse(artefact["target"])
        foreign = self.row(artefact).vector
        assert foreign is not None
        params: dict[str, Any] = dict(artefact.wildcards)
        if target.kind == "task":
            params["classes"] = self.config.tasks[target.name].classes
            params["stored_classes"] = foreign.classes_of(target.name)
        if revision := foreign.revision_of(target.name):
            return {**params, "id": foreign.source_of(target.name), "revision": revision}
        file = self.files.vector(artefact)
        return {**params, "content": sha256(file) if file else None}

    def _full_params(self, artefact: Artefact) -> dict[str, Any]:
        target = Target.parse(artefact["target"])
        before = ROUND.search(target.added)
        number = int(before[1]) + 1 if before else 1
        return {**self._difference_params(artefact), "round": number}

    def _difference_params(self, artefact: Artefact) -> dict[str, Any]:
        """What a training of the model's own weights depends on."""
        params = self._training_params(artefact)
        target = Target.parse(artefact["target"])
        if target.kind == "task" and (task := self.config.tasks[target.name]).more_sources:
            with_vectors = self.sources_with_vectors(target)
            params |= {"sources": task.sources, "with_vectors": with_vectors}
        return params

    def _training_params(self, artefact: Artefact) -> dict[str, Any]:
        """What every training of a target depends on, whatever is trained."""
        target = Target.parse(artefact["target"])
        params = {**self._target_params(artefact), "engine": self.config.engine.model_dump()}
        if target.kind == "language":
            return {**params, "language": self.config.language_training.model_dump()}
        task = self.config.tasks[target.name]
        return {**params, "classes": task.classes, "task": task.training.model_dump()}

    @staticmethod
    def _target_params(artefact: Artefact) -> dict[str, Any]:
        target = Target.parse(artefact["target"])
        return {"target": target.label, "start": target.start, "seed": int(artefact["seed"])}

    def _denoise_params(self, artefact: Artefact) -> dict[str, Any]:
        kind = Target.parse(artefact["target"]).kind
        rule = next(
            rule
            for method in self.config.methods
            if (rule := self._row(method, kind).denoise) is not None
            and rule.slug() == artefact["rule"]
        )
        return {"rule": rule.model_dump(), **self._target_params(artefact)}

    def _mask_params(self, artefact: Artefact) -> dict[str, Any]:
        row = self.row(artefact)
        return {
            "method": artefact["method"],
            **self._target_params(artefact),
            "selection": row.selection.model_dump(),
            "round": self.round(artefact),
            "rounds": row.rounds,
        }

    def _sparse_params(self, artefact: Artefact) -> dict[str, Any]:
        row = self.row(artefact)
        return {
            **self._difference_params(artefact),
            "round": self.round(artefact),
            "rounds": row.rounds,
            "method": artefact["method"],
            "retrain": row.retrain,
            "learning_rate": row.learning_rate,
        }

    def _adapter_params(self, artefact: Artefact) -> dict[str, Any]:
        row = self.row(artefact)
        assert row.adapter is not None
        language = Target.parse(artefact["target"]).kind == "language"
        return {
            **self._training_params(artefact),
            "method": artefact["method"],
            "adapter": row.adapter.relevant(language=language),
            "learning_rate": row.learning_rate,
        }

    def _gate_params(self, artefact: Artefact) -> dict[str, Any]:
        row = self.row(artefact)
        assert row.gate is not None
        return {
            **self._training_params(artefact),
            "method": artefact["method"],
            "gate": row.gate.model_dump(),
        }

    def _gated_params(self, artefact: Artefact) -> dict[str, Any]:
        rate = self.row(artefact).learning_rate
        return {**self._gate_params(artefact), "learning_rate": rate}

    def _lora_params(self, artefact: Artefact) -> dict[str, Any]:
        row = self.row(artefact)
        assert row.lora is not None
        return {
            **self._training_params(artefact),
            "method": artefact["method"],
            "lora": row.lora.model_dump(),
            "budget": row.selection.budget,
            "learning_rate": row.learning_rate,
        }

    def _compose_params(self, artefact: Artefact) -> dict[str, Any]:
        system = self.config.systems[artefact["system"]]
        return {
            **dict(artefact.wildcards),
            "seed": int(artefact["seed"]),
            "task_scale": system.task_scale,
            "language_scale": system.language_scale,
            "combine": system.combine and system.combine.model_dump(),
        }

    def _evaluate_params(self, artefact: Artefact) -> dict[str, Any]:
        task = self.config.tasks[artefact["task"]]
        return {
            **dict(artefact.wildcards),
            "seed": int(artefact["seed"]),
            "classes": task.classes,
            "max_length": task.training.max_length,
        }

    def _config_params(self, artefact: Artefact) -> dict[str, Any]:
        return {"config": self.config.model_dump_json()}

    def _diagnostics_params(self, artefact: Artefact) -> dict[str, Any]:
        task = artefact["task"]
        return {
            **dict(artefact.wildcards),
            "source": self.config.tasks[task].source,
            "languages": self.config.task_languages(task),
            "seeds": self.config.seeds,
        }

    def _coverage_params(self, artefact: Artefact) -> dict[str, Any]:
        tables = self._tables_params(artefact)
        sources = [source for task in tables["tasks"].values() for source in task["sources"]]
        return {"sources": list(dict.fromkeys(sources)), "names": tables["names"]}

    def _tables_params(self, artefact: Artefact) -> dict[str, Any]:
        base = self.config.base.model or f"{self.config.run}-base"
        return {
            "systems": self.config.evaluated_systems,
            "seeds": self.config.seeds,
            "reference": self.config.compared_with,
            "groups": self.config.groups,
            "base_name": base,
            "tasks": {
                name: {
                    "metric": task.training.metric,
                    "source": task.source,
                    "sources": task.sources,
                    "dataset": task.test.dataset,
                    "systems": self.config.task_systems(name),
                    "languages": self.config.task_languages(name),
                }
                for name, task in self.config.tasks.items()
                if self.config.task_languages(name)
            },
            "names": {key: lang.name or key for key, lang in self.config.languages.items()},
            "without_text": self.config.without_vector,
        }

    _claims_params = _costs_params = _cards_params = _summary_params = _tables_params

    def _figures_params(self, artefact: Artefact) -> dict[str, Any]:
        """Those of the tables, with what a line can be drawn against."""
        config = self.config
        distances = config.world.languages if config.world else {}
        plain = [
            name
            for name in config.evaluated_systems
            if (system := config.systems[name]).language == NONE
            and self._row(system.task, "task").stage == "full"
        ]
        return {
            **self._tables_params(artefact),
            "sweeps": sweeps(config),
            "distances": {key: d for key, d in distances.items() if key in config.languages},
            "zero_shot": plain[0] if plain else None,
        }


@cache
def _code(stage: str) -> str:
    return fingerprint(stage)
