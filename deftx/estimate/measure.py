"""A short measurement on this machine: a few real steps of each kind that a run takes.

Shapes, settings and the engine are those of the run; weights are random, and tokens are drawn, so
that neither the base nor the data need be there.
"""

import copy
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from deftx.core.parameters import matrices
from deftx.engine.full import fit_everything
from deftx.engine.language import MaskedLanguageModelling
from deftx.engine.objective import Example, Objective
from deftx.engine.session import Session
from deftx.engine.settings import LanguageTraining, Training
from deftx.engine.sparse import fit_entries
from deftx.engine.task import Classification
from deftx.estimate.shape import Shape
from deftx.estimate.sizes import Sizes
from deftx.estimate.work import TRAINING, Work
from deftx.models.device import available_device
from deftx.models.load import untie_decoder
from deftx.plan.config import Task
from deftx.plan.graph import Artefact, Target
from deftx.plan.plan import Plan
from deftx.stages.adapter.math import fresh_adapter
from deftx.stages.adapter.train import fit_adapter
from deftx.stages.gate.math import gate_values, initial_gates
from deftx.stages.gate.train import fit_gated, fit_gates
from deftx.stages.lora.train import fit_factors
from deftx.stages.mask.math import uniform
from deftx.store.artefact import write_json

WARM_UP = {"cpu": 1, "cuda": 5}
"""Steps before those that are timed; on a GPU code is compiled in them."""

SECONDS, STEPS = 10.0, (2, 50)
"""Steps are timed for so long, but at least and at most so many."""

NEVER = 1_000_000

SPECIAL = 5
"""How many tokens are special, the first of the vocabulary."""


