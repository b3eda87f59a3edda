"""What a step does on a device, counted on a CPU: kernels, casts, bytes and waits; and the replay
of steps that are recorded."""

import os
from collections.abc import Sequence

import plain_kernels
import pytest
import torch
from conftest import sentences, without_dropout
from dispatch import KERNELS, Kernels, WaitError, no_waits, simulate_graphs
from simulated_gpu import BEGIN
from test_gpu import compare_with_cpu
from test_update import BOUNDS, KINDS, METHODS, difference
from training import (
    differing,
    killed_and_resumed,
    language,
    language_settings,
    snapshot,
    task_settings,
    without_key_bias,
)
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

from deftx.core.parameters import backbone_parameters, shapes_of
from deftx.engine.fit import fit
from deftx.engine.fused import FusedUpdate
from deftx.engine.graph import MOST, CannotRecordError, Replay, masks_as_recorded
from deftx.engine.language import MaskedLanguageModelling, masked_language_modelling
from deftx.engine.lookup import RowGradient
from deftx.engine.passes import Passes
from deftx.engine.session import Session
from deftx.engine.settings import Engine
from deftx.engine.steps import COST_OF_A_PASS, Steps
from deftx.engine.task import Classification
from deftx.engine.update import PlainUpdate, Rules
from deftx.models.load import load_tokenizer
from deftx.stages.mask.math import uniform
from deftx.store.errors import DeviceError

STEPS = 2


def around_steps(monkeypatch, block):
    """Enter a block around whatever a step does on the device, as it is recorded there."""
    original = Passes._compute

    def compute(*args):
        with masks_as_recorded(), block():
            return original(*args)

    monkeypatch.setattr(Passes, "_compute", compute)


# Kernels, casts, bytes


def thin(base, layers):
    """An untrained model of many thin layers, with an objective and settings."""
    settings = language_settings(max_steps=STEPS, l1=0.1)
    objective = masked_language_modelling(sentences(60), load_tokenizer(base), settings)
    shape = {
        "vocab_size": 2000, "hidden_size": 32, "num_hidden_layers": layers,
        "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 40,
    }  # fmt: skip
    config = XLMRobertaConfig(
        **shape, tie_word_embeddings=False, bos_token_id=0, eos_token_id=2, pad_token_id=1
    )
    return XLMRobertaForMaskedLM(config), objective, settings


@pytest.fixture
def count(base, monkeypatch):
    """A function that trains in bfloat16: number of layers, whether a mask → kernels and bytes of
    all steps."""

    def counted(layers, sparse):
        made, session = thin(base, layers), Session(engine=Engine(precision="bf16"))
        mask = uniform(shapes_of(backbone_parameters(made[0])), 5000, 0) if sparse else None
        with monkeypatch.context() as patch:
            kernels = Kernels(patch)
            plain_kernels.train_with(patch, fused=True)
            around_steps(patch, lambda: kernels)
            fit(*made, mask=mask, session=session)
        return kernels

    return counted


@pytest.mark.parametrize(
    ("sparse", "most", "casts"), [(False, 1170, 245), (True, 1140, 245)], ids=["full", "sparse"]
)
def test_kernels_and_casts_of_a_step_are_few_and_as_many_in_each_layer(count, sparse, most, casts):
    """12 layers, 8 x 16 tokens, counted as for the former engine, which launched 1,526 kernels in a
    full step, of them 532 casts, and 1,496 and 373 in a sparse one. A GPU launches fewer: attention
    and dropout are one kernel each there."""
    found = {}
    for layers in (4, 8, 12):
        kernels = count(layers, sparse)
        found[layers] = (kernels.counts.total() / STEPS, kernels.counts["_to_copy"] / STEPS)
    print(f"layers: (kernels, casts) {found}")
    assert found[12][0] <= most and found[12][1] <= casts
    for four, eight, twelve in zip(*found.values(), strict=True):
        assert eight - four == twelve - eight


