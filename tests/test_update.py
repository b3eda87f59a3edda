"""What moves the values that train, against AdamW, the L1 term and clipping written plainly."""

from contextlib import nullcontext

import plain_kernels
import pytest
import torch
from training import (
    assert_close,
    differing,
    killed_and_resumed,
    language,
    snapshot,
    task,
    without_key_bias,
)

from deftx.engine.decoder import cross_entropy as plain_cross_entropy
from deftx.engine.decoder import decoder_loss, padded
from deftx.engine.fit import fit
from deftx.engine.fused import FusedUpdate
from deftx.engine.lookup import RowGradient, small_tables_by_row
from deftx.engine.passes import Passes
from deftx.engine.session import Session
from deftx.engine.settings import Engine
from deftx.engine.update import PlainUpdate, Rules
from deftx.models.load import load_masked_lm
from deftx.models.token_arrays import IGNORED
from deftx.stages.adapter.math import fresh_adapter
from deftx.stages.adapter.run import fit_adapter
from deftx.stages.adapter.settings import Adapter
from deftx.stages.gate.settings import Gate
from deftx.stages.gate.train import fit_gates
from deftx.stages.lora.run import fit_factors
from deftx.stages.mask.math import uniform

STEPS = 6
SHAPES = {"matrix": (5, 7), "table": (40, 6), "vector": (1030,)}


@pytest.fixture
def interpreted():
    """Triton's kernels, which its interpreter runs on the CPU."""
    pytest.importorskip("triton", reason="Triton is not installed; PyTorch for CUDA brings it")
    import deftx.engine.kernels

    return deftx.engine.kernels


@pytest.fixture(params=["plain", "triton"])
def kernels(request, monkeypatch):
    """What the engine computes with: the kernels written plainly, and Triton's."""
    if request.param == "triton":
        return request.getfixturevalue("interpreted")
    plain_kernels.put_in(monkeypatch)
    return plain_kernels


def start_of(dtype):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype))
        for name, shape in SHAPES.items()
    }


def gradients_of(step, batch, dtype):
    """Random gradients; those of the table belong to few of its rows, some of which repeat."""
    generator = torch.Generator().manual_seed(10 * step + batch)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype)

    tokens = torch.randint(0, 20, (8,), generator=generator)
    return {
        "matrix": draw(5, 7),
        "table": RowGradient(tokens, draw(8, 6)),
        "vector": draw(1030),
    }


