"""Laws of the engine: what changes speed and rounding changes nothing else."""

import itertools
import logging
import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import PROJECT, sentences, without_dropout
from transformers import TrainerCallback

from deftx.core.delta import Delta
from deftx.core.parameters import backbone_parameters, layer_norm_names
from deftx.engine.fit import fit
from deftx.engine.guards import LossGuard
from deftx.engine.language import masked_language_modelling
from deftx.engine.processes import add_up_gradients
from deftx.engine.session import STEPS_WORTH_COMPILING, Resolved, Session, resolve
from deftx.engine.settings import Engine, LanguageTraining, TaskTraining
from deftx.engine.steps import Steps, cut
from deftx.engine.task import classification
from deftx.models.load import load_classifier, load_masked_lm, load_tokenizer
from deftx.stages.mask.math import top_k, uniform
from deftx.store.errors import DeviceError

TO_ROUNDING = 1e-10
"""How far results in float64 may differ that differ in the order of sums alone: on any CPU."""


def language(base, lines=60, **changes):
    defaults = {
        "learning_rate": 5e-3,
        "batch_size": 8,
        "epochs": 2,
        "min_steps": 0,
        "max_length": 16,
        "evaluate_every": 5,
    }
    settings = LanguageTraining(**{**defaults, **changes})
    return masked_language_modelling(sentences(lines), load_tokenizer(base), settings), settings


def task(base, count=60, **changes):
    defaults = {"learning_rate": 1e-2, "batch_size": 8, "epochs": 2, "max_length": 32}
    settings = TaskTraining(**{**defaults, **changes})
    lines = [line[: 12 + 7 * (i % 9)] for i, line in enumerate(sentences(count))]
    items = [{"text": line, "label": int("la" in line)} for line in lines]
    return classification(items, items[:10], load_tokenizer(base), settings), settings


def maskable(model):
    """Without the bias of keys: its gradient is nothing but rounding, of which AdamW makes steps
    as large as any."""
    norms = layer_norm_names(model)
    return {
        name: tuple(p.shape)
        for name, p in backbone_parameters(model).items()
        if name not in norms and not name.endswith("key.bias")
    }


def model_for(base, objective):
    if objective.best == "loss":
        return without_dropout(load_masked_lm(base))
    return without_dropout(load_classifier(base, ["low", "high"], seed=3))


def trained(base, made, mask=True, session=None, dtype=torch.float32):
    objective, settings = made
    model = model_for(base, objective).to(dtype)
    chosen = uniform(maskable(model), 900, 0) if mask else None
    outcome = fit(model, objective, settings, mask=chosen, session=session or Session())
    frozen = layer_norm_names(model)
    return outcome, {
        name: p.detach().clone()
        for name, p in model.named_parameters()
        if not name.endswith("key.bias") and name not in frozen
    }


def distance(ours, plain):
    """Of all weights together, relative to how far they lie from zero."""
    return float(
        sum((ours[n] - plain[n]).norm() ** 2 for n in plain) ** 0.5
        / sum(plain[n].norm() ** 2 for n in plain) ** 0.5
    )


# Steps


@pytest.mark.parametrize("kind", [language, task])
def test_a_step_is_a_pure_function_of_its_number(base, kind):
    objective, settings = kind(base)
    given = {"order_seed": 1, "draw_seed": 2}
    whole, later = (Steps(objective, settings, first, **given) for first in (0, 3))
    assert len(whole) == len(later) + 3 == settings.steps(len(objective))
    for number in range(len(later)):
        one, other = later[number], whole[number + 3]
        assert one["step"] == other["step"] == number + 3 and one["labels"] == other["labels"]
        for ours, theirs in zip(one["batches"], other["batches"], strict=True):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(IndexError):
        whole[len(whole)]


