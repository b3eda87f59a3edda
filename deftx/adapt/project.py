"""The folder that `deftx adapt` makes for one language and one task."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from deftx.core.sparse_delta import SparseDelta
from deftx.exchange.found import find_vector
from deftx.exchange.model_folder import save_model_folder, with_vectors
from deftx.models.base import Base
from deftx.models.device import available_device
from deftx.models.load import load_tokenizer
from deftx.models.predict import predict
from deftx.store.artefact import read_json, write_json
from deftx.store.errors import ArtefactError
from deftx.store.items import Item

NAME = "project.json"

VECTORS = {
    "task": "vectors/task/sft_model.safetensors",
    "language": "vectors/language/sft_model.safetensors",
}
"""Where the vectors are in a project's folder; each has its own folder, as vectors are shared."""

MODEL = "model"
"""The folder of the model, as transformers loads it."""

SCORE, STRENGTH = "score.json", "strength.json"
"""What labelled items have shown, and which strength of the language vector they have chosen."""


@dataclass(frozen=True)
class Project:
    """A model for one task in one language, and what it was made from.

    Attributes:
        folder: where everything is.
        language: ISO 639-3, where needed with a script.
        name: the language's name.
        task: its name.
        classes: in the order of the model's logits.
        source: the language of the labelled data.
        base: the folder of the base, relative to `folder`.
        max_length: tokens of an item that the model reads.
        facts: all that project.json holds, these included.
    """

    folder: Path
    language: str
    name: str
    task: str
    classes: list[str]
    source: str
    base: str
    max_length: int
    facts: dict[str, Any]
    _models: dict[float, PreTrainedModel] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """The project in a folder. Raises ArtefactError if there is none, or none that is
        finished."""
        folder = Path(folder)
        if not (folder / NAME).is_file():
            raise ArtefactError(f"{folder}: no {NAME}: not a folder made by `deftx adapt`")
        facts = read_json(folder / NAME)
        apart = ("folder", "facts", "_models")
        names = [name for name in cls.__dataclass_fields__ if name not in apart]
        if missing := [name for name in names if name not in facts]:
            raise ArtefactError(f"{folder / NAME}: no {missing[0]!r} in it")
        return cls(folder, facts=facts, **{name: facts[name] for name in names})

    def record(self, **facts: Any) -> None:
        """Add facts to project.json."""
        self.facts.update(facts)
        write_json(self.folder / NAME, self.facts)

    @property
    def is_trained(self) -> bool:
        """Whether the model is there."""
        return (self.folder / MODEL / "model.safetensors").is_file()

    def predict(
        self, items: Sequence[Item], strength: float | None = None, *, with_language: bool = True
    ) -> np.ndarray:
        """Probabilities (items, classes) of items with `text` and perhaps `text_pair`: with the
        language vector at its strength, or at another one, or without it. Raises ArtefactError if
        the model is not there or a file of it is damaged."""
        if strength is None:
            strength = self.strength if with_language else 0.0
        if strength not in self._models:
            self._models[strength] = self.model(strength)
        model = self._models[strength]
        logits = predict(model, items, self.tokenizer, self.max_length)
        found: np.ndarray = logits.double().softmax(1).numpy()
        return found

    @property
    def strength(self) -> float:
        """The multiple of the language vector that the model has: 1, unless labelled items chose
        another."""
        return float(self.facts.get("strength", 1.0))

    @property
    def texts(self) -> list[Item]:
        """The lines that the language vector was trained on."""
        path = self.folder / "data" / f"text-{self.language}.txt"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [{"id": str(n), "text": line} for n, line in enumerate(lines)]

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the base."""
        return load_tokenizer(self._base)

    @cached_property
    def _base(self) -> Base:
        return Base.load(self.folder / self.base)

    def model(self, strength: float | None = None) -> PreTrainedModel:
        """The base with the task's vector and a multiple of the language's, by default `strength`,
        in evaluation mode."""
        strength = self.strength if strength is None else strength
        vectors = []
        for kind, scale in {"task": 1.0, "language": strength}.items():
            vector = SparseDelta.load(self.folder / VECTORS[kind])
            self._base.check(vector.provenance, self.folder / VECTORS[kind])
            vectors += [vector * scale] if scale else []
        model = with_vectors(self._base, vectors, self.classes)
        model.to(available_device())  # type: ignore[arg-type]
        return model

    def write_model(self) -> None:
        """Write the folder of the model, unless it is there and made from these very vectors. It
        names no path of this machine."""
        vectors = [
            {**find_vector(str(self.folder / path)).facts, "name": path}
            for path in VECTORS.values()
        ]
        facts = {"max_length": self.max_length, "vectors": vectors, "strength": self.strength}
        folder = self.folder / MODEL
        if self.is_trained:
            known = read_json(folder / "config.json").get("deftx", {})
            if {name: known.get(name) for name in facts} == facts:
                return
        shutil.rmtree(folder, ignore_errors=True)
        save_model_folder(self.model().cpu(), self._base, folder, facts)
