"""The cards of vectors: their facts are right, the Hub can read them, and their code runs."""

import ast
import contextlib
import io
import json
import re
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import sentences
from huggingface_hub import ModelCard
from test_escaping import HOSTILE, kinds
from test_tables import LANGUAGES, params, save_evaluations
from test_tag_scores import drawn, save_tagged

from deftx.core.mask import Mask
from deftx.core.parameters import head_parameters, weights_of
from deftx.core.sparse_delta import SparseDelta
from deftx.models.base import Base
from deftx.models.load import load_classifier
from deftx.report.card import Data, Vector
from deftx.report.embed import markdown
from deftx.report.evaluations import load_evaluations
from deftx.report.scores import draw, transfer
from deftx.stages.cards.run import write_cards
from deftx.stages.sparse.method import Sparse
from deftx.store.errors import ArtefactError
from deftx.store.items import write_items

CLASSES = ["a", "b", "c"]
SYSTEMS = ["lt-sft", "deft-x"]
TARGETS = ["lang-ace", "task-mood/base"]
WEIGHT = "encoder.layer.0.output.dense.weight"

TRAINING = {"learning_rate": 1e-3, "batch_size": 8, "max_length": 16, "max_steps": None}

DATA = {
    "text": {"licence": "cc-by-sa-4.0", "source": "https://huggingface.co/datasets/me/words"},
    "mood": {"licence": None, "source": None},
}


def save_vector(run: Path, method: str, target: str, seed: int, base: Base, **more: object) -> str:
    """A vector of three entries as the stage `sparse` writes it; its path below the run."""
    kind = target.partition("-")[0]
    shape = base.shapes[WEIGHT]
    head = {}
    if kind == "task":
        head = weights_of(head_parameters(load_classifier(base, CLASSES, seed=0)))
    mask = Mask({WEIGHT: torch.tensor([1, 5, 9])}, {WEIGHT: shape})
    path = f"sparse/{method}/{target}{'/base' if kind == 'task' else ''}/seed{seed}"
    path += "/sft_model.safetensors"
    vector = SparseDelta(mask, {WEIGHT: torch.tensor([0.5, -0.5, 1.0])}, head)
    (run / path).parent.mkdir(parents=True, exist_ok=True)
    vector.save(
        run / path,
        stage="sparse",
        method=method,
        target=target,
        start="base",
        seed=seed,
        base=base.identity,
        params={
            "classes": CLASSES if kind == "task" else None,
            "task": TRAINING if kind == "task" else None,
            "language": None if kind == "task" else TRAINING,
            "learning_rate": 2e-3,
            **more,
        },
        outcome={"best": {"loss": 1.25}, "best_step": 30, "steps": 40, "trained": 3},
    )
    return path


def part(run: Path, dataset: str, language: str, split: str, count: int) -> Data:
    path = f"data/{dataset}/{language}/{split}.parquet"
    rows = [{"id": str(i), "text": s} for i, s in enumerate(sentences(count))]
    write_items(run / path, rows)
    where = {"dataset": dataset, "language": language, "split": split, "path": path}
    return Data(**where, **DATA[dataset])