class Clock(TrainerCallback):
    """Times steps, from the beginning of one to the beginning of the next, and ends training."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._times: list[float] = []

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Look at the clock, with all done that was begun."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        self._times.append(time.perf_counter())

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """End training once enough steps are timed, the one that ends now not counted."""
        warm = WARM_UP[self._device.type]
        timed = len(self._times) - 1 - warm
        least, most = STEPS
        if timed >= least and (timed >= most or self._times[-1] - self._times[warm] >= SECONDS):
            control.should_training_stop = True

    def seconds(self) -> float:
        """Of a step, in the mean."""
        timed = self._times[WARM_UP[self._device.type] :]
        return (timed[-1] - timed[0]) / (len(timed) - 1)


def measure_speeds(
    plan: Plan,
    shape: Shape,
    sizes: Sizes,
    works: Sequence[tuple[Artefact, Work]],
    path: Path,
    console: Console,
) -> None:
    """Time a few steps of each stage and subject that train, and write after each what
    `deftx.estimate.speeds.of_file` reads. What was measured on this machine for steps of the same
    size is not measured again, so this can be interrupted.

    All examples have the mean length of the run's, or max_length where that is not known.
    """
    device, machine = available_device(), _machine()
    known = _read(path, machine)
    for work, artefact in _kinds(works).items():
        assert work.operations is not None, "the shape is known"
        kind = {"stage": work.stage, "subject": work.subject, "unit": "step"}
        same = {**kind, "operations": work.operations.high}
        if any(same.items() <= one.items() for one in known):
            continue
        console.print(f"measuring a step of {work.stage}, {work.subject} …", highlight=False)
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        torch.set_num_threads(work.threads)
        clock = Clock(device)
        _train(plan, shape, sizes, artefact, round(work.length.high), clock)
        memory = torch.cuda.max_memory_allocated() if on_gpu else None
        known = [one for one in known if not kind.items() <= one.items()]
        known.append({**same, "seconds": clock.seconds(), "memory": memory})
        write_json(path, {"machine": machine, "speeds": known})


def _kinds(works: Sequence[tuple[Artefact, Work]]) -> dict[Work, Artefact]:
    """One job of each stage and subject that train."""
    first: dict[tuple[str, str], tuple[Work, Artefact]] = {}
    for artefact, work in works:
        if work.stage in TRAINING and work.steps is not None:
            first.setdefault((work.stage, work.subject), (work, artefact))
    return dict(first.values())


def _train(
    plan: Plan, shape: Shape, sizes: Sizes, artefact: Artefact, length: int, clock: Clock
) -> None:
    """Train as the stage of the artefact does, until the clock ends it."""
    target = Target.parse(artefact["target"])
    if target.kind == "language":
        model, objective, settings = _language(plan.config.language_training, shape, length)
    else:
        task = plan.config.tasks[target.name]
        model, objective, settings = _task(task, shape, length)
    session = Session(engine=plan.config.engine, callbacks=[clock])
    if artefact.stage == "full":
        fit_everything(model, objective, settings, session)
        return
    row = plan.row(artefact)
    if artefact.stage == "sparse":
        shapes = shape.base.candidates(row.selection.choose_from, row.selection.layer_norm)
        mask = uniform(shapes, sizes.k(artefact), seed=0)
        fit_entries(model, objective, settings, mask, session)
    elif row.adapter is not None:
        language = target.kind == "language"
        adapter = fresh_adapter(model, row.adapter, language=language, seed=0)
        below = None if language else fresh_adapter(model, row.adapter, language=True, seed=0)
        drop = 0 if language else row.adapter.drop_last
        fit_adapter(
            model, objective, settings, adapter, below=below, drop_last=drop, session=session
        )
    elif row.lora is not None:
        rank = sizes.lora_rank(artefact)
        fit_factors(model, objective, settings, rank, row.lora.alpha_of(rank), session=session)
    else:
        assert row.gate is not None
        if artefact.stage == "gate":
            fit_gates(model, objective, settings, row.gate, session)
            return
        shapes = {name: tuple(p.shape) for name, p in matrices(model).items()}
        gates = gate_values(initial_gates(shapes, row.gate), shapes, row.gate)
        fit_gated(model, objective, settings, gates, session)


Ready = tuple[PreTrainedModel, Objective, Training]

ENDLESS = {"max_steps": NEVER, "epochs": NEVER, "evaluate_every": NEVER}


def _language(given: LanguageTraining, shape: Shape, length: int) -> Ready:
    settings = given.model_copy(update=ENDLESS)
    model = AutoModelForMaskedLM.from_config(shape.config)
    untie_decoder(model)
    examples: list[Example] = [
        {"input_ids": row.int(), "special_tokens_mask": torch.zeros(length, dtype=torch.bool)}
        for row in _tokens(settings, shape, length)
    ]
    tokenizer = _tokenizer(shape.config.vocab_size)
    return (
        model,
        MaskedLanguageModelling(examples, [], tokenizer, settings.mask_probability),
        settings,
    )


def _task(task: Task, shape: Shape, length: int) -> Ready:
    settings = task.training.model_copy(update=ENDLESS)
    config = copy.deepcopy(shape.config)
    config.num_labels = len(task.classes)
    examples: list[Example] = [
        {"input_ids": row, "labels": torch.tensor(number % len(task.classes))}
        for number, row in enumerate(_tokens(settings, shape, length))
    ]
    return (
        AutoModelForSequenceClassification.from_config(config),
        Classification(examples, [], _tokenizer(config.vocab_size), settings),
        settings,
    )


def _tokens(settings: Training, shape: Shape, length: int) -> torch.Tensor:
    """The examples of a step (examples, length), of one length; a few pieces of the vocabulary are
    frequent and most are rare."""
    count, pieces = settings.batch_size * settings.accumulation, shape.config.vocab_size - SPECIAL
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(count, length, generator=generator, dtype=torch.float64) ** 3
    return SPECIAL + (drawn * pieces).long()


def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One with XLM-R's special tokens, whose words are numbers."""
    words = {str(number): number for number in range(SPECIAL, vocabulary)}
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    special = {name: f"<{name}>" for name in names}
    words |= {token: number for number, token in enumerate(special.values())}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token=special["unk_token"])), **special
    )


def _read(path: Path, machine: str) -> list[dict[str, Any]]:
    """What was measured on this machine before."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found["speeds"] if found["machine"] == machine else []
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []


def _machine() -> str:
    """What was measured on, for people."""
    if torch.cuda.is_available():
        where = torch.cuda.get_device_name()
    else:
        info = Path("/proc/cpuinfo")
        lines = info.read_text().splitlines() if info.is_file() else []
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        where = f"{names[0] if names else platform.machine()}, {len(names) or os.cpu_count()} cores"
    return f"measured by deftx plan --measure: {where}, torch {torch.__version__}"
