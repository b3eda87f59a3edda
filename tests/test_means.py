"""The mean of vectors over seeds: its sums, its place in a run, and what tables make of it."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_plan import differing as changed
from test_plan import inputs, params, plan, state
from test_tables import LANGUAGES, SYSTEMS, save_evaluation, save_evaluations
from test_tables import params as comparison
from test_whole_runs import stages_that_were_made_as_estimated
from training import CLASSES, differing, items, task_settings, write_data
from workspace import Workspace

from deftx.core.mask import Mask
from deftx.core.parameters import backbone_parameters, head_parameters, weights_of
from deftx.core.sparse_delta import SparseDelta
from deftx.engine.job import prepare, session_of
from deftx.engine.params import TargetParams
from deftx.models.base import Base
from deftx.models.load import load_classifier
from deftx.models.vectors import dense_vector
from deftx.report.claims import Case, Evidence, difference
from deftx.report.evaluations import load_evaluations
from deftx.report.scores import differences, draw, transfer
from deftx.report.statistics import interval
from deftx.stages.compose.apply import composed
from deftx.stages.mean.math import mean_of_dense, mean_of_sparse
from deftx.stages.mean.run import Params, mean
from deftx.stages.tables.run import tables
from deftx.store.errors import ArtefactError, ConfigError
from deftx.store.tensors import TensorFile

SHAPES = {"a": (4, 5), "b": (7,)}


def vector(seed, shapes=SHAPES):
    """A sparse vector at a third of all entries, with a head."""
    draw = torch.Generator().manual_seed(seed)
    dense = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    index = {
        name: (torch.rand(tensor.numel(), generator=draw) < 1 / 3).nonzero()[:, 0]
        for name, tensor in dense.items()
    }
    head = {"out.weight": torch.randn(2, 3, generator=draw)}
    return SparseDelta.from_dense(dense, Mask(index, dict(shapes)), head)


def filled(vector):
    """The vector as dense tensors, and where it has entries."""
    dense = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    vector.add_to(dense)
    return dense


def plain_mean(tensors):
    return (sum(t.double() for t in tensors) / len(tensors)).float()


def test_the_mean_of_sparse_vectors_is_that_of_dense_ones_over_the_union_of_masks():
    each = [vector(seed) for seed in range(5)]
    found = mean_of_sparse(each)
    dense = filled(found)
    for name in SHAPES:
        assert torch.equal(dense[name], plain_mean([filled(v)[name] for v in each]))
        union = torch.cat([v.mask.index[name] for v in each]).unique()
        assert torch.equal(found.mask.index[name], union)
    assert torch.equal(found.head["out.weight"], plain_mean([v.head["out.weight"] for v in each]))


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_mean_of_equal_vectors_is_that_vector(count):
    one = vector(0)
    found = mean_of_sparse([one] * count)
    assert all(torch.equal(found.values[name], one.values[name]) for name in SHAPES)
    dense = mean_of_dense([filled(one)] * count)
    assert all(torch.equal(dense[name], filled(one)[name]) for name in SHAPES)


def test_a_dense_mean_reads_one_tensor_at_a_time():
    read = []

    class Watched(dict):
        def __getitem__(self, name):
            read.append(name)
            return super().__getitem__(name)

    found = mean_of_dense([Watched(filled(vector(seed))) for seed in range(3)])
    assert read == []
    assert torch.equal(found["b"], plain_mean([filled(vector(s))["b"] for s in range(3)]))
    assert read == ["b"] * 3


def test_vectors_of_different_tensors_have_no_mean():
    with pytest.raises(ArtefactError, match="b: not in all of the vectors"):
        mean_of_dense([{"a": torch.zeros(2), "b": torch.zeros(1)}, {"a": torch.zeros(2)}])
    with pytest.raises(ArtefactError, match="a: of different shapes"):
        mean_of_dense([{"a": torch.zeros(2)}, {"a": torch.zeros(3)}])["a"]
    with pytest.raises(ArtefactError, match="disagree"):
        mean_of_sparse([vector(0), vector(0, {"a": (5, 4), "b": (7,)})])


# In a config


def seeds(raw):
    raw["seeds"] = [0, 1, 2]
    raw["tasks"]["sentiment"]["training"]["head_seed"] = 0


def means(raw):
    seeds(raw)
    raw["systems"]["soup"] = {"task": "lt-sft", "task_seeds": [2, 0, 1]}
    raw["systems"]["both"] = {"task": "deft-x", "task_seeds": [0, 1], "language_seeds": [0, 1]}
    raw["systems"]["alone"] = {"task": "full", "language": "none", "task_seeds": [0, 1, 2]}


def test_a_mean_is_made_of_the_vectors_of_its_seeds_and_makes_no_training_again():
    before, after = state(plan(seeds)), state(plan(means))
    new = changed(before, after)
    assert {path.split("/")[0] for path in new} == {"mean", "compose", "evaluate"}
    path = "mean/lt-sft/task-sentiment/base/seeds0-1-2.safetensors"
    vector = "sparse/lt-sft/task-sentiment/base/seed{}/sft_model.safetensors"
    assert after[path][1]["vectors"] == [vector.format(seed) for seed in range(3)]
    assert params(means, path)["seeds"] == [0, 1, 2]
    for seed in range(3):
        made = inputs(means, f"compose/soup/sentiment/qta/seed{seed}.safetensors")
        assert made["task_vector"] == [path]
        language = f"sparse/lt-sft/lang-qta/seed{seed}/sft_model.safetensors"
        assert made["language_vector"] == [language]


def test_a_system_in_which_nothing_depends_on_the_seed_is_evaluated_once():
    found = [path for path in state(plan(means)) if path.startswith("evaluate")]
    for system, count in {"lt-sft": 3, "soup": 3, "both": 1, "alone": 1}.items():
        mine = [path for path in found if f"/{system}/sentiment/qta/" in path]
        assert [path[-17:] for path in mine] == [f"seed{n}.safetensors" for n in range(count)]
    assert params(means, "tables/transfer.csv")["once"] == ["both", "alone"]
    assert "once" not in params(seeds, "tables/transfer.csv")
    for system, known in {"soup": [0, 1, 2], "both": [0]}.items():
        assert params(means, f"diagnostics/{system}/sentiment.csv")["seeds"] == known


def test_a_dense_mean_reads_what_each_of_its_trainings_started_from():
    def change(raw):
        means(raw)
        raw["languages"]["qaa"] = {"text": "text"}
        raw["task_start"] = "lt-sft"

    path = "mean/full/task-sentiment/lt-sft/seeds0-1-2.safetensors"
    starts = [f"sparse/lt-sft/lang-qaa/seed{n}/sft_model.safetensors" for n in range(3)]
    assert inputs(change, path)["start_vector"] == starts
    evaluated = inputs(change, "evaluate/alone/sentiment/qta/seed0.safetensors")
    assert evaluated["task_vector"] == [path] and evaluated["start_vector"] == []


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ({"task_seeds": [0]}, "systems.mine.task_seeds: List should have at least 2 items"),
        ({"task_seeds": [0, 0]}, "systems.mine.task_seeds: 0, 0 has a seed twice"),
        ({"task_seeds": [0, 5]}, r"task_seeds: 5 is not among the run's seeds: \[0, 1, 2\]"),
        ({"language": "none", "language_seeds": [0, 1]}, "language_seeds: needs a method for the"),
        ({"task": "mad-x", "language": "mad-x", "task_seeds": [0, 1]}, "mad-x makes adapters"),
        ({"language": "given", "language_seeds": [0, 1]}, "of given exist already and have no"),
    ],
)
def test_what_has_no_mean_is_refused_by_its_key(system, message):
    def change(raw):
        seeds(raw)
        raw["languages"]["qaa"] = {"text": "text"}
        raw["methods"] |= {"mad-x": {"adapter": {}}, "given": {"vector": {"source": "x/{target}"}}}
        raw["systems"]["mine"] = {"task": "lt-sft", **system}

    with pytest.raises(ConfigError, match=message):
        plan(change)


def test_heads_of_different_draws_are_not_averaged():
    def change(raw):
        means(raw)
        del raw["tasks"]["sentiment"]["training"]["head_seed"]

    with pytest.raises(ConfigError, match=r"each seed draws its own head.*give tasks\.sentiment"):
        plan(change)


# A run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The results of a run with means, and with averages of states."""
    workspace = Workspace(tmp_path_factory.mktemp("project"))
    config = workspace.config
    config["seeds"] = [0, 1]
    config["tasks"]["sentiment"]["training"] |= {"head_seed": 1, "epochs": 2}
    config["methods"]["lt-sft-2"] = {"average": 2, "average_full": {"task": 2}}
    config["methods"].pop("deft-x")
    soup = {"task_seeds": [0, 1]}
    config["systems"] = {
        "full": {"task": "full"},
        "lt-sft-2": {"task": "lt-sft-2"},
        "soup": {"task": "lt-sft-2", **soup},
        "both": {"task": "lt-sft-2", **soup, "language_seeds": [0, 1]},
        "alone": {"task": "full", "language": "none", **soup},
    }
    workspace.write_config()
    workspace.run()
    assert workspace.planned() == {}
    assert "mean" in stages_that_were_made_as_estimated(workspace)
    return workspace.results