def moved_plainly(rules, dtype):
    """The formulas of AdamW (Loshchilov & Hutter 2019) with bias correction, one tensor after the
    other; the L1 term by autograd, and the norm over all."""
    values = {name: p.detach().clone() for name, p in start_of(dtype).items()}
    start = {name: value.clone() for name, value in values.items()}
    first = {name: torch.zeros_like(value) for name, value in values.items()}
    second = {name: torch.zeros_like(value) for name, value in values.items()}
    norms = []
    for step in range(STEPS):
        gradients = {}
        for name, value in values.items():
            leaf = value.clone().requires_grad_()
            penalty = rules.l1 / rules.total * (leaf - start[name]).abs().sum()
            (gradients[name],) = torch.autograd.grad(penalty, leaf)
        for batch in range(2):
            for name, gradient in gradients_of(step, batch, dtype).items():
                if isinstance(gradient, RowGradient):
                    for token, slope in zip(gradient.tokens, gradient.slope, strict=True):
                        gradients[name][token] += slope
                else:
                    gradients[name] += gradient
        norm = torch.cat([g.flatten() for g in gradients.values()]).norm()
        norms.append(norm)
        for name, gradient in gradients.items():
            gradient = gradient * min(1.0, rules.clip / (float(norm) + 1e-6))
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            size = first[name] / (1 - 0.9 ** (step + 1))
            root = (second[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            rate = rules.rates[name] * factor(step)
            values[name] = values[name] * (1 - rate * rules.weight_decay) - rate * size / root
    return values, torch.stack(norms)


def factor(step):
    return 1 - step / STEPS


def moved(update, dtype, steps=range(STEPS)):
    norms = []
    for step in steps:
        update.begin(step, factor(step))
        for batch in range(2):
            update.add(gradients_of(step, batch, dtype))
        norms.append(update.step())
    return {name: value.clone() for name, value in update.values.items()}, torch.stack(norms)


def rules_of(l1, clip, decay=0.0):
    rates = {"matrix": 1e-2, "table": 2e-2, "vector": 1e-2}
    return Rules(rates, l1, 1000, clip, decay)


@pytest.mark.rounding
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("l1", "clip"), [(0.0, 1e9), (0.0, 1.0), (500.0, 1.0)])
def test_the_plain_update_is_adamw_with_the_l1_term_and_clipping(l1, clip, decay):
    rules, trained = rules_of(l1, clip, decay), start_of(torch.float64)
    start = {name: p.detach().clone() for name, p in trained.items()}
    values, norms = moved(PlainUpdate(trained, rules, start, list(trained.values())), torch.float64)
    expected, expected_norms = moved_plainly(rules, torch.float64)
    assert_close({**values, "norms": norms}, {**expected, "norms": expected_norms})
    assert all(torch.equal(values[name], p) for name, p in trained.items())


@pytest.mark.parametrize(("l1", "clip"), [(0.0, 1e9), (0.0, 1.0), (500.0, 1.0)])
def test_the_fused_update_is_the_plain_one(kernels, l1, clip):
    """In float32, so each value within a few of its roundings, of the rate or of itself. Some are
    not where they started, as in a round of several: the L1 term moves them whether or not their
    row is looked up."""
    rules, found = rules_of(l1, clip), []
    for kind in ("plain", "fused"):
        trained = start_of(torch.float32)
        start = {name: p.detach().clone() for name, p in trained.items()} if l1 else {}
        with torch.no_grad():
            for p in trained.values():
                p[::3] += 0.5
        if kind == "plain":
            update = PlainUpdate(trained, rules, start, list(trained.values()))
        else:
            update = FusedUpdate(trained, rules, start, rows="table")
        found.append(moved(update, torch.float32))
        update.close()
        assert all(torch.equal(found[-1][0][name], p) for name, p in trained.items())
    (plain, norms), (fused, fused_norms) = found
    torch.testing.assert_close(fused_norms, norms, rtol=1e-6, atol=0)
    for name, values in fused.items():
        torch.testing.assert_close(values, plain[name], rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("l1", [0.0, 500.0])
def test_either_update_goes_on_where_the_other_one_was(kernels, l1):
    """Values and moments are the same by name, and so is what follows from them."""
    rules, dtype = rules_of(l1, 1.0), torch.float32

    def made(kind):
        trained = start_of(dtype)
        start = {name: p.detach().clone() for name, p in trained.items()} if l1 else {}
        if kind == "plain":
            return PlainUpdate(trained, rules, start, list(trained.values()))
        return FusedUpdate(trained, rules, start, low=["matrix"], rows="table")

    ends = {}
    for before in ("plain", "fused"):
        for after in ("plain", "fused"):
            one, other = made(before), made(after)
            moved(one, dtype, range(3))
            with torch.no_grad():
                for name, values in other.values.items():
                    values.copy_(one.values[name])
            moments = {n: {m: t.clone() for m, t in f.items()} for n, f in one.moments().items()}
            other.restore(moments)
            ends[before, after] = moved(other, dtype, range(3, STEPS))[0]
    expected = ends.pop(("plain", "plain"))
    for found in ends.values():
        for name, values in found.items():
            torch.testing.assert_close(values, expected[name], rtol=1e-6, atol=2e-6)


def test_the_model_computes_with_the_values_rounded_to_bfloat16(kernels):
    trained = start_of(torch.float32)
    update = FusedUpdate(trained, rules_of(0.0, 1.0), {}, low=["matrix"], rows="table")
    assert trained["matrix"].dtype == torch.bfloat16 and trained["vector"].dtype == torch.float32
    values, _ = moved(update, torch.float32)
    if kernels is plain_kernels:
        assert torch.equal(trained["matrix"], values["matrix"].bfloat16())
    # Triton's interpreter cuts off what a GPU rounds.
    torch.testing.assert_close(trained["matrix"].float(), values["matrix"], rtol=2**-7, atol=0)
    update.close()
    assert torch.equal(trained["matrix"], values["matrix"])


def close_in_float32(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("gradients", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pulled", [False, True])
def test_the_kernels_of_an_update_are_their_plain_twins(interpreted, gradients, pulled):
    """Of values in one vector and of rows of a table, of which some are looked up, some were
    before, and some never; everything that they write."""
    given = {"pull": 0.3, "clip": 2.0}

    def effects(kernels):
        generator = torch.Generator().manual_seed(0)

        def draw(*shape):
            return torch.randn(shape, generator=generator)

        numbers, found = torch.tensor([1e-2, 30.0]), {}
        values, gradient, first, second = (draw(1500) for _ in range(4))
        start = values.clone() if pulled else None
        values[::3] += 1.0
        gradient, second, low = gradient.to(gradients), second.square(), values.bfloat16()
        squares = kernels.squares_of(values, gradient, start, given["pull"])
        state = (first, second), start, low, numbers, squares
        kernels.move_(values, gradient, *state, **given)
        found["vector"] = [squares, values, first, second]
        table, first, second = (draw(40, 6) for _ in range(3))
        start, second = table.clone() if pulled else None, second.square()
        tokens, slope = torch.randint(0, 20, (8,), generator=generator), draw(8, 6)
        seen = (torch.arange(40) % 4 == 0).to(torch.int8)
        table[seen != 0] += 1.0
        first[seen == 0], second[seen == 0] = 0.0, 0.0
        apart = (6.0 * seen).float()
        place, sums = RowGradient(tokens, slope).by_row(40)
        state = (first, second), start, seen, apart, numbers, squares
        kernels.move_rows_(table, sums, place, *state, **given)
        found["table"] = [table, first, second, seen, apart]
        return found, low

    (found, low), (expected, expected_low) = map(effects, (interpreted, plain_kernels))
    for kind, tensors in found.items():
        for one, other in zip(tensors, expected[kind], strict=True):
            close_in_float32(one, other)
    # Triton's interpreter cuts off what a GPU rounds.
    torch.testing.assert_close(low.float(), expected_low.float(), rtol=2**-7, atol=0)


def test_a_row_that_was_never_looked_up_keeps_its_bits(kernels):
    trained = start_of(torch.float32)
    before = trained["table"].detach().clone()
    update = FusedUpdate(trained, rules_of(0.0, 1.0), {}, rows="table")
    after = moved(update, torch.float32)[0]["table"]
    seen = torch.zeros(40, dtype=torch.bool)
    for step in range(STEPS):
        for batch in range(2):
            seen[gradients_of(step, batch, torch.float32)["table"].tokens] = True
    assert not seen[20:].any() and seen[:20].any()
    assert torch.equal((after != before).any(1), seen)


@pytest.mark.rounding
def test_gradients_by_row_are_the_dense_gradient():
    tokens = torch.tensor([3, 0, 3, 5, 3])
    slope = torch.randn(5, 4, dtype=torch.float64)
    gradient = RowGradient(tokens, slope)
    place, sums = gradient.by_row(7)
    found = torch.where((place >= 0)[:, None], sums[place.clamp(min=0)], 0.0)
    expected = torch.zeros(7, 4, dtype=torch.float64)
    for token, row in zip(tokens, slope, strict=True):
        expected[token] += row
    dense = gradient.dense(7)
    assert_close({"by row": found, "dense": dense}, {"by row": expected, "dense": expected})


def test_the_entries_of_rows_are_those_of_the_dense_gradient(kernels):
    tokens, generator = torch.tensor([3, 0, 3, 5, 3]), torch.Generator().manual_seed(0)
    gradient = RowGradient(tokens, torch.randn(5, 4, generator=generator))
    row, column = torch.randint(0, 7, (2000,)), torch.randint(0, 4, (2000,))
    found = kernels.entries_of_rows(*gradient.by_row(7), row, column)
    assert torch.equal(found, gradient.dense(7)[row, column])


@pytest.mark.rounding
def test_small_tables_by_row_have_the_gradient_of_embeddings(base):
    tokens = torch.tensor([[3, 0, 1, 5, 3], [3, 3, 1, 1, 0]])
    gradients = []
    for by_row in (False, True):
        model = load_masked_lm(base).double()
        with small_tables_by_row(model) if by_row else nullcontext():
            model(input_ids=tokens).logits.pow(2).mean().backward()
        tables = ("position_embeddings", "token_type_embeddings")
        gradients.append(
            {t: model.get_parameter(f"roberta.embeddings.{t}.weight").grad for t in tables}
        )
        assert all(gradient.any() for gradient in gradients[-1].values())
    assert_close(*gradients)


@pytest.mark.rounding
def test_the_padded_decoder_is_the_plain_one():
    """Value and gradients; what pads has no part in either."""
    generator = torch.Generator().manual_seed(0)
    features, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((9, 5), (300, 5), (300,))
    )
    targets = torch.tensor([3, IGNORED, 0, 299, 3, IGNORED, 7, 250, 1])
    assert len(padded(weight)) == 384
    found = []
    for decoder in (weight, padded(weight)):
        leaves = [features.clone().requires_grad_(), bias.clone().requires_grad_()]
        loss = decoder_loss(leaves[0], decoder, leaves[1], targets)
        gradients = torch.autograd.grad(loss, leaves)
        found.append(dict(zip(("loss", "features", "bias"), (loss, *gradients), strict=True)))
    assert_close(*found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("columns", [64, 128, 512])
def test_the_kernel_of_the_cross_entropy_computes_what_is_written_plainly(
    kernels, monkeypatch, dtype, columns
):
    """In float32 to its rounding; in bfloat16 to that of the slopes, which are stored in it."""
    monkeypatch.setattr(kernels, "COLUMNS", columns, raising=False)
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(7, 320, generator=generator)).to(dtype)
    bias = torch.randn(300, generator=generator)
    targets = torch.tensor([3, IGNORED, 0, 299, 3, 150, 7])
    expected, slope = plain_cross_entropy(logits.clone(), bias, targets, wanted=True)
    for wanted in (True, False):
        given = logits.clone()
        losses = kernels.cross_entropy_(given, bias, targets, ignored=IGNORED, slope=wanted)
        torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
        if wanted:
            assert not given[:, 300:].any()
            torch.testing.assert_close(
                given.float(), slope, rtol=1e-5 if dtype == torch.float32 else 2**-7, atol=1e-6
            )
        else:
            assert torch.equal(given, logits)


# Whole trainings


def sparse(base, made, session, words=True):
    names = without_key_bias(base.maskable)
    if not words:
        del names["embeddings.word_embeddings.weight"]
    return fit(*made, mask=uniform(names, 900, 0), session=session)


def adapter(base, made, session):
    """The adapter's weights are those that train, so they stand for the outcome's tensors."""
    module = fresh_adapter(made[0], Adapter(drop_last=0), language=made[1].best == "loss", seed=5)
    outcome = fit_adapter(*made, module, session=session)
    return outcome, module.state_dict()


def lora(base, made, session):
    factors, outcome = fit_factors(*made, 3, 6.0, session=session)
    return outcome, {name: change.left @ change.right for name, change in factors.items()}


def gate(base, made, session):
    learned, outcome = fit_gates(*made, Gate(learning_rate=0.1), session=session)
    return outcome, learned


METHODS = {
    "full": lambda base, made, session: (fit(*made, session=session), {}),
    "sparse": lambda base, made, session: (sparse(base, made, session), {}),
    "sparse, no words": lambda base, made, session: (sparse(base, made, session, False), {}),
    "adapter": adapter,
    "lora": lora,
    "gate": gate,
}
"""How a model is trained: the base, a model with its objective and settings, and a session → the
outcome, and tensors that trained outside of the model."""

KINDS = pytest.mark.parametrize("kind", [language, task])


@pytest.fixture
def trains(base, monkeypatch):
    """A function that trains with an update, `fused` or plain, and dropout, on plain kernels: what
    happened, and all tensors at the end."""
    plain_kernels.put_in(monkeypatch)

    def train(method, kind, fused, precision="fp32", changes=None, **given):
        made = kind(base, **(changes or {}))
        session = Session(1, 2, 3, Engine(precision=precision), **given)
        with monkeypatch.context() as patch:
            plain_kernels.train_with(patch, fused=fused)
            outcome, more = METHODS[method](base, made, session)
        assert outcome["engine"]["fused"] == fused
        return outcome, without_key_bias(snapshot(made[0]) | more)

    return train


def difference(ours, plain, start):
    """How far values are apart, relative to how far they moved, all together."""
    apart, moved = (
        sum((one[n] - other[n]).norm() ** 2 for n in plain) ** 0.5
        for one, other in ((ours, plain), (plain, {n: start.get(n, 0.0) for n in plain}))
    )
    return float(apart / moved)


BOUNDS = {"fp32": 1e-4, "bf16": 0.03}
"""How far trainings that add up in another order may be apart, relative to how far values move.
Each of 12 to 15 steps rounds gradients by 2⁻²⁴ of themselves and AdamW adds them up: about 1e-6,
as is found. A gradient that is nearly 0 has no digits left, and AdamW turns it into a step as large
as any; so a hundred times that. In bfloat16 a value that is rounded the other way differs by 2⁻⁸ of
itself in the next forward pass; 0.003 is found, and allowed is ten times that."""


@pytest.fixture
def losses(monkeypatch):
    """Number and loss of each step that is made."""
    losses, original = [], Passes.step

    def step(passes, number):
        found = original(passes, number)
        losses.append((number, float(found[0])))
        return found

    monkeypatch.setattr(Passes, "step", step)
    return losses


@pytest.mark.rounding
@KINDS
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize(
    "changes", [{}, {"batch_size": 4, "accumulation": 2, "l1": 10.0, "warmup_steps": 3}]
)
def test_trainings_with_either_update_are_the_same(
    base, trains, losses, kind, method, precision, changes
):
    """By every method: two rates, the L1 term, gradients of several batches. In the first forward
    pass every bit, although one update keeps weights in bfloat16 and autocast makes them from
    those of the other."""
    start = snapshot(kind(base)[0])
    plain, fused = (trains(method, kind, fused, precision, changes)[1] for fused in (False, True))
    one, other = (loss for number, loss in losses if number == 0)
    assert one == other
    assert difference(fused, plain, start) < BOUNDS[precision]


@KINDS
@pytest.mark.parametrize("method", ["full", "sparse"])
@pytest.mark.parametrize("precision", BOUNDS)
def test_a_resumed_training_with_the_fused_update_has_the_bits_of_one_in_a_go(
    trains, tmp_path, monkeypatch, kind, method, precision
):
    monkeypatch.setenv("DEFTX_CHECKPOINT_MINUTES", "0")
    changes = {"accumulation": 2, "batch_size": 4, "l1": 10.0, "evaluate_every": 3}
    given = method, kind, True, precision, changes
    outcome, weights = trains(*given)
    again, resumed = killed_and_resumed(
        lambda **more: trains(*given, **more), tmp_path / "model.safetensors", (1, 4, 5, 11)
    )
    assert again == outcome and not differing(resumed, weights)


@pytest.mark.rounding
@KINDS
@pytest.mark.parametrize("method", ["full", "sparse"])
def test_a_training_may_go_from_one_update_to_the_other_and_back(
    base, trains, tmp_path, monkeypatch, kind, method
):
    monkeypatch.setenv("DEFTX_CHECKPOINT_MINUTES", "0")
    changes, updates = {"l1": 10.0, "evaluate_every": 3}, []

    def run(**given):
        updates.append(len(updates) % 2 == 0)
        return trains(method, kind, updates[-1], changes=changes, **given)

    outcome, weights = trains(method, kind, False, changes=changes)
    again, resumed = killed_and_resumed(run, tmp_path / "model.safetensors", (4, 5, 9))
    assert updates == [True, False, True, False] and again["best_step"] == outcome["best_step"]
    assert difference(resumed, weights, snapshot(kind(base)[0])) < BOUNDS["fp32"]


@KINDS
@pytest.mark.parametrize("method", ["full", "sparse"])
def test_a_trained_model_has_float32_parameters_that_share_no_memory(
    base, monkeypatch, kind, method
):
    plain_kernels.put_in(monkeypatch)
    plain_kernels.train_with(monkeypatch, fused=True)
    made = kind(base)
    modules = [(name, type(module)) for name, module in made[0].named_modules()]
    METHODS[method](base, made, Session(engine=Engine(precision="bf16")))
    assert modules == [(name, type(module)) for name, module in made[0].named_modules()]
    for name, parameter in made[0].named_parameters():
        assert parameter.dtype == torch.float32 and parameter.is_contiguous(), name
        assert parameter.untyped_storage().nbytes() == 4 * parameter.numel(), name