def test_every_example_is_seen_once_an_epoch_in_another_order_each_time(base):
    objective, settings = task(base, count=21, epochs=3)
    steps = Steps(objective, settings, 0, order_seed=1, draw_seed=2)
    epochs = [[i for s in range(3) for i in steps._indices(3 * e + s)] for e in range(3)]
    assert all(sorted(epoch) == list(range(21)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    other = Steps(objective, settings, 0, order_seed=7, draw_seed=2)
    assert other._indices(0) != steps._indices(0)


def test_masked_tokens_differ_from_step_to_step(base):
    objective, _ = language(base)
    one, same, other = (objective.examples([0, 1, 2], seed)[0]["labels"] for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize("kind", [language, task])
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("parts", [1, 2, 8])
def test_the_batches_of_a_step_hold_its_examples_however_they_are_cut(base, kind, processes, parts):
    objective, settings = kind(base)
    plain = Steps(objective, settings, 0, order_seed=1, draw_seed=2).step(1)
    shares = [
        Steps(objective, settings, 0, order_seed=1, draw_seed=2, share=(rank, processes)).step(
            1, parts
        )
        for rank in range(processes)
    ]
    assert {share["labels"] for share in shares} == {plain["labels"]}

    def rows(steps):
        return sorted(
            row[row != 1].tolist() for s in steps for b in s["batches"] for row in b["input_ids"]
        )

    assert rows(shares) == rows([plain])
    limit = max(1, 8 // (processes * parts))
    assert all(len(b["input_ids"]) <= limit for s in shares for b in s["batches"])


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


@pytest.mark.parametrize("kind", [language, task])
def test_batches_that_are_filled_up_have_few_shapes_and_the_same_loss_and_gradient(base, kind):
    objective, settings = kind(base, batch_size=7)
    given = {"order_seed": 1, "draw_seed": 2, "cost": 4096}
    plain = Steps(objective, settings, 0, **given)
    filled = Steps(objective, settings, 0, **given, few_shapes=True)
    shapes = {
        tuple(sorted((name, tuple(t.shape)) for name, t in batch.items()))
        for step in filled
        for batch in step["batches"]
    }
    assert len(shapes) == 1
    model = model_for(base, objective).double()
    learner = objective.learner(model)
    for number in (0, len(plain) - 1):
        found = []
        for steps in (plain, filled):
            losses = [learner(**batch) for batch in steps[number]["batches"]]
            model.zero_grad()
            sum(losses).backward()
            gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
            found.append((sum(losses).detach(), gradient))
        for one, other in zip(*found, strict=True):
            assert one.dtype == torch.float64
            assert (one - other).norm() <= TO_ROUNDING * one.norm()


# Precision, compilation, memory, processes


@pytest.mark.parametrize("kind", [language, task])
@pytest.mark.parametrize("mask", [False, True])
def test_smaller_batches_and_accumulation_change_rounding_only(base, kind, mask):
    found = [
        trained(
            base,
            kind(base, batch_size=size, accumulation=steps, l1=1.0),
            mask,
            dtype=torch.float64,
        )[1]
        for size, steps in ((8, 1), (4, 2), (1, 8))
    ]
    assert distance(found[1], found[0]) < TO_ROUNDING > distance(found[2], found[0])


class Halving(TrainerCallback):
    """Lets a model run out of memory for more than a few examples, as a GPU would."""

    def __init__(self, model_class, monkeypatch, most):
        original = model_class.forward

        def forward(module, input_ids=None, **given):
            if input_ids is not None and module.training and len(input_ids) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
            return original(module, input_ids=input_ids, **given)

        monkeypatch.setattr(model_class, "forward", forward)


@pytest.mark.parametrize("kind", [language, task])
@pytest.mark.parametrize("mask", [False, True])
def test_halving_after_out_of_memory_changes_rounding_only(base, kind, mask, monkeypatch, caplog):
    plain, weights = trained(base, kind(base), mask, dtype=torch.float64)
    backbone = type(model_for(base, kind(base)[0]).base_model)
    Halving(backbone, monkeypatch, most=3)
    session = Session(engine=Engine(on_out_of_memory="halve"))
    with caplog.at_level(logging.WARNING):
        outcome, halved = trained(base, kind(base), mask, session, torch.float64)
    assert distance(halved, weights) < TO_ROUNDING
    assert plain["engine"]["parts"] == 1 and outcome["engine"]["parts"] == 4
    assert "does not hold a batch of 8 examples; from here on each is cut into 2" in caplog.text


def test_out_of_memory_says_the_batch_and_what_to_change(base, monkeypatch):
    made = task(base)
    Halving(type(model_for(base, made[0]).base_model), monkeypatch, most=3)
    with pytest.raises(DeviceError, match=r"step 1: .* batch of 8 x \d+ tokens") as error:
        trained(base, made)
    for word in ("batch_size 8", "accumulation 1", "on_out_of_memory: halve", "bf16"):
        assert word in str(error.value)
    Halving(type(model_for(base, made[0]).base_model), monkeypatch, most=0)
    with pytest.raises(DeviceError, match="a batch of 1 x"):
        trained(base, made, session=Session(engine=Engine(on_out_of_memory="halve")))


@pytest.mark.parametrize("kind", [language, task])
def test_bf16_stays_within_bounds_of_fp32(base, kind):
    """The loss curve within 2 %, and of the mask chosen from the full phase at least 85 % are the
    same entries; trained values and moments are float32."""
    found = {}
    for precision in ("fp32", "bf16"):
        session = Session(engine=Engine(precision=precision))
        for mask in (False, True):
            found[precision, mask] = trained(base, kind(base), mask, session)
    for mask in (False, True):
        curves = [
            [entry[kind(base)[0].best] for entry in found[p, mask][0]["history"]]
            for p in ("fp32", "bf16")
        ]
        if kind is language:
            torch.testing.assert_close(*map(torch.tensor, curves), rtol=0.02, atol=0)
        assert found["bf16", mask][0]["engine"]["precision"] == "bf16"
        assert all(w.dtype == torch.float32 for w in found["bf16", mask][1].values())
    model = model_for(base, kind(base)[0])
    start = {name: p.detach() for name, p in model.named_parameters()}
    prefix = model.base_model_prefix + "."
    masks = []
    for precision in ("fp32", "bf16"):
        end = found[precision, False][1]
        names = [n for n in end if n.startswith(prefix) and "LayerNorm" not in n]
        delta = Delta.between({n: start[n] for n in names}, {n: end[n] for n in names})
        mask = top_k(delta, 900)
        masks.append({(n, int(i)) for n, index in mask.index.items() for i in index})
    assert len(masks[0] & masks[1]) >= 0.85 * 900


def test_bf16_leaves_frozen_entries_their_bits(base):
    made = language(base)
    start = {n: p.detach().clone() for n, p in model_for(base, made[0]).named_parameters()}
    _, end = trained(base, made, True, Session(engine=Engine(precision="bf16")))
    mask = uniform(maskable(model_for(base, made[0])), 900, 0)
    for name, weight in end.items():
        short = name.removeprefix("roberta.")
        if not name.startswith("roberta."):
            continue
        free = mask.dense(short) if short in mask.index else torch.zeros_like(weight).bool()
        assert torch.equal(weight[~free], start[name][~free]), name


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


def test_auto_is_plain_float32_on_a_cpu_and_is_said(base):
    resolved = resolve(Engine(), torch.device("cpu"))
    assert resolved.facts() == {"device": "cpu", "precision": "fp32", "compile": None}
    outcome, _ = trained(base, task(base))
    assert outcome["engine"] == {**resolved.facts(), "parts": 1}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(("kind", "mask"), [(language, True), (task, False)])
def test_compiled_training_changes_rounding_only(base, kind, mask):
    """Both losses, both phases; blocks that are short, and the last step of an epoch."""
    made = kind(base, epochs=1, batch_size=7)
    assert len(made[0]) % 7
    compiled = Session(engine=Engine(compile=True))
    outcome, weights = trained(base, made, mask, compiled, torch.float64)
    assert outcome["engine"]["compile"] == "default"
    assert distance(weights, trained(base, made, mask, dtype=torch.float64)[1]) < TO_ROUNDING


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_what_does_not_compile_is_an_error_if_it_was_asked_for(base, monkeypatch):
    """With `auto` it would run plainly; that is decided by the device, so it is set by hand."""

    def broken(*_, **__):
        raise RuntimeError("no compiler")

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", broken)
    made = task(base, epochs=1)
    with pytest.raises(Exception, match="no compiler"):
        trained(base, made, True, Session(engine=Engine(compile=True)))
    monkeypatch.setattr(
        "deftx.engine.trainer.resolve",
        lambda *_: Resolved(device="cpu", precision="fp32", compile="default", fall_back=True),
    )
    torch._dynamo.reset()
    assert distance(trained(base, made)[1], trained(base, made)[1]) == 0


def test_what_is_not_installed_is_said_by_its_key(base):
    made = task(base)
    with pytest.raises(ValueError, match=r"engine\.attention is 'flash_attention_2': .*install"):
        trained(base, made, session=Session(engine=Engine(attention="flash_attention_2")))
    with pytest.raises(ValueError, match=r"report_to is \['wandb'\]: .*install wandb"):
        trained(base, made, session=Session(report_to=["wandb"]))


@pytest.mark.parametrize("kind", [language, task])
def test_eager_attention_changes_rounding_only(base, kind):
    found = [
        trained(base, kind(base), True, Session(engine=Engine(attention=name)))[1]
        for name in ("sdpa", "eager")
    ]
    assert 0 <= distance(*found) < 1e-5


def test_a_line_can_be_an_example(base):
    packed, _ = language(base, max_length=32)
    lines, settings = language(base, packed=False, max_length=32)
    assert len(lines) == 57 and len(packed) < 57
    assert len({len(e["input_ids"]) for e in lines.examples(range(57), 0)}) > 1
    outcome, _ = trained(base, (lines, settings))
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
            head = sum(w.numel() for n, w in weights.items() if not n.startswith("roberta.")
                       and n != "lm_head.decoder.weight")
            assert sum(sizes) == outcome["steps"] * (900 + head), (sizes, head)
        if share()[0] == 0:
            save_file(weights, Path({out!r}) / f"{{kind.__name__}}-{{mask}}.safetensors")
torch.distributed.destroy_process_group()
"""


def test_two_processes_equal_one_with_the_same_batch_and_exchange_k_values(base, tmp_path):
    from safetensors.torch import load_file

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


def test_callbacks_and_trackers_of_transformers_work(base, tmp_path, monkeypatch):
    seen = []

    class Watch(TrainerCallback):
        def on_log(self, args, state, control, logs, **_):
            seen.append((state.global_step, sorted(logs), args.report_to))

    trained(base, language(base), session=Session(callbacks=[Watch()]))
    logged = {name for _, names, _ in seen for name in names}
    assert {"loss", "grad_norm", "learning_rate", "eval_loss"} <= logged
    assert all(trackers == [] for *_, trackers in seen)
