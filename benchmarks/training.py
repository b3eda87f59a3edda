"""Compare a step of the engine with a step of the plain loop.

The engine is timed as a whole: `deftx.fit` runs with everything that its loop does, waits at the
beginning of each step, and goes on when it is its turn.

    python -m benchmarks.training --size mini
    python -m benchmarks.training --size mini --target task --batch 32 --phase sparse
    python -m benchmarks.training --size xlm-r-base --engine precision=bf16 compile=true
    python -m benchmarks.training --size xlm-r-base --variants
    python -m benchmarks.training --size mini --phase sparse --against dense
"""

import argparse
import gc
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

import deftx
from benchmarks import measure, models, reference
from deftx.core.mask import Mask
from deftx.core.parameters import backbone_parameters
from deftx.engine.language import MaskedLanguageModelling
from deftx.engine.loop import freeze, train_with_head
from deftx.engine.objective import Objective
from deftx.engine.passes import Hooks
from deftx.engine.task import Classification
from deftx.models.device import available_device

VARIANTS = (
    {"precision": "fp32", "compile": False},
    {"precision": "bf16", "compile": False, "graph": False},
    {"precision": "bf16", "compile": False},
    {"precision": "bf16", "compile": True},
)

NO_END = 1_000_000
"""Steps of a phase; a benchmark makes only a few of them."""


@dataclass(frozen=True)
class Case:
    """What is trained; `length` is the number of tokens in a block of text."""

    size: str = "mini"
    target: str = "language"
    phase: str = "full"
    batch: int = 8
    length: int = 256

    def __str__(self) -> str:
        what = f"{self.batch} x " + (str(self.length) if self.target == "language" else "sentences")
        return f"{self.size}, {self.target}, {self.phase}, {what}"

    def model(self) -> Any:
        """A new model, made on the device where it will train."""
        with available_device():
            return self._new()

    def _new(self) -> Any:
        return (models.masked_lm if self.target == "language" else models.classifier)(self.size)

    def mask(self) -> Mask | None:
        """The mask; None in the full phase."""
        if self.phase == "full":
            return None
        with torch.device("meta"):
            shapes = models.maskable_shapes(self._new())
        return models.random_mask(shapes, self.target, device=available_device())

    def settings(self) -> Any:
        """The same as the plain loop's."""
        given = {"batch_size": self.batch, "max_steps": NO_END, "evaluate_every": 10 * NO_END}
        if self.target == "language":
            return deftx.LanguageTraining(epochs=NO_END, max_length=self.length, **given)
        return deftx.TaskTraining(epochs=NO_END, **given)

    def objective(self) -> Objective:
        """The plain loop's examples for 16 steps, without any for validation."""
        tokenizer = tokenizer_of(self.size)
        if self.target == "language":
            blocks = models.blocks(self.size, 16 * self.batch, self.length)
            examples = [
                {
                    "input_ids": torch.tensor(block["input_ids"], dtype=torch.int32),
                    "special_tokens_mask": torch.tensor(block["special_tokens_mask"]).bool(),
                }
                for block in blocks
            ]
            return MaskedLanguageModelling(examples, [], tokenizer, 0.15)
        examples = [
            {name: torch.tensor(example[name]) for name in ("input_ids", "labels")}
            for example in models.task_examples(self.size, 16 * self.batch)
        ]
        return Classification(examples, [], tokenizer, self.settings())

    def fit(self, before_step: Callable[[int], None], engine: deftx.Engine) -> None:
        """Train with the engine."""
        session = deftx.Session(engine=engine, before_step=before_step)
        deftx.fit(
            self.model(), self.objective(), self.settings(), mask=self.mask(), session=session
        )

    def fit_dense(self, before_step: Callable[[int], None], engine: deftx.Engine) -> None:
        """Train as the engine does in the sparse phase, but with dense weights, gradients and
        optimiser: gradients are multiplied by boolean masks after each backward pass."""
        session = deftx.Session(engine=engine, before_step=before_step)
        model, objective, mask = self.model(), self.objective(), self.mask()
        assert mask is not None
        total = freeze(model)
        backbone = backbone_parameters(model)
        masked = {n: mask.dense(n).to(model.device) for n in mask.index}

        def masking(slopes: Sequence[torch.Tensor | None]) -> dict[str, torch.Tensor | None]:
            pairs = zip(masked.items(), slopes, strict=True)
            return {n: None if slope is None else slope.mul_(m) for (n, m), slope in pairs}

        train_with_head(
            model,
            {n: backbone[n] for n in mask.index},
            objective,
            self.settings(),
            session,
            total=total,
            hooks=Hooks(gather=masking),
        )


def tokenizer_of(size: str) -> PreTrainedTokenizerFast:
    """A tokenizer with XLM-R's special tokens; the words are numbers."""
    count = models.SIZES[size]["vocab_size"]
    vocabulary = {str(i): i for i in range(count)}
    special = {
        "bos_token": models.START,
        "pad_token": models.PAD,
        "eos_token": models.END,
        "unk_token": 3,
        "mask_token": count - 1,
    }
    for name, number in special.items():
        del vocabulary[str(number)]
        vocabulary[f"<{name}>"] = number
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unk_token>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=words, **{name: f"<{name}>" for name in special}
    )


class EnoughError(Exception):
    """Ends the training."""