CASES = [
    ("soup", "lt-sft-2", 1, False),
    ("both", "lt-sft-2", 0, True),
    ("alone", "full", 0, False),
]


def file_of(run, method, target, seed):
    stage, name = ("full", "") if method == "full" else ("sparse", f"{method}/")
    last = "model" if method == "full" else "sft_model"
    return TensorFile(run / f"{stage}/{name}{target}/seed{seed}/{last}.safetensors")


@pytest.mark.workflow
@pytest.mark.parametrize(("system", "method", "seed", "languages_too"), CASES)
def test_a_composed_model_has_the_mean_of_its_vectors(run, system, method, seed, languages_too):
    base = Base.load(run / "base")
    files = [file_of(run, method, "task-sentiment/base", n) for n in (0, 1)]
    parts = [dict(dense_vector(file, base)) for file in files]
    task = {name: plain_mean([p.get(name, torch.zeros(shape)) for p in parts])
            for name, shape in base.shapes.items()}  # fmt: skip
    total = task
    if system != "alone":
        of = (0, 1) if languages_too else (seed,)
        found = [dict(dense_vector(file_of(run, method, "lang-qta", n), base)) for n in of]
        for name, shape in base.shapes.items():
            language = plain_mean([p.get(name, torch.zeros(shape)) for p in found])
            total[name] = task[name] + language
    model, other = (load_classifier(base, ["x", "y", "z"], 0) for _ in range(2))
    start = weights_of(backbone_parameters(model))
    file = TensorFile(run / f"compose/{system}/sentiment/qta/seed{seed}.safetensors")
    mean_file = run / "mean/full/task-sentiment/base/seeds0-1.safetensors"
    with composed(other, file, base, vectors=[mean_file] if system == "alone" else []) as made:
        for name, weight in backbone_parameters(made).items():
            assert torch.equal(weight, start[name] + total[name]), name
        for name, parameter in head_parameters(made).items():
            assert torch.equal(parameter, plain_mean([file_[f"head.{name}"] for file_ in files]))


