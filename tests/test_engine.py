"""Laws of the engine: what changes speed and rounding changes nothing else."""

import copy
import itertools
import logging
import os
import shutil
import subprocess
import sys

import pytest
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType
from conftest import PROJECT, without_dropout
from safetensors.torch import load_file
from training import differing, distance, language, snapshot, task, without_key_bias

from deftx.core.delta import Delta
from deftx.core.parameters import backbone_parameters
from deftx.engine.fit import fit
from deftx.engine.guard import LossGuard
from deftx.engine.processes import add_up_gradients
from deftx.engine.session import STEPS_WORTH_COMPILING, Resolved, Session, resolve
from deftx.engine.settings import Engine
from deftx.engine.steps import Steps, cut
from deftx.stages.mask.math import top_k, uniform
from deftx.store.errors import DeviceError

TO_ROUNDING = 1e-10
"""How far results in float64 may differ that differ only in the order of sums: on any CPU."""
SEEDS = {"order_seed": 1, "draw_seed": 2}
KINDS = pytest.mark.parametrize("kind", [language, task])
MASKED = pytest.mark.parametrize("mask", [False, True])


def chosen(base):
    return uniform(without_key_bias(base.maskable), 900, 0)


def trained(base, made, mask=True, session=None, dtype=torch.float32):
    """The outcome and the trained tensors of a copy of the model."""
    model, objective, settings = made
    model = without_dropout(copy.deepcopy(model)).to(dtype)
    outcome = fit(model, objective, settings, mask=chosen(base) if mask else None, session=session)
    frozen = {f"roberta.{name}" for name in base.layer_norms}
    return outcome, {n: t for n, t in without_key_bias(snapshot(model)).items() if n not in frozen}


def with_engine(**settings):
    return Session(engine=Engine(**settings))


# Steps


@KINDS
def test_a_step_is_a_pure_function_of_its_number(base, kind):
    _, objective, settings = kind(base)
    numbers = range(settings.steps(len(objective)))
    steps = Steps(objective, settings, **SEEDS)
    forward = [steps.step(number) for number in numbers]
    for number in reversed(numbers):
        one, other = Steps(objective, settings, **SEEDS).step(number), forward[number]
        assert one.labels == other.labels
        for ours, theirs in zip(one.batches, other.batches, strict=True):
            assert not differing(ours, theirs)


