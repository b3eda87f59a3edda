"""Means of states of one training, and of vectors over seeds, against plain sums."""

import json

import plain_kernels
import pytest
import torch
from test_plan import differing as changed
from test_plan import plan, state, unchanged
from training import differing, killed_and_resumed, language, snapshot, task

from deftx.engine.fit import fit
from deftx.engine.session import Session
from deftx.engine.settings import LanguageTraining, TaskTraining
from deftx.plan.config import check_config
from deftx.stages.mask.math import uniform
from deftx.store.errors import ConfigError, InputError

KINDS = pytest.mark.parametrize("kind", [language, task])
PHASES = pytest.mark.parametrize("sparse", [False, True])


def trained(base, kind=task, sparse=False, *, watch=None, valid=10, **changes):
    """The outcome and the weights of ten steps of training, evaluated after 3, 6, 9, and 10."""
    given = {"valid": valid} if kind is task else {}
    settings = {"evaluate_every": 3, "epochs": 9, "max_steps": 10, **changes}
    model, objective, training = kind(base, **given, **settings)
    mask = uniform(base.maskable, 900, 0) if sparse else None

    def before_step(done):
        if watch is not None:
            watch[done] = snapshot(model)

    session = Session(1, 2, 3, before_step=before_step)
    outcome = fit(model, objective, training, mask=mask, session=session)
    return outcome, snapshot(model)


@pytest.mark.rounding
@KINDS
@PHASES
def test_the_average_is_the_mean_of_the_last_evaluated_states(base, kind, sparse):
    """Kept by hand. Each of k states is rounded once, to half a unit in the last place of a value
    no larger than the largest; the difference that is added is much smaller than that."""
    states = {}
    _, states[10] = trained(base, kind, sparse, watch=states, average=1)
    outcome, found = trained(base, kind, sparse, average=3)
    assert outcome["averaged"]["steps"] == [6, 9, 10]
    for name, tensor in found.items():
        each = torch.stack([states[step][name].double() for step in (6, 9, 10)])
        bound = 3 * torch.finfo(torch.float32).eps / 2 * each.abs().amax(0)
        assert ((tensor.double() - each.mean(0)).abs() <= bound).all(), name
        still = (each == each[0]).all(0)
        assert torch.equal(tensor[still], each[0][still].float())


@KINDS
@PHASES
def test_an_average_of_one_state_is_the_last_one_and_the_path_to_it_is_the_same(base, kind, sparse):
    outcome, last = trained(base, kind, sparse, average=1)
    plain, best = trained(base, kind, sparse)
    _, at_the_end = trained(base, kind, sparse, evaluate_every=100)
    assert differing(last, at_the_end) == set()
    assert outcome.pop("averaged")["steps"] == [10] and outcome == plain
    assert plain["best_step"] == 10 or differing(last, best)