@pytest.mark.workflow
def test_a_run_says_which_states_were_averaged_and_starts_all_heads_alike(run):
    for kind, stage in (("full", "full/task-sentiment/base@last2/seed0/model"),
                        ("sparse", "sparse/lt-sft-2/lang-qta/seed0/sft_model")):  # fmt: skip
        outcome = TensorFile(run / f"{stage}.safetensors").provenance["outcome"]
        steps = [entry["step"] for entry in outcome["history"]][-2:]
        assert outcome["averaged"]["steps"] == steps and len(outcome["averaged"]) == 2, kind
    card = (run / "sparse/lt-sft-2/task-sentiment/base/seed0/README.md").read_text()
    assert "the mean of those after the steps 4, 8 of 8, whose held-out macro f1 is" in card
    rows = (run / "tables/scores.csv").read_text().splitlines()
    assert sum(",both,qta," in row for row in rows) == 1
    assert sum(",soup,qta," in row for row in rows) == 2
    assert (
        "both, alone: vectors that are means over seeds" in (run / "tables/transfer.md").read_text()
    )


@pytest.mark.workflow
def test_a_mean_by_hand_is_refused_what_does_not_belong_together(run, tmp_path):
    files = [run / f"sparse/lt-sft-2/task-sentiment/base/seed{n}/sft_model.safetensors"
             for n in (0, 1)]  # fmt: skip
    wanted = Params(method="lt-sft-2", target="task-sentiment", seeds=[0, 1])
    given = {"base": run / "base", "out": tmp_path / "m.safetensors"}
    with pytest.raises(ArtefactError, match="its seed is 1, expected 0"):
        mean(wanted, vectors=files[::-1], **given)
    with pytest.raises(ArtefactError, match="1 vectors were given, one for each"):
        mean(wanted, vectors=files[:1], **given)
    for seed, file in enumerate(files):
        phi = SparseDelta.load(file)
        facts = {key: phi.provenance[key] for key in ("base", "stage", "target", "start", "seed")}
        phi.save(tmp_path / f"{seed}.safetensors", params={"task": {"epochs": 2}}, **facts)
    with pytest.raises(ArtefactError, match=r"drawn from its own seed.*train with head_seed"):
        mean(wanted, vectors=sorted(tmp_path.glob("[01].safetensors")), **given)