@pytest.fixture(scope="module", params=[1, 2], ids=["one seed", "two seeds"])
def run(request, base_folder, tmp_path_factory) -> Path:
    """A run with its base, vectors and evaluations."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(base_folder, folder / "base")
    base = Base.load(folder / "base")
    for method, target, seed in product(
        SYSTEMS, ("task-mood", "lang-ace", "lang-ban"), range(request.param)
    ):
        save_vector(folder, method, target, seed, base)
    save_evaluations(folder, SYSTEMS, seeds=request.param)
    return folder


def evaluated(run: Path) -> list[Path]:
    return sorted((run / "evaluate").rglob("*.safetensors"))


def vectors_in(run: Path) -> list[Vector]:
    vectors = []
    for path in sorted((run / "sparse").rglob("sft_model.safetensors")):
        where = path.relative_to(run)
        method, target = where.parts[1:3]
        data = [part(run, "text", target.removeprefix("lang-"), "train", 150)]
        if target == "task-mood":
            data = [part(run, "mood", "eng", *split) for split in (("train", 60), ("valid", 20))]
        row = Sparse(budget="1/20", denoise={"rank": 4} if method == "deft-x" else None)
        vectors.append(Vector(path=str(where), row=row, systems={method: {}}, data=data))
    return vectors


def cards(run: Path, vectors: list[Vector] | None = None, **changes: object) -> None:
    tests = {"mood": Data(dataset="nusax", licence="cc-by-sa-4.0")}
    comparison, index = params(systems=SYSTEMS, **changes), run / "cards/index.md"
    write_cards(comparison, vectors or vectors_in(run), tests, run, evaluated(run), index)


@pytest.fixture
def copy(run, tmp_path) -> Path:
    return shutil.copytree(run, tmp_path / "run")


@pytest.fixture(scope="module")
def written(run) -> Path:
    """The run with its cards."""
    cards(run)
    return run


def card(run: Path, method: str = "deft-x", target: str = "lang-ace", seed: int = 0) -> str:
    return (run / "sparse" / method / target / f"seed{seed}/README.md").read_text(encoding="utf-8")


def front(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def all_cards(run: Path) -> list[Path]:
    return sorted((run / "sparse").rglob("README.md"))


def test_every_vector_has_a_card_and_the_page_leads_to_each(written):
    assert [path.parent for path in all_cards(written)] == sorted(
        path.parent for path in (written / "sparse").rglob("sft_model.safetensors")
    )
    index = written / "cards/index.md"
    links = re.findall(r"\]\((.*?)\)", index.read_text(encoding="utf-8"))
    assert sorted((index.parent / link).resolve() for link in links) == all_cards(written)


def test_the_front_matter_is_what_the_hub_reads(written):
    for path in all_cards(written):
        text = path.read_text(encoding="utf-8")
        parsed = ModelCard(text).data
        assert parsed.library_name == "deftx"
        assert parsed.base_model == "tiny"
        assert parsed.eval_results and parsed.metrics == ["f1"]
        assert parsed.to_dict()["model-index"] == front(text)["model-index"]


def test_the_card_of_a_tagging_task_names_its_kind_its_metric_and_its_pipeline(copy):
    shutil.rmtree(copy / "evaluate")
    for system, language in product(SYSTEMS, LANGUAGES):
        save_tagged(copy, system, "mood", language, 0, drawn(0))
    base = Base.load(copy / "base")
    for method, seed in product(SYSTEMS, range(2)):
        save_vector(copy, method, "task-mood", seed, base, kind="tagging")
    task = {"kind": "tagging", "metric": "entity_f1", "source": "eng", "languages": LANGUAGES}
    cards(copy, tasks={"mood": task})
    for target in ("lang-ace", "task-mood/base"):
        text = card(copy, target=target)
        (result, *_) = ModelCard(text).data.eval_results
        assert (result.task_type, result.metric_type) == ("token-classification", "f1")
        assert result.metric_name.startswith("entity F1 of ")
        assert "entity F1 (micro, exact words and type, conlleval's convention), of" in text
        assert 'pipeline("token-classification", model' in text and 'kind="tagging")' in text


def test_licence_and_datasets_are_those_of_the_data(written):
    language, task = front(card(written)), front(card(written, target="task-mood/base"))
    assert language["license"] == "cc-by-sa-4.0"
    assert language["datasets"] == ["me/words"]
    assert language["language"] == ["ace"]
    assert task["license"] == "unknown"  # `mood` has no licence in the config
    assert "datasets" not in task
    assert task["language"] == ["en"]
    assert "has no licence for mood" in card(written, target="task-mood/base")


@pytest.mark.parametrize("value", HOSTILE)
def test_names_and_facts_are_text_on_a_card(copy, value):
    def page(text):
        vectors = vectors_in(copy)
        for vector in vectors:
            for number, each in enumerate(vector.data):
                vector.data[number] = each._replace(licence=text, source=text)
        cards(copy, vectors, names={"ace": text})
        return card(copy, target="task-mood/base"), card(copy)

    for found, expected in zip(page(value), page("Name"), strict=True):
        assert ModelCard(found).data.license == value.strip()
        assert kinds(found.split("\n---\n", 1)[1]) == kinds(expected.split("\n---\n", 1)[1])


def test_two_licences_are_not_one(copy):
    vectors = vectors_in(copy)
    mine = next(v for v in vectors if "task-mood" in v.path)
    for number, licence in enumerate(("mit", "cc-by-4.0")):
        mine.data[number] = mine.data[number]._replace(licence=licence)
    cards(copy, vectors)
    text = (copy / mine.path).with_name("README.md").read_text(encoding="utf-8")
    assert front(text)["license"] == "other"
    assert "(data: cc-by-4.0, mit)" in text


def test_scores_are_those_of_the_systems_that_use_the_vector(written):
    comparison = params(systems=SYSTEMS)
    means = transfer(comparison, draw(comparison, load_evaluations(evaluated(written), comparison)))
    mine = {m.language: m for m in means if m.system == "deft-x"}

    def cell(mean):
        spread = "" if mean.sd is None else f" (sd {100 * mean.sd:.1f})"
        return f"{100 * mean.mean:.1f} ± {50 * (mean.high - mean.low):.1f}{spread}"

    assert f"| deft-x | {cell(mine['ace'])} |" in card(written)
    task = card(written, target="task-mood/base")
    for language, name in {"ace": "Acehnese", "nah": "Nahuatl †", "mean": "mean"}.items():
        assert f"| {name} | {cell(mine[language])} |" in task
    values = {
        result["dataset"]["config"]: result["metrics"][0]["value"]
        for result in front(task)["model-index"][0]["results"]
    }
    assert values.keys() == set(LANGUAGES)
    for language, value in values.items():
        assert value == pytest.approx(100 * mine[language].mean, abs=0.006)


def test_a_system_that_does_not_simply_add_its_vectors_is_named_beside_its_score(copy):
    change = {"deft-x": {"language_depth": {"share": 0.5}}, "elsewhere": {"language_scale": 2}}
    cards(copy, [v._replace(systems={**v.systems, **change}) for v in vectors_in(copy)])
    line = "`deft-x` does not simply add its two vectors: `{language_depth: {share: 0.5}}`."
    assert line in card(copy, "deft-x") and "language_scale" not in card(copy, "deft-x")


def test_the_spread_over_seeds_is_given_if_there_are_several(written):
    seeds = len({path.name for path in evaluated(written)})
    text = card(written)
    assert ("One seed" in text) == (seeds == 1)
    assert (f"Means over {seeds} seeds" in text) == (seeds > 1)


def test_what_it_was_made_from_is_counted(written, base):
    text = card(written, target="task-mood/base")
    assert "| mood | eng | train | 60 |" in text and "| mood | eng | valid | 20 |" in text
    assert "| text | ace | train | 150 | cc-by-sa-4.0 |" in card(written)
    maskable = sum(int(np.prod(shape)) for shape in base.maskable.values())
    assert f"3 numbers to add, {300 / maskable:.2g} % of its\n{maskable:,} entries" in text


def test_the_method_is_described_in_words_and_by_its_settings(written):
    text = card(written)
    assert "full fine-tuning makes, denoised." in text
    assert "| rank | `4` |" in text and "| budget | `1/20` |" in text
    assert "| learning rate | 0.002 |" in text  # the sparse phase's own
    assert "loss 1.2500, at step 30 of 40" in text
    assert "denoised" not in card(written, method="lt-sft")
    assert "None" not in text and "None" not in card(written, target="task-mood/base")


def test_names_cannot_break_the_page(copy, tmp_path):
    """A pipe, a tag or a star in a name is text: it ends no cell and marks up nothing."""
    vectors = vectors_in(copy)
    for vector in vectors:
        vector.data[0] = vector.data[0]._replace(source="https://a.org/x|<b>")
    cards(copy, vectors, names={"ace": "*A* | <b>", "ban": "`B`"})
    shown = []
    for number, target in enumerate(TARGETS):
        body = tmp_path / f"{number}.md"
        body.write_text(card(copy, target=target).split("---\n", 2)[2], encoding="utf-8")
        shown.append(markdown(body))
    for html in (*shown, markdown(copy / "cards/index.md")):
        assert "<b>" not in html and "<em>" not in html and "<code>B" not in html
        for table in re.findall(r"<table>(.*?)</table>", html, re.S):
            assert len({row.count("<t") for row in re.findall(r"<tr>.*?</tr>", table, re.S)}) == 1
    assert "<h1>*A* | &lt;b&gt;: a language vector by deft-x</h1>" in shown[0]
    assert 'href="https://a.org/x%7C%3Cb%3E"' in shown[0]


def run_code(text: str) -> str:
    """The output of the code in a card."""
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(code, "card", "exec"), {})
    return output.getvalue()


@pytest.mark.parametrize("target", TARGETS)
def test_the_code_of_a_card_runs(written, target, monkeypatch):
    monkeypatch.chdir(written)
    (answer,) = ast.literal_eval(run_code(card(written, target=target)))
    assert answer["label"] in CLASSES and 0 < answer["score"] <= 1


def test_the_code_of_a_language_without_a_task_runs(copy, monkeypatch):
    cards(copy, [vector for vector in vectors_in(copy) if "lang-" in vector.path])
    monkeypatch.chdir(copy)
    assert run_code(card(copy)).startswith("torch.Size([1, ")


def test_a_missing_vector_is_named(copy):
    vectors = vectors_in(copy)
    (copy / vectors[2].path).unlink()
    with pytest.raises(ArtefactError, match=f"{vectors[2].path}: no such file"):
        cards(copy, vectors)


def test_a_vector_of_another_base_is_refused(copy):
    facts = json.loads((copy / "base/backbone.json").read_text())
    facts["identity"]["hash"] = "0" * 64
    (copy / "base/backbone.json").write_text(json.dumps(facts))
    with pytest.raises(ArtefactError, match="made for base"):
        cards(copy)


def test_same_inputs_same_bytes(written, tmp_path):
    copy = shutil.copytree(written, tmp_path / "run")
    cards(copy)
    for path in [*all_cards(written), written / "cards/index.md"]:
        assert (copy / path.relative_to(written)).read_bytes() == path.read_bytes()