def test_every_example_is_seen_once_an_epoch_in_another_order_each_time(base):
    _, objective, settings = task(base, count=21, epochs=3)
    steps = Steps(objective, settings, **SEEDS)
    epochs = [[i for s in range(3) for i in steps._indices(3 * e + s)] for e in range(3)]
    assert all(sorted(epoch) == list(range(21)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    other = Steps(objective, settings, order_seed=7, draw_seed=2)
    assert other._indices(0) != steps._indices(0)


def test_masked_tokens_differ_from_step_to_step(base):
    _, objective, _ = language(base)
    one, same, other = (objective.examples([0, 1, 2], seed)[0]["labels"] for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


@KINDS
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("parts", [1, 2, 8])
def test_the_batches_of_a_step_hold_its_examples_however_they_are_cut(base, kind, processes, parts):
    _, objective, settings = kind(base)
    plain = Steps(objective, settings, **SEEDS).step(1)
    shares = [
        Steps(objective, settings, **SEEDS, share=(rank, processes)).step(1, parts)
        for rank in range(processes)
    ]
    assert {share.labels for share in shares} == {plain.labels}

    def rows(steps):
        return sorted(
            row[row != 1].tolist() for s in steps for b in s.batches for row in b["input_ids"]
        )

    assert rows(shares) == rows([plain])
    limit = max(1, 8 // (processes * parts))
    assert all(len(b["input_ids"]) <= limit for s in shares for b in s.batches)


def test_the_cut_is_the_cheapest_of_all_cuts():
    """Against every way to cut the examples, by brute force."""
    lengths = [2, 3, 3, 9, 10, 25, 30]
    examples = [{"input_ids": torch.zeros(length)} for length in lengths]

    def cost(sizes, each):
        ends = list(itertools.accumulate(sizes))
        return sum(size * lengths[end - 1] + each for size, end in zip(sizes, ends, strict=True))

    def compositions(total, limit):
        if total == 0:
            yield ()
        for first in range(1, min(limit, total) + 1):
            yield from ((first, *rest) for rest in compositions(total - first, limit))

    for limit, each in itertools.product((1, 2, 3, 7), (0, 5, 20, 1000)):
        found = [len(part) for part in cut(examples, limit, each)]
        best = min(cost(sizes, each) for sizes in compositions(len(lengths), limit))
        assert max(found) <= limit and cost(found, each) == best
    assert cut([], 3, 1) == []


@pytest.mark.rounding
@KINDS
def test_batches_that_are_filled_up_have_few_shapes_and_the_same_loss_and_gradient(base, kind):
    model, objective, settings = kind(base, batch_size=7)
    given = {**SEEDS, "cost": 4096}
    plain = Steps(objective, settings, **given)
    filled = Steps(objective, settings, **given, few_shapes=True)
    shapes = {
        tuple(sorted((name, tuple(t.shape)) for name, t in batch.items()))
        for number in range(settings.steps(len(objective)))
        for batch in filled.step(number).batches
    }
    assert len(shapes) == 1
    model = without_dropout(model).double()
    learner = objective.learner(model)
    for number in (0, settings.steps(len(objective)) - 1):
        found = []
        for steps in (plain, filled):
            losses = [learner(**batch) for batch in steps.step(number).batches]
            model.zero_grad()
            sum(losses).backward()
            gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
            found.append((sum(losses).detach(), gradient))
        for one, other in zip(*found, strict=True):
            assert one.dtype == torch.float64
            assert (one - other).norm() <= TO_ROUNDING * one.norm()


# Precision, compilation, memory, processes


@pytest.mark.rounding
@KINDS
@MASKED
def test_smaller_batches_and_accumulation_change_rounding_only(base, kind, mask):
    found = [
        trained(base, kind(base, **sizes, l1=1.0), mask, dtype=torch.float64)[1]
        for sizes in (
            {"batch_size": 8},
            {"batch_size": 4, "accumulation": 2},
            {"batch_size": 1, "accumulation": 8},
        )
    ]
    assert distance(found[1], found[0]) < TO_ROUNDING > distance(found[2], found[0])


def limit_memory(monkeypatch, model, most):
    """Let a model run out of memory for more than a few examples, as a GPU would."""
    backbone = type(model.base_model)
    original = backbone.forward

    def forward(module, input_ids=None, **given):
        if input_ids is not None and module.training and len(input_ids) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return original(module, input_ids=input_ids, **given)

    monkeypatch.setattr(backbone, "forward", forward)


@pytest.mark.rounding
@KINDS
@MASKED
def test_halving_after_out_of_memory_changes_rounding_only(base, kind, mask, monkeypatch, caplog):
    made = kind(base)
    plain, weights = trained(base, made, mask, dtype=torch.float64)
    limit_memory(monkeypatch, made[0], most=3)
    session = with_engine(on_out_of_memory="halve")
    with caplog.at_level(logging.WARNING):
        outcome, halved = trained(base, made, mask, session, torch.float64)
    assert distance(halved, weights) < TO_ROUNDING
    assert plain["engine"]["parts"] == 1 and outcome["engine"]["parts"] == 4
    assert "does not hold a batch of 8 examples; from here on each is cut into 2" in caplog.text


def test_out_of_memory_says_the_batch_and_what_to_change(base, monkeypatch):
    made = task(base)
    limit_memory(monkeypatch, made[0], most=3)
    with pytest.raises(DeviceError, match=r"step 1: .* batch of 8 x \d+ tokens") as error:
        trained(base, made)
    for word in ("batch_size 8", "accumulation 1", "on_out_of_memory: halve", "bf16"):
        assert word in str(error.value)
    limit_memory(monkeypatch, made[0], most=0)
    with pytest.raises(DeviceError, match="a batch of 1 x"):
        trained(base, made, session=with_engine(on_out_of_memory="halve"))


@pytest.mark.rounding
@KINDS
def test_bf16_stays_within_bounds_of_fp32(base, kind):
    """The loss curve within 2 %, and of the mask chosen from the full phase at least 85 % are the
    same entries; trained values and moments are float32."""
    made, found, masks = kind(base), {}, []
    for precision, mask in itertools.product(("fp32", "bf16"), (False, True)):
        found[precision, mask] = trained(base, made, mask, with_engine(precision=precision))
    for mask in (False, True):
        outcomes = [found[precision, mask][0] for precision in ("fp32", "bf16")]
        if kind is language:
            curves = [torch.tensor([e["loss"] for e in o["history"]]) for o in outcomes]
            torch.testing.assert_close(*curves, rtol=0.02, atol=0)
        assert outcomes[1]["engine"]["precision"] == "bf16"
        assert all(w.dtype == torch.float32 for w in found["bf16", mask][1].values())
    start = backbone_parameters(made[0])
    for precision in ("fp32", "bf16"):
        end = found[precision, False][1]
        names = without_key_bias(base.maskable)
        delta = Delta.between(
            {n: start[n].detach() for n in names}, {n: end[f"roberta.{n}"] for n in names}
        )
        mask = top_k(delta, 900)
        masks.append({(n, int(i)) for n, index in mask.index.items() for i in index})
    assert len(masks[0] & masks[1]) >= 0.85 * 900


def test_bf16_leaves_frozen_entries_their_bits(base):
    made, mask = language(base), chosen(base)
    _, end = trained(base, made, True, with_engine(precision="bf16"))
    for name, start in backbone_parameters(made[0]).items():
        if (weight := end.get(f"roberta.{name}")) is not None:
            moved = weight != start
            assert not (moved & ~mask.dense(name) if name in mask.index else moved).any(), name


@pytest.mark.parametrize(
    ("asked", "device", "steps", "mode"),
    [
        ("auto", "cuda", STEPS_WORTH_COMPILING, "default"),
        ("auto", "cuda", STEPS_WORTH_COMPILING - 1, None),
        ("auto", "cpu", 10**6, None),
        (True, "cpu", 1, "default"),
        (False, "cuda", 10**6, None),
        ("max-autotune", "cuda", 1, "max-autotune"),
    ],
)
def test_auto_compiles_on_a_gpu_what_is_long_enough(asked, device, steps, mode):
    engine = Engine(compile=asked, precision="fp32")
    assert resolve(engine, torch.device(device), steps).compile == mode


def test_auto_is_plain_float32_on_a_cpu_and_is_recorded(base):
    resolved = resolve(Engine(), torch.device("cpu"))
    facts = {"device": "cpu", "precision": "fp32", "compile": None, "graph": False, "fused": False}
    assert resolved == Resolved(**facts)
    outcome, _ = trained(base, task(base))
    assert outcome["engine"] == {**facts, "parts": 1}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore:The .grad attribute")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() == "DEFAULT",
    reason="PyTorch 2.13 writes C++ that does not compile for a CPU without AVX2",
)
@pytest.mark.parametrize(("kind", "mask"), [(language, True), (task, False)])
def test_compiled_training_changes_rounding_only(base, kind, mask):
    """Both losses, both phases; blocks that are short, and the last step of an epoch."""
    made = kind(base, epochs=1, batch_size=7)
    assert len(made[1]) % 7
    compiled = with_engine(compile=True)
    outcome, weights = trained(base, made, mask, compiled, torch.float64)
    assert outcome["engine"]["compile"] == "default"
    assert distance(weights, trained(base, made, mask, dtype=torch.float64)[1]) < TO_ROUNDING


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore:The .grad attribute")
def test_what_does_not_compile_is_an_error_if_it_was_asked_for(base, monkeypatch):
    """With `auto` it would run plainly; that is decided by the device, so it is set by hand."""

    def broken(*_, **__):
        raise RuntimeError("no compiler")

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", broken)
    made = task(base, epochs=1)
    with pytest.raises(Exception, match="no compiler"):
        trained(base, made, True, with_engine(compile=True))
    monkeypatch.setattr(
        "deftx.engine.loop.resolve",
        lambda *_: Resolved("cpu", "fp32", compile="default", graph=False, fused=False),
    )
    torch._dynamo.reset()
    assert distance(trained(base, made)[1], trained(base, made)[1]) == 0


def test_what_is_not_installed_is_named_with_its_key(base):
    made = task(base)
    with pytest.raises(ValueError, match=r"engine\.attention is 'flash_attention_2': .*install"):
        trained(base, made, session=with_engine(attention="flash_attention_2"))
    with pytest.raises(ValueError, match=r"report_to is \['wandb'\]: .*install wandb"):
        trained(base, made, session=Session(report_to=["wandb"]))


@pytest.mark.rounding
@KINDS
def test_eager_attention_changes_rounding_only(base, kind):
    found = [
        trained(base, kind(base), True, with_engine(attention=name), torch.float64)[1]
        for name in ("sdpa", "eager")
    ]
    assert distance(*found) < TO_ROUNDING


def test_a_line_can_be_an_example(base):
    _, packed, _ = language(base, max_length=32)
    made = language(base, packed=False, max_length=32)
    assert len(made[1]) == 57 and len(packed) < 57
    assert len({len(e["input_ids"]) for e in made[1].examples(range(57), 0)}) > 1
    outcome, _ = trained(base, made)
    assert outcome["steps"] == 2 * 8


WORKER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
from safetensors.torch import save_file
import test_engine
from deftx.models.base import Base
from deftx.engine.processes import share

base = Base.load(Path({base!r}))
sizes = []
original = torch.distributed.all_reduce
def all_reduce(tensor, **given):
    sizes.append(tensor.numel())
    return original(tensor, **given)
torch.distributed.all_reduce = all_reduce
for kind in (test_engine.language, test_engine.task):
    for mask in (False, True):
        sizes.clear()
        outcome, weights = test_engine.trained(base, kind(base, l1=1.0), mask, None, torch.float64)
        if mask:
            assert sum(sizes) == outcome["steps"] * (900 + outcome["trained_head"]), sizes
        if share()[0] == 0:
            save_file(weights, Path({out!r}) / f"{{kind.__name__}}-{{mask}}.safetensors")
torch.distributed.destroy_process_group()
"""


def test_two_processes_equal_one_with_the_same_batch_and_exchange_k_values(base, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(
        WORKER.format(tests=str(PROJECT / "tests"), base=str(base.folder), out=str(tmp_path))
    )
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *command, str(script)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for kind, mask in itertools.product((language, task), (False, True)):
        _, alone = trained(base, kind(base, l1=1.0), mask, None, torch.float64)
        together = load_file(tmp_path / f"{kind.__name__}-{mask}.safetensors")
        assert distance(together, alone) < TO_ROUNDING


def test_one_process_exchanges_nothing():
    parameter = torch.nn.Parameter(torch.zeros(2))
    add_up_gradients([parameter])
    assert parameter.grad is None


# Watching


def test_the_guard_names_the_step_and_both_losses():
    guard = LossGuard(every=3)
    for step, loss in ((1, 2.0), (2, 3.0), (3, 19.9), (4, 20.1)):
        guard.note(step, torch.tensor(loss))
    with pytest.raises(
        FloatingPointError, match=r"step 4: the loss is 20.1; it was 2 in the first"
    ):
        guard.check()
    guard = LossGuard(every=2)
    guard.note(1, torch.tensor(0.1))
    with pytest.raises(FloatingPointError, match="step 2: the loss is nan"):
        guard.note(2, torch.tensor(float("nan")))


def test_progress_is_one_line_at_a_time_with_what_a_person_asks(base, monkeypatch, caplog):
    monkeypatch.setattr("deftx.run.progress.SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        trained(base, language(base))
    lines = [r.getMessage() for r in caplog.records if r.name == "deftx.run.progress"]
    assert len(lines) == 12
    for word in ("step 3 of 12 (25 %): loss ", "learning rate 0.00375", " tokens/s, ", " left"):
        assert word in lines[2]


def test_trackers_get_what_a_person_plots(base, monkeypatch):
    seen, ended = [], []

    class Tracker(GeneralTracker):
        name, requires_logging_directory, tracker = "wandb", False, None

        def __init__(self, run_name):
            super().__init__()

        def log(self, values, step):
            seen.extend((name, step) for name in values)

        def finish(self):
            ended.append(True)

    monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType.WANDB])
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Tracker)
    _, expected = trained(base, made := language(base))
    _, found = trained(base, made, session=Session(report_to=["wandb"]))
    names = ("train/loss", "train/grad_norm", "train/learning_rate")
    assert {(name, step) for name in names for step in range(1, 13)} <= {*seen}
    assert [step for name, step in seen if name == "eval/loss"] == [5, 10, 12]
    assert ended == [True] and not differing(found, expected)