def bytes_of_a_step(monkeypatch, fused, gradients, **given):
    """Name of a kernel → its bytes in a second step."""
    trained = {name: torch.nn.Parameter(torch.randn(4000, 64)) for name in gradients}
    start = {name: p.detach().clone() for name, p in trained.items()}
    rules = Rules(dict.fromkeys(trained, 1e-3), l1=0.1, total=1000, clip=1.0)
    with monkeypatch.context() as patch:
        kernels, adamw = Kernels(patch), torch.optim.AdamW
        # As on a GPU, in one pass.
        patch.setattr(torch.optim, "AdamW", lambda *a, **b: adamw(*a, **{**b, "fused": True}))
        if fused:
            update = FusedUpdate(trained, rules, start, **given)
        else:
            update = PlainUpdate(trained, rules, start, list(trained.values()))
        for number in range(2):
            kernels.bytes.clear()
            with kernels:
                update.begin(number, 1.0)
                update.add(gradients)
                update.step()
    return kernels.bytes


@pytest.mark.parametrize("lowered", [True, False])
def test_an_update_passes_over_memory_twice(monkeypatch, lowered):
    """Of a value that the model has in bfloat16 10 bytes for the norm and 32 for the move, after 4
    that put its gradient beside those of others; PyTorch's own parts pass over 72."""
    gradient = torch.randn(4000, 64)
    plain = bytes_of_a_step(monkeypatch, False, {"matrix": gradient.clone()})
    given = {"matrix": gradient.bfloat16() if lowered else gradient}
    fused = bytes_of_a_step(monkeypatch, True, given, low=given if lowered else ())
    found = {name: round(size / gradient.numel(), 2) for name, size in fused.items()}
    assert found["squares_of"] == (10 if lowered else 12) and found["move_"] == 32
    assert found["cat"] == (4 if lowered else 8)
    assert round(plain.total() / gradient.numel(), 2) == 72
    assert fused.total() <= (46.01 if lowered else 52.01) * gradient.numel()


@pytest.mark.parametrize("looked_up", [10, 400])
def test_rows_that_were_never_looked_up_cost_an_update_nothing(monkeypatch, looked_up):
    """28 bytes to move a value of the others, and 4 more in the step that looks it up; and for each
    row, whichever, that it is or was looked up, and how many of its entries moved."""
    tokens = torch.arange(0, 4000, 4000 // looked_up).repeat(2)
    gradient = RowGradient(tokens, torch.randn(len(tokens), 64))
    fused = bytes_of_a_step(monkeypatch, True, {"table": gradient}, rows="table")
    of_values, of_sums = 28 * 64 * looked_up, 4 * 64 * len(tokens)
    per_row = 8 + (1 + 1) + (4 + 4)  # its place, and the two facts, which are written too
    numbers = 3 * 4
    assert fused["move_rows_"] == of_values + of_sums + per_row * 4000 + numbers


def test_the_norm_of_an_update_reads_no_row_that_is_not_looked_up(monkeypatch):
    plain_kernels.put_in(monkeypatch)
    table = torch.nn.Parameter(torch.randn(40, 8))
    start = {"table": table.detach().clone()}
    update = FusedUpdate(
        {"table": table}, Rules({"table": 1e-3}, 0.1, 1000, 1.0), start, (), "table"
    )
    update.values["table"][20:] = float("nan")
    update.begin(0, 1.0)
    update.add({"table": RowGradient(torch.tensor([3, 7, 3]), torch.randn(3, 8))})
    assert update.step().isfinite()
    assert torch.equal(update.values["table"].isnan().all(1), torch.arange(40) >= 20)


# Waits


@pytest.mark.parametrize(
    "reads",
    [
        lambda x: float(x.sum()),
        lambda x: bool(x.any()),
        lambda x: [0] * x.long()[0, 0],
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.nonzero(),
        lambda x: x.index_put_((x > 0,), torch.ones(())),
        lambda x: torch.equal(x, x),
        lambda x: torch.unique(x),
        lambda x: x.repeat_interleave(x[0].long(), 0),
        lambda x: x + torch.tensor([1.0, 2.0]),
        lambda x: x[[0, 1]],
    ],
)
def test_what_waits_for_a_device_is_refused(reads):
    x = torch.tensor([[1.0, 0.0], [2.0, 3.0]])
    with no_waits(), pytest.raises(WaitError):
        reads(x)


@KINDS
@pytest.mark.parametrize("method", METHODS)
def test_a_step_waits_for_no_device(base, monkeypatch, kind, method):
    """With padding, the L1 term, and several batches."""
    plain_kernels.put_in(monkeypatch)
    plain_kernels.train_with(monkeypatch, fused=True)
    around_steps(monkeypatch, no_waits)
    changes = {"packed": False, "max_length": 32} if kind is language else {}
    made = kind(base, **changes, l1=1.0, batch_size=4, accumulation=2, max_steps=STEPS)
    METHODS[method](base, made, Session(engine=Engine(precision="bf16")))


WATCHED = """
from pathlib import Path
import deftx.models.device
deftx.models.device.has_kernels = lambda: True
import plain_kernels
import pytest
import test_step

patch = pytest.MonkeyPatch()
plain_kernels.put_in(patch)
test_step.around_steps(patch, test_step.no_waits)

def noted(name, kernel):
    def run(*args, **given):
        Path({out!r}, name).touch()
        return kernel(*args, **given)
    return run

for name in {kernels!r}:
    setattr(plain_kernels, name, noted(name, getattr(plain_kernels, name)))
"""


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-3), ("bf16", 0.1)])
def test_a_step_on_a_simulated_gpu_waits_for_nothing_and_keeps_to_the_device(
    base, tmp_path, simulated, precision, bound
):
    """With all that is done in another way on a GPU that has kernels; these are plain here. Bounds
    are those for a GPU in test_gpu.py."""
    if simulated is None:
        pytest.skip("a simulated GPU needs Linux, g++ and the build of PyTorch for CPUs")
    kernels = (*KERNELS, "cross_entropy_", "entries_of_rows")
    before = simulated + BEGIN + WATCHED.format(out=str(tmp_path), kernels=kernels)
    engine = {"precision": precision, "compile": False, "graph": False}
    compare_with_cpu(base, tmp_path, bound, os.environ, before=before, **engine)
    assert all((tmp_path / name).exists() for name in kernels)


