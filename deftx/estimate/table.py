"""The measured speeds that come with the package, in speeds.yaml, and the time of a job by them.

The rule: a job takes `start_s` + steps × `step_ms` of a row of the same device, phase, kind of data
and size of the base, measured with settings that the config permits. Its batch may have other
tokens than the row's: fewer take at most as long; more, up to `SCALED` times as many, take as many
times as long. Beyond this, and without such a row, the time is unknown. Nothing is taken from
another device or base.
"""

import datetime
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from deftx.engine.settings import Count, Engine
from deftx.estimate.work import Amount, Work
from deftx.stages.table import STAGES
from deftx.store.errors import ConfigError
from deftx.store.strict import Strict
from deftx.store.yaml_files import read_yaml

FILE = Path(__file__).with_name("speeds.yaml")

SCALED = 2
"""Up to so many times the tokens of a row, its time is scaled by tokens. Design choice: attention
grows faster than the tokens, but is a small part of a step at the lengths of a config."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]


class Model(Strict):
    """The shape of a base: the entries of its backbone, and what transformers makes it from."""

    parameters: Count
    model_type: str
    config: dict[str, int]


class Row(Strict):
    """A measurement; speeds.yaml explains the fields."""

    device: str
    model: str
    phase: str
    kind: Literal["language", "task"]
    batch: Count
    length: Count
    engine: Engine
    step_ms: Positive
    start_s: Positive | None = None
    peak_gib: Positive | None = None
    date: datetime.date | None
    version: str
    torch: str
    command: str | None

    @field_validator("phase")
    @classmethod
    def _is_a_stage(cls, phase: str) -> str:
        known = [name for name, stage in STAGES.items() if stage.gpus != "none"]
        if phase not in known:
            raise ValueError(f"expected one of {', '.join(known)}, got {phase!r}")
        return phase

    @property
    def tokens(self) -> int:
        """Tokens of a forward pass."""
        return self.batch * self.length

    def permitted(self, engine: Engine) -> bool:
        """Whether a config's engine settings can be those of the measurement."""
        asked, had = engine.model_dump(), self.engine.model_dump()
        del asked["on_out_of_memory"]  # changes nothing while memory suffices
        return all(value in ("auto", had[name]) for name, value in asked.items())

    def __str__(self) -> str:
        settings = self.engine.model_dump(exclude_unset=True)
        start = "start not measured" if self.start_s is None else f"start {self.start_s:g} s"
        peak = "" if self.peak_gib is None else f", peak {self.peak_gib:g} GiB"
        return (
            f"{self.device}, {self.phase}, {self.kind}: {self.step_ms:g} ms for {self.batch} x "
            f"{self.length} tokens, {start}{peak} ({self.model}, "
            f"{', '.join(f'{name} {value}'.lower() for name, value in settings.items())}, "
            f"torch {self.torch}); version {self.version}, {self.date or 'date not recorded'}"
        )


@dataclass(frozen=True)
class Timed:
    """The seconds of a job by a row, and whether the row is of another batch or length."""

    seconds: Amount
    row: Row
    scaled: bool


class Speeds(Strict):
    """The file of speeds."""

    models: dict[str, Model]
    measured: list[Row]

    @model_validator(mode="after")
    def _models_are_known(self) -> "Speeds":
        for number, row in enumerate(self.measured, 1):
            if row.model not in self.models:
                known = ", ".join(self.models)
                raise ValueError(f"row {number}, model: expected one of {known}, got {row.model!r}")
        return self

    @property
    def devices(self) -> list[str]:
        """Every device that was measured, in the order of the file."""
        return list(dict.fromkeys(row.device for row in self.measured))

    def time(
        self, device: str, stage: str, work: Work, parameters: int, engine: Engine
    ) -> Timed | None:
        """The time of a job on a device, for a base with so many `parameters`, by the rule at the
        top; None if it is unknown. Of several rows the nearest in tokens counts, then the last."""
        settings = work.settings
        if settings is None or work.steps is None:
            return None
        shape = settings.batch_size, work.length
        tokens = settings.batch_size * work.length
        rows = [
            row
            for row in self.measured
            if (row.device, row.phase, row.kind) == (device, stage, work.kind)
            and self.models[row.model].parameters == parameters
            and row.permitted(engine)
            and tokens <= SCALED * row.tokens
        ]
        if not rows:
            return None
        row = min(reversed(rows), key=lambda row: abs(log(tokens / row.tokens)))
        passes = work.steps.value * settings.accumulation  # each counted as a step
        each = row.step_ms / 1000 * max(1, tokens / row.tokens)
        fewer = tokens < row.tokens or work.length_at_most
        at_most = work.steps.at_most or settings.accumulation > 1 or fewer
        seconds = Amount((row.start_s or 0) + passes * each, at_most)
        return Timed(seconds, row, scaled=shape != (row.batch, row.length))


def load_speeds(path: Path = FILE) -> Speeds:
    """The speeds of a file, by default those of the package. Raises ConfigError, naming the file,
    the row and the key of all that is wrong, and if the file is missing or no YAML."""
    try:
        return Speeds.model_validate(read_yaml(path))
    except ValidationError as error:
        lines = (f"  {_explained(each)}" for each in error.errors())
        raise ConfigError("\n".join([f"{path}:", *lines])) from None


def _explained(error: ErrorDetails) -> str:
    """`row 3, step_ms: Input should be greater than 0, got -1`."""
    match error["loc"]:
        case ("measured", int(number), *rest):
            place = [f"row {number + 1}", *rest]
        case keys:
            place = list(keys)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] != "value_error":
        message += f", got {error['input']!r}"
    return ": ".join([", ".join(map(str, place)), message] if place else [message])