class Stepwise:
    """A training that makes one step when this object is called, and then waits.

    A step lasts from the beginning of one to the beginning of the next, so it includes everything
    that the loop does in between. `fit` calls what it is given before each step.
    """

    def __init__(self, fit: Callable[[Callable[[int], None]], object]) -> None:
        self._fit = fit
        self._go, self._reports = threading.Semaphore(0), queue.SimpleQueue[str | None]()
        self._closing = False

    def before_step(self, done: int) -> None:
        """Wait for the next call."""
        self._reports.put(None)
        self._go.acquire()
        if self._closing:
            raise EnoughError

    def run(self) -> None:
        """Train, in the thread that calls this, until `close`."""
        failure = "training ended"
        try:
            self._fit(self.before_step)
        except EnoughError:
            failure = "closed"
        except Exception as error:
            logging.debug("training failed", exc_info=True)
            first = (str(error).strip() or "?").splitlines()[0]
            failure = f"{type(error).__name__}: {first}"
        self._reports.put(failure)

    def ready(self) -> "Stepwise":
        """Wait until training is about to make its next step; this object. Raises RuntimeError if
        training failed."""
        failure = self._reports.get()
        if failure is not None:
            self._reports.put(failure)
            raise RuntimeError(failure)
        return self

    def __call__(self) -> None:
        self._go.release()
        self.ready()

    def close(self) -> None:
        """End the training, which may also have failed."""
        self._closing = True
        self._go.release()


def compare(
    makers: dict[str, Callable[[], Callable[[], object]]],
    name: str,
    fit: Callable[[Callable[[int], None]], object],
    **settings: Any,
) -> list[measure.Timing]:
    """`measure.compare` of `makers` and, as contestant `name`, of a training by `fit`.

    The training runs in this thread and the others run in another one: compiled code keeps its
    CUDA graphs by thread, and finds them in the main thread only.
    """
    engine, asked = Stepwise(fit), threading.Event()
    found: list[Any] = []

    def make() -> Stepwise:
        asked.set()
        return engine.ready()

    def conduct() -> None:
        try:
            found.append(measure.compare({**makers, name: make}, **settings))
        except Exception as error:
            found.append(error)
        finally:
            engine.close()
            asked.set()

    thread = threading.Thread(target=conduct)
    thread.start()
    asked.wait()
    engine.run()
    thread.join()
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


@contextmanager
def dense(case: Case, engine: deftx.Engine) -> Iterator[Callable[[], Stepwise]]:
    """A maker of the dense contestant (`Case.fit_dense`), whose training ends with the block."""
    stepwise = Stepwise(lambda before_step: case.fit_dense(before_step, engine))
    thread = threading.Thread(target=stepwise.run)

    def make() -> Stepwise:
        thread.start()
        return stepwise.ready()

    yield make
    stepwise.close()
    if thread.ident:
        thread.join()


def engine_of(words: Sequence[str]) -> deftx.Engine:
    """The engine's settings from words such as `precision=bf16`."""
    booleans: dict[str, Any] = {"true": True, "false": False}
    pairs = [word.partition("=")[::2] for word in words]
    given = {n: int(v) if v.isdigit() else booleans.get(v, v) for n, v in pairs}
    return deftx.Engine(**given)


def name_of(engine: deftx.Engine) -> str:
    """A name from the settings that differ from the defaults."""
    given = engine.model_dump(exclude_defaults=True)
    return "engine" + "".join(f" {name}={value}" for name, value in given.items())


def arguments_of_cases(parser: argparse.ArgumentParser) -> None:
    """The options for what is trained and where."""
    parser.add_argument("--size", choices=models.SIZES, default="mini")
    parser.add_argument("--target", choices=models.CHOSEN, default="language")
    phases = ["full", "sparse"]
    parser.add_argument("--phase", choices=phases, nargs="+", default=phases)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=256, help="tokens per block of text")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="the GPU, if there is one")
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU")
    parser.add_argument("--engine", nargs="*", default=[], help="name=value …, of deftx.Engine")


def cases(given: argparse.Namespace) -> list[Case]:
    """One case per phase that is given; sets the device and the threads."""
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU that PyTorch can use")
    if given.threads:
        torch.set_num_threads(given.threads)
    return [Case(given.size, given.target, p, given.batch, given.length) for p in given.phase]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments_of_cases(parser)
    parser.add_argument("--variants", action="store_true", help="several settings of the engine")
    parser.add_argument("--against", choices=["reference", "dense"], default="reference")
    parser.add_argument("--micro-batches", type=int, default=1, help="of the reference")
    measure.add_arguments(parser)
    given = parser.parse_args(arguments)
    todo, settings = cases(given), measure.settings(given)
    engines = [deftx.Engine(**v) for v in VARIANTS] if given.variants else [engine_of(given.engine)]
    print(measure.machine())
    for case in todo:
        print(case, flush=True)
        shape = case.size, case.batch, case.length, given.micro_batches
        plain = None
        for engine in engines:
            name = name_of(engine)
            opponents: dict[str, Callable[[], Callable[[], object]]]
            try:
                if given.against == "dense":
                    with dense(case, engine) as opponent:
                        opponents = {f"dense {name}": opponent}
                        timings = _measured(case, opponents, name, engine, settings)
                else:
                    if plain is None:
                        plain = reference.prepared(case.target, case.phase, *shape)
                    opponents = {"reference": lambda plain=plain: plain}
                    timings = _measured(case, opponents, name, engine, settings)
                print(measure.table(timings), flush=True)
            except Exception as error:
                print(f"{name}: failed: {error}", flush=True)
            gc.collect()
            torch._dynamo.reset()
        del plain


def _measured(
    case: Case,
    opponents: dict[str, Callable[[], Callable[[], object]]],
    name: str,
    engine: deftx.Engine,
    settings: dict[str, Any],
) -> list[measure.Timing]:
    return compare(opponents, name, lambda before_step: case.fit(before_step, engine), **settings)


if __name__ == "__main__":
    main()