# Shapes


class Lengths(Sequence):
    """Examples of these lengths, with or without a label."""

    def __init__(self, lengths, labelled):
        self._lengths, self._labelled = lengths, labelled

    def __len__(self):
        return len(self._lengths)

    def __getitem__(self, number):
        ids = torch.full((self._lengths[number],), 5)
        if self._labelled:
            return {"input_ids": ids, "labels": torch.tensor(0)}
        return {"input_ids": ids, "special_tokens_mask": torch.zeros_like(ids, dtype=torch.bool)}


def shapes_that_are_recorded(objective, settings):
    """The shapes of all steps of an epoch, as `Replay` tells them apart."""
    steps = Steps(objective, settings, 1, 2, few_shapes=True, cost=COST_OF_A_PASS["cuda"])
    return {
        tuple(
            tuple((n, *t.shape) for n, t in batch.items()) for batch in steps.step(number).batches
        )
        for number in range(settings.steps_per_epoch(*objective.sources))
    }


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("longest", [128, 256, 512])
@pytest.mark.parametrize("packed", [True, False])
def test_texts_of_all_lengths_have_few_shapes(base, longest, accumulation, packed):
    settings = language_settings(max_length=longest, accumulation=accumulation, packed=packed)
    lengths = [longest] * 300 if packed else [3 + i % (longest - 2) for i in range(2 * longest)]
    objective = MaskedLanguageModelling(Lengths(lengths, False), [], load_tokenizer(base), 0.15)
    found = shapes_that_are_recorded(objective, settings)
    assert len(found) <= MOST


@pytest.mark.parametrize("batch_size", [8, 32])
@pytest.mark.parametrize(("longest", "accumulation"), [(128, 1), (128, 4), (256, 1), (512, 1)])
def test_sentences_of_all_lengths_have_few_shapes(base, longest, batch_size, accumulation):
    settings = task_settings(max_length=longest, accumulation=accumulation, batch_size=batch_size)
    lengths = [3 + i % (longest - 2) for i in range(6 * longest)]
    objective = Classification(Lengths(lengths, True), [], load_tokenizer(base), settings)
    found = shapes_that_are_recorded(objective, settings)
    assert len(found) <= MOST


