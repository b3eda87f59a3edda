"""Laws of each family that trains something of its own: adapters, gates, gated weights, LoRA."""

import pytest
import torch
from training import differing, killed_and_resumed, language, snapshot, structure, task

from deftx.core.parameters import head_parameters, matrices
from deftx.engine.session import Session
from deftx.engine.settings import Engine
from deftx.stages.adapter.math import fresh_adapter
from deftx.stages.adapter.run import fit_adapter
from deftx.stages.adapter.settings import Adapter
from deftx.stages.gate.settings import Gate
from deftx.stages.gate.train import fit_gated, fit_gates
from deftx.stages.lora.run import fit_factors

KINDS = pytest.mark.parametrize("kind", [language, task])


def fit_adapters(model, objective, settings, session):
    """The adapter of a language, or that of a task on top of one."""
    settings_of_both = Adapter(task_reduction=8)
    below, drop_last = None, 0
    if objective.best != "loss":
        below = fresh_adapter(model, settings_of_both, language=True, seed=1)
        drop_last = 1
    module = fresh_adapter(model, settings_of_both, language=below is None, seed=5)
    before = [snapshot(adapter) for adapter in (module, below) if adapter]
    outcome = fit_adapter(
        model, objective, settings, module, below=below, drop_last=drop_last, session=session
    )
    assert differing(snapshot(module), before[0]) == set(before[0])
    assert below is None or differing(snapshot(below), before[1]) == set()
    return snapshot(module), outcome


def fit_soft_mask(*given):
    learned, outcome = fit_gates(*given[:3], Gate(granularity="matrix"), given[3])
    assert all(bool((s != 4.0).all()) for s in learned.values())
    return learned, outcome


def fit_behind_gates(model, objective, settings, session):
    gates = {name: torch.rand(weight.shape) for name, weight in matrices(model).items()}
    outcome = fit_gated(model, objective, settings, gates, session)
    return {name: weight.detach() for name, weight in matrices(model).items()}, outcome


def fit_lora(model, objective, settings, session):
    factors, outcome = fit_factors(model, objective, settings, 3, 6.0, 0, session)
    assert factors.keys() == matrices(model).keys()
    sides = {f"{n}.{side}": t for n in factors for side in ("left", "right")
             if (t := getattr(factors[n], side)).any()}  # fmt: skip
    return sides, outcome


FAMILIES = pytest.mark.parametrize("fit", [fit_adapters, fit_soft_mask, fit_behind_gates, fit_lora])


@FAMILIES
@KINDS
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_the_family_trains_and_the_head_move_and_nothing_else(base, fit, kind, precision):
    """With weight decay, which would move what it can reach. The model has the modules, names and
    order of parameters that it was made with."""
    model, *given = kind(base, weight_decay=0.1)
    before, modules, head = snapshot(model), structure(model), head_parameters(model)
    trained, outcome = fit(model, *given, Session(engine=Engine(precision=precision)))
    assert structure(model) == modules and list(snapshot(model)) == list(before)
    assert not hasattr(model.base_model, "peft_config")
    own = {id(weight) for weight in matrices(model).values()} if fit is fit_behind_gates else set()
    own |= {id(parameter) for parameter in head.values()}
    expected = {name for name, parameter in model.named_parameters() if id(parameter) in own}
    assert differing(snapshot(model), before) == expected
    assert outcome["engine"]["precision"] == precision
    assert outcome["trained"] == sum(tensor.numel() for tensor in trained.values())
    assert outcome["trained_head"] == sum(p.numel() for p in head.values())
    assert all(tensor.dtype == torch.float32 for tensor in trained.values())


@FAMILIES
def test_a_failure_leaves_the_model_plain(base, fit):
    model, *given = task(base)
    modules, names = structure(model), list(snapshot(model))
    head_parameters(model)["classifier.out_proj.bias"].data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="step 1: the loss is nan"):
        fit(model, *given, Session())
    assert structure(model) == modules and list(snapshot(model)) == names


@pytest.mark.rounding
@FAMILIES
@KINDS
def test_resumed_training_has_the_bits_of_uninterrupted_training(
    base, tmp_path, fit, kind, monkeypatch
):
    monkeypatch.setenv("DEFTX_CHECKPOINT_MINUTES", "0")

    def run(**given):
        torch.manual_seed(7)
        made = kind(base, evaluate_every=3)
        session = Session(order_seed=1, draw_seed=2, dropout_seed=3, **given)
        trained, outcome = fit(*made, session)
        return outcome, {**snapshot(made[0]), **trained}

    outcome, expected = run()
    stops = 3, outcome["steps"] - 1
    again, found = killed_and_resumed(run, tmp_path / "model.safetensors", stops)
    assert again == outcome and differing(found, expected) == set()