@KINDS
def test_the_mean_is_measured_once_and_its_value_recorded(base, kind):
    outcome, weights = trained(base, kind, average=2, valid=40)
    model, objective, _ = kind(base, **({"valid": 40} if kind is task else {}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
        value = objective.validate(objective.learner(model).eval(), torch.device("cpu"))
    assert outcome["averaged"] == {"steps": [9, 10], objective.best: value[objective.best]}


@KINDS
@PHASES
@pytest.mark.parametrize("fused", [False, True])
def test_a_training_that_is_killed_within_the_window_ends_with_the_same_bits(
    base, tmp_path, monkeypatch, kind, sparse, fused
):
    """Before the window, between two of its evaluations, and before the last step."""
    monkeypatch.setenv("DEFTX_CHECKPOINT_MINUTES", "0")
    if fused:
        plain_kernels.put_in(monkeypatch)
        plain_kernels.train_with(monkeypatch, fused=True)

    def run(**given):
        changes = {"evaluate_every": 3, "epochs": 9, "max_steps": 13, "average": 3}
        model, *made = kind(base, **changes)
        mask = uniform(base.maskable, 900, 0) if sparse else None
        return fit(model, *made, mask=mask, session=Session(1, 2, 3, **given)), snapshot(model)

    outcome, weights = run()
    again, resumed = killed_and_resumed(run, tmp_path / "m.safetensors", (4, 8, 10, 11, 12))
    assert outcome["averaged"]["steps"] == [9, 12, 13]
    assert again == outcome and differing(resumed, weights) == set()


def test_a_process_that_does_not_validate_keeps_its_last_state(base, monkeypatch):
    """Only the first one writes."""
    _, last = trained(base, average=1)
    monkeypatch.setattr("deftx.engine.loop.is_first", lambda: False)
    outcome, weights = trained(base, average=3)
    assert "averaged" not in outcome and differing(weights, last) == set()


def test_more_states_than_are_evaluated_are_refused_before_the_first_step(base):
    with pytest.raises(
        InputError,
        match="average: 5 states are to be averaged, but a training of 10 steps with "
        "evaluate_every: 3 evaluates 4",
    ):
        trained(base, epochs=5, max_steps=None, average=5, count=10)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (TaskTraining, {"average": 0}, "greater than or equal to 1"),
        (TaskTraining, {"average": 6}, "average: 6 states, but at most 5 are evaluated"),
        (LanguageTraining, {"average": 101}, "average: 101 states, but at most 100"),
    ],
)
def test_an_average_that_no_data_make_possible_is_refused(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        kind(**changes)


# In a config


def averaged(raw):
    raw["tasks"]["sentiment"]["training"]["epochs"] = 3
    raw["methods"] |= {
        "full-2": {"prune": False, "retrain": False, "average": {"task": 2}},
        "lt-sft-2": {"average": {"task": 2}},
        "deft-x-2": {"denoise": {"rank": 4}, "average_full": {"task": 3}},
    }
    for name in ("full-2", "lt-sft-2", "deft-x-2"):
        raw["systems"][name] = {"task": name, "language": name.removesuffix("-2")}


def longer(raw):
    raw["tasks"]["sentiment"]["training"]["epochs"] = 3


def test_an_average_makes_what_follows_from_its_own_phase_and_nothing_else():
    new = changed(state(plan(longer)), state(plan(averaged)))
    vector = "task-sentiment/base"
    assert [path for path in new if not path.startswith(("compose", "evaluate"))] == [
        f"denoise/rank-4/{vector}@last3/seed0.safetensors",
        f"full/{vector}@last2/seed0/model.safetensors",
        f"full/{vector}@last3/seed0/model.safetensors",
        f"mask/deft-x-2/{vector}/seed0.safetensors",
        f"mask/lt-sft-2/{vector}/seed0.safetensors",
        f"sparse/deft-x-2/{vector}/seed0/sft_model.safetensors",
        f"sparse/lt-sft-2/{vector}/seed0/sft_model.safetensors",
    ]
    assert all("-2/" in path for path in new if path.startswith(("compose", "evaluate")))


def test_each_phase_trains_with_the_average_of_its_method():
    found = state(plan(averaged))
    settings = {
        path.split("/task-sentiment/base")[0] + path.partition("@")[2][:5]: json.loads(params)
        for path, (params, _) in found.items()
        if path.startswith(("full/", "sparse/")) and "/task-" in path
    }
    assert {path: params["task"].get("average") for path, params in settings.items()} == {
        "full": None, "fulllast2": 2, "fulllast3": 3, "sparse/lt-sft": None,
        "sparse/deft-x": None, "sparse/lt-sft-2": 2, "sparse/deft-x-2": None,
    }  # fmt: skip
    _, inputs = found["mask/deft-x-2/task-sentiment/base/seed0.safetensors"]
    assert inputs["delta"] == ["denoise/rank-4/task-sentiment/base@last3/seed0.safetensors"]
    _, inputs = found["evaluate/full-2/sentiment/qta/seed0.safetensors"]
    assert inputs["task_vector"] == ["full/task-sentiment/base@last2/seed0/model.safetensors"]


def test_the_full_phase_of_each_round_is_averaged():
    def rounds(raw):
        raw["methods"]["lt-sft"] = {"rounds": 2, "average": 1, "average_full": 1}

    found = state(plan(rounds))
    second = "full/lang-qta/base+lt-sft.round1@last1/seed0/model.safetensors"
    before = "sparse/lt-sft.round1/lang-qta/seed0/sft_model.safetensors"
    assert found[second][1]["round_vector"] == [before]
    assert found["mask/lt-sft/lang-qta/seed0.safetensors"][1]["delta"] == [second]
    first = "full/lang-qta@last1/seed0/model.safetensors"
    assert found["mask/lt-sft.round1/lang-qta/seed0.safetensors"][1]["delta"] == [first]
    for path in (second, first, before):
        assert json.loads(found[path][0])["language"]["average"] == 1


@pytest.mark.parametrize("family", [{"lora": {}}, {"adapter": {}}, {"gate": {}}])
def test_every_family_averages_what_it_trains_itself(family):
    def add(raw):
        raw["languages"]["qaa"] = {"text": "text"}
        raw["methods"]["mine"] = {**family, "average": {"language": 2}}
        raw["systems"]["mine"] = {"task": "mine"}

    for path, (params, _) in state(plan(add)).items():
        if "/mine/lang-" in path:
            assert json.loads(params)["language"]["average"] == 2
        elif "/mine/task-" in path or path.startswith(("full", "sparse")):
            assert "average" not in params


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"average": 0}, "methods.mine.average: Input should be greater"),
        ({"average": {"task": 2}}, "methods.mine with tasks.sentiment.training: average: 2 states, "
         "but at most 1 are evaluated"),
        ({"average_full": {"language": 3}}, "methods.mine with language_training: average: 3 "),
        ({"average": 1, "retrain": False}, "average has no effect with retrain: false"),
        ({"average_full": 1, "score": "random"}, "average_full needs score: magnitude"),
        ({"average_full": 1, "lora": {}}, "average_full has no effect on a method with lora"),
        ({"average": 1, "vector": {"source": "x", "classes": ["a", "b"]}}, "average has no effect"),
    ],
)  # fmt: skip
def test_an_average_without_effect_is_refused_by_its_key(method, message):
    with pytest.raises(ConfigError, match=message):
        plan(lambda raw: raw["methods"].update(mine=method))


def test_a_config_that_is_written_down_is_read_as_the_same():
    config = plan(averaged).config
    assert check_config(config.model_dump(mode="json")) == config
    assert "average" not in plan(unchanged).config.model_dump_json()