def test_a_shared_head_is_that_of_its_seed_and_the_rest_of_the_training_is_the_seeds_own(
    base, tmp_path
):
    write_data(tmp_path, items(20))
    data = tmp_path / "labelled.parquet"

    def begin(seed, **changes):
        settings = task_settings(**changes)
        params = TargetParams(target="task-mood", seed=seed, classes=CLASSES, task=settings)
        model, _ = prepare(params, base, data, data, None)
        return weights_of(head_parameters(model)), session_of(params, "full")

    own = [begin(seed) for seed in range(2)]
    shared = [begin(seed, head_seed=1) for seed in range(2)]
    assert differing(own[0][0], own[1][0])
    for head, _ in shared:
        assert not differing(head, own[1][0])
    assert [s.order_seed for _, s in shared] == [s.order_seed for _, s in own]
    assert "head_seed" not in task_settings().model_dump()


# Tables


@pytest.fixture
def known(tmp_path):
    """Two systems with three seeds, and one that is evaluated once."""
    paths = save_evaluations(tmp_path, SYSTEMS[:2], seeds=3)
    return [*paths, *save_evaluations(tmp_path, SYSTEMS[2:], seeds=1)]


def test_one_model_is_compared_with_each_seed_of_another_and_has_no_deviation(known):
    settings = comparison(seeds=[0, 1, 2], once=["deft-x"])
    draws = draw(settings, load_evaluations(known, settings))
    mine, theirs = (draws["mood"][system, "ace"] for system in ("deft-x", "lt-sft"))
    assert mine.shape[0] == 1 and theirs.shape[0] == 3
    row = next(t for t in transfer(settings, draws) if (t.system, t.language) == ("deft-x", "ace"))
    assert (row.seeds, row.sd, row.low, row.high) == (1, None, *interval(mine))
    gap = next(d for d in differences(settings, draws)
               if (d.system, d.versus, d.language) == ("deft-x", "lt-sft", "ace"))  # fmt: skip
    each = np.stack([mine[0] - theirs[n] for n in range(3)])
    assert (gap.difference, gap.low, gap.high) == (each[:, 0].mean(), *interval(each))


def test_a_former_evaluation_with_another_seed_is_not_read(known, tmp_path):
    """The system had seeds before it became a mean."""
    save_evaluation(tmp_path, "deft-x", "mood", "ace", 1)
    settings = comparison(seeds=[0, 1, 2], once=["deft-x"])
    found = load_evaluations([tmp_path / "evaluate"], settings)
    assert len(found) == (2 * 3 + 1) * len(LANGUAGES)
    tables(settings, evaluated=[tmp_path / "evaluate"], out=tmp_path / "transfer.csv")
    text = (tmp_path / "transfer.md").read_text()
    assert text.count("deft-x: vectors that are means over seeds") == 3 and "nan" not in text


def test_no_claim_about_methods_follows_from_one_model(known):
    settings = comparison(seeds=[0, 1, 2], once=["deft-x"])
    evidence = Evidence(settings, load_evaluations(known, settings), pd.DataFrame(), {})
    decided = {
        pair: difference(Case(evidence, "mood", pair, ["ace", "ban"]))
        for pair in (("deft-x", "lt-sft"), ("lt-sft", "deft-x"), ("lt-sft", "zero-shot"))
    }
    assert [found.decides for found in decided.values()] == [False, False, True]
    assert [found.n.rpartition(", ")[2] for found in decided.values()] == [
        "1 seed", "1 seed", "3 seeds",
    ]  # fmt: skip