# Replay


def some_batch(entries, number):
    return [{"input_ids": torch.arange(entries) + number}]


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that are made, on the CPU."""
    return simulate_graphs(monkeypatch)


class Step:
    """A step that adds up the entries of a batch, and counts its calls."""

    def __init__(self):
        self.calls, self.moved = 0, torch.zeros(())

    def __call__(self, batches, labels):
        self.calls += 1
        self.moved += 1
        return batches[0]["input_ids"].sum() / labels, self.moved.clone()


def replayed(replay, step, entries, numbers):
    """Check the results of some steps, which stay as they are when others follow."""
    results = []
    for number in numbers:
        found = replay(some_batch(entries, number), torch.tensor(2.0 + number))
        expected = some_batch(entries, number)[0]["input_ids"].sum() / (2.0 + number)
        results.append((found, (expected, step.moved.clone())))
    for found, expected in results:
        assert [float(x) for x in found] == [float(x) for x in expected]


def test_a_step_runs_plainly_three_times_then_it_is_recorded_once_and_replayed(graphs):
    step = Step()
    replay = Replay(step)
    replayed(replay, step, 4, range(3))
    assert step.calls == 3 and not graphs
    replayed(replay, step, 4, range(3, 7))
    assert step.calls == 4 and [graph.replays for graph in graphs] == [4] and step.moved == 7


def test_each_further_shape_runs_plainly_twice_and_shapes_beyond_the_most_always(
    graphs, monkeypatch
):
    monkeypatch.setattr("deftx.engine.graph.MOST", 2)
    step = Step()
    replay = Replay(step)
    replayed(replay, step, 4, range(5))
    for entries, calls in ((5, 4 + 3), (4, 7), (6, 7 + 4)):
        replayed(replay, step, entries, range(4))
        assert step.calls == calls
    assert [graph.replays for graph in graphs] == [2 + 4, 2]


def test_what_is_forgotten_is_recorded_anew(graphs):
    step = Step()
    replay = Replay(step)
    replayed(replay, step, 4, range(5))
    replay.forget()
    replayed(replay, step, 4, range(5))
    assert step.calls == 8 and [graph.replays for graph in graphs] == [2, 2]


def test_a_step_that_waits_is_found_before_anything_is_recorded(graphs):
    step = Step()

    def waits(*given):
        if torch.cuda.get_sync_debug_mode() == "error":
            raise RuntimeError("called a synchronizing CUDA operation")
        return step(*given)

    replay = Replay(waits)
    replayed(replay, step, 4, range(2))
    with pytest.raises(CannotRecordError, match="synchronizing"):
        replay(some_batch(4, 0), torch.tensor(1.0))
    assert step.calls == 2 and not graphs and torch.cuda.get_sync_debug_mode() == 0


def test_another_error_of_a_step_is_raised_as_it_is(graphs):
    def broken(*given):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        Replay(broken)(some_batch(4, 0), torch.tensor(1.0))


def as_if_recorded(compute):
    """A `Replay` that records nothing."""

    def step(batches, labels):
        with masks_as_recorded():
            return compute(batches, labels)

    return step


@pytest.fixture
def trains(base, monkeypatch, graphs):
    """A function that trains on steps with few shapes, with dropout, validation and the fused
    update, and replays them or not: what happened and all tensors at the end."""
    plain_kernels.put_in(monkeypatch)
    plain_kernels.train_with(monkeypatch, fused=True, graph=True)
    monkeypatch.setattr(
        "deftx.engine.loop.Steps", lambda *a, **b: Steps(*a, **{**b, "few_shapes": True})
    )

    def train(method, kind, replays, changes=None, engine=None, dropout=True, **given):
        monkeypatch.setattr("deftx.engine.passes.Replay", Replay if replays else as_if_recorded)
        graphs.clear()
        made = kind(base, **(changes or {}))
        if not dropout:
            without_dropout(made[0])
        session = Session(1, 2, 3, Engine(**{"precision": "bf16", **(engine or {})}), **given)
        outcome, more = METHODS[method](base, made, session)
        assert replays or not graphs
        return outcome, snapshot(made[0]) | more

    return train


@KINDS
@pytest.mark.parametrize("method", METHODS)
def test_a_training_of_replayed_steps_has_the_bits_of_plain_ones(trains, graphs, kind, method):
    changes = {"l1": 10.0, "batch_size": 4, "accumulation": 2}
    plain, replayed = (trains(method, kind, replays, changes) for replays in (False, True))
    assert sum(graph.replays for graph in graphs) >= replayed[0]["steps"] - 6
    assert replayed[0] == plain[0] and not differing(replayed[1], plain[1])


@KINDS
@pytest.mark.parametrize("method", ["full", "sparse"])
def test_a_training_may_go_from_replayed_to_plain_steps_and_back(
    trains, tmp_path, monkeypatch, kind, method
):
    monkeypatch.setenv("DEFTX_CHECKPOINT_MINUTES", "0")
    runs = []

    def run(**given):
        runs.append(len(runs) % 2 == 0)
        return trains(method, kind, runs[-1], changes={"evaluate_every": 3}, **given)

    expected, weights = trains(method, kind, False, changes={"evaluate_every": 3})
    outcome, resumed = killed_and_resumed(run, tmp_path / "model.safetensors", (5, 6, 11))
    assert outcome == expected and not differing(resumed, weights)


def wait_in_backward(monkeypatch):
    """Let the backward pass of a step's second batch wait for the device when all gradients are
    there."""
    original, calls = torch.Tensor.backward, []

    def backward(*args, **given):
        original(*args, **given)
        calls.append(None)
        if torch.cuda.get_sync_debug_mode() == "error" and len(calls) % 2 == 0:
            raise RuntimeError("called a synchronizing CUDA operation")

    monkeypatch.setattr(torch.Tensor, "backward", backward)


@KINDS
@pytest.mark.parametrize("method", ["full", "sparse", "adapter"])
def test_a_base_whose_steps_wait_trains_plainly_or_the_error_names_the_setting(
    trains, graphs, monkeypatch, caplog, kind, method
):
    changes = {"batch_size": 4, "accumulation": 2}
    expected, weights = trains(method, kind, False, changes=changes)
    wait_in_backward(monkeypatch)
    outcome, plain = trains(method, kind, True, changes=changes)
    assert not graphs and outcome == expected and not differing(plain, weights)
    assert "steps are not recorded as CUDA graphs: called a synchronizing" in caplog.text
    with pytest.raises(DeviceError, match=r"engine\.graph is true, but a step .* set it to auto"):
        trains(method, kind, True, engine={"graph": True}, changes=changes)


@pytest.mark.rounding
@KINDS
@pytest.mark.parametrize("method", ["full", "sparse"])
def test_out_of_memory_while_recording_halves_and_records_anew(
    base, trains, graphs, monkeypatch, kind, method
):
    """In float32, so within what its rounding makes of a training; only the new recordings keep
    their memory."""
    start = snapshot(kind(base)[0])
    fp32 = {"precision": "fp32"}
    expected, weights = trains(method, kind, False, engine=fp32, dropout=False)
    original = Passes._backward

    def backward(passes, batch, labels):
        if len(graphs) == 1 and len(batch["input_ids"]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(passes, batch, labels)

    forget, forgotten = Replay.forget, []
    monkeypatch.setattr(Replay, "forget", lambda replay: forgotten.append(forget(replay)))
    monkeypatch.setattr(Passes, "_backward", backward)
    engine = {**fp32, "on_out_of_memory": "halve"}
    outcome, halved = trains(method, kind, True, engine=engine, dropout=False)
    assert outcome["engine"]["parts"] == 2 and expected["engine"]["parts"] == 1
    assert len(forgotten) == 1 and len(graphs) > 1 and graphs[0].replays == 0 < graphs[1].replays
    ours, plain = without_key_bias(halved), without_key_bias(weights)
    assert difference(ours, plain, start) < BOUNDS["fp32"]
