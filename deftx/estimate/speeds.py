"""How long jobs take: by the finished jobs of a run, or by a few steps timed on this machine."""

import copy
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from deftx.engine.fit import fit
from deftx.engine.language import MaskedLanguageModelling
from deftx.engine.objective import Objective
from deftx.engine.session import Session
from deftx.engine.settings import LanguageTraining, Training
from deftx.engine.task import Classification
from deftx.estimate.work import Amount, Work
from deftx.models.device import available_device
from deftx.models.load import untie_decoder
from deftx.models.token_arrays import Example, Tokens
from deftx.plan.artefact import Artefact
from deftx.plan.plan import Plan
from deftx.stages.table import path_of

STEPS = {"cpu": (1, 3), "cuda": (10, 50)}
"""Warm-up steps, in which a GPU compiles code, and the steps that are timed after them."""

ENDLESS = {"max_steps": 1_000_000, "epochs": 1_000_000, "evaluate_every": 1_000_000}

TOKENS = {f"{name}_token": f"<{name}>" for name in ("bos", "pad", "eos", "unk", "mask")}
"""The special tokens, in XLM-R's order."""


def finished(plan: Plan, jobs: Mapping[Artefact, Work]) -> dict[tuple[str, str, bool], float]:
    """(stage, subject, trains) → mean seconds of a step of all finished jobs, or of a job if they
    take no steps; loading, validation and saving included."""
    sums: dict[tuple[str, str, bool], list[float]] = defaultdict(lambda: [0, 0])
    for artefact, work in jobs.items():
        path = (Path(plan.root) / "benchmarks" / path_of(artefact)).with_suffix(".json")
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        units = work.steps if work.trains else Amount(1)
        if text and units and not units.at_most:  # the file of a running job is empty
            found = sums[artefact.stage, work.subject, work.trains]
            found[0] += json.loads(text)["seconds"]
            found[1] += units.value
    return {key: seconds / units for key, (seconds, units) in sums.items()}


NOTHING = Tokens({}, torch.empty(0), torch.empty(0))
"""In place of validation items."""


class TimedError(Exception):
    """Ends a training whose steps have been timed; its argument is the seconds of a step."""


class TimedExamples(list[Example]):
    """The examples of one step. Training draws them again and again, and TimedError ends it once
    enough steps are timed. A GPU is synchronised only where timing begins and ends; a CPU's steps
    are timed one by one and their median counts, since a single one may wait for other programs."""

    drawn = 0

    def __init__(self, examples: Iterable[Example]) -> None:
        super().__init__(examples)
        self.times: list[float] = []

    def __getitem__(self, index: Any) -> Any:
        """Read the clock if this is the first example of a step that is to be timed."""
        device = available_device().type
        (warm_up, timed), (step, rest) = STEPS[device], divmod(self.drawn, len(self))
        self.drawn += 1
        marks = range(warm_up, warm_up + timed + 1, timed if device == "cuda" else 1)
        if rest == 0 and step in marks:
            if device == "cuda":
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())
            if step == marks[-1]:
                each = [end - start for start, end in pairwise(self.times)]
                raise TimedError(median(each) / marks.step)
        return super().__getitem__(index)


def measured(plan: Plan, works: Iterable[Work], shape: PreTrainedConfig) -> dict[str, float]:
    """Subject → seconds of an optimiser step, for each kind of data that is trained on.

    The full fine-tuning of the base is timed on one device, through the public `fit`, with the
    run's settings and engine, without validation, loading and saving. Weights and tokens are
    random, so neither the base nor the data need to exist.
    """
    steps, engine = {}, plan.config.engine.model_copy(update={"devices": 1})
    for work in {work.subject: work for work in works if work.settings}.values():
        torch.set_num_threads(work.threads)
        task = plan.config.tasks.get(work.subject)
        prepared = _prepare(work, copy.deepcopy(shape), len(task.classes) if task else 0)
        try:
            fit(*prepared, session=Session(engine=engine))
        except TimedError as timed:
            steps[work.subject] = float(timed.args[0])
    return steps


def _prepare(
    work: Work, config: PreTrainedConfig, classes: int
) -> tuple[PreTrainedModel, Objective, Training]:
    """What `fit` needs: a model with random weights, and random examples of one step."""
    assert work.settings is not None, "only the training of a language or a task is measured"
    config.dtype = torch.float32  # as training loads it, whatever the file of the base has
    settings = work.settings.model_copy(update=ENDLESS)
    ids = {token: number for number, token in enumerate(TOKENS.values())}
    words = Tokenizer(WordLevel(ids, unk_token=TOKENS["unk_token"]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **TOKENS)
    drawn = torch.rand(settings.batch_size * settings.accumulation, work.length)
    # Cubed, so that a few tokens are frequent and most are rare, as in text.
    rows = len(ids) + (drawn**3 * (config.vocab_size - len(ids))).long()
    if isinstance(settings, LanguageTraining):
        special = torch.zeros(work.length, dtype=torch.bool)
        train = TimedExamples({"input_ids": r.int(), "special_tokens_mask": special} for r in rows)
        model = AutoModelForMaskedLM.from_config(config, trust_remote_code=False)
        untie_decoder(model)
        chance = settings.mask_probability
        return model, MaskedLanguageModelling(train, [], tokenizer, chance), settings
    config.num_labels = classes
    pairs = zip(rows, torch.arange(len(rows)) % classes, strict=True)
    train = TimedExamples({"input_ids": row, "labels": label} for row, label in pairs)
    model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    return model, Classification(train, NOTHING, tokenizer, settings), settings
