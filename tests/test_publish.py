"""The card of an adapted model, and the command that uploads it."""

import json
import re
import shlex

import pytest
import torch
from adapted import Stub
from click.testing import CliRunner
from huggingface_hub import ModelCard
from huggingface_hub.cli.hf import app
from huggingface_hub.utils import validate_repo_id
from test_escaping import HOSTILE, kinds

from deftx.adapt.publish import ask_licence, publish
from deftx.report.language_tags import language_tag
from deftx.store.errors import ArtefactError, InputError
from deftx.store.tensors import save_tensors


def estimate(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def answers(right, accuracy, f1):
    return {"right": right, "accuracy": estimate(accuracy), "macro_f1": estimate(f1)}


SCORE = {
    "items": 50,
    "with_language": answers(36, 0.72, 0.7),
    "without_language": answers(30, 0.6, 0.55),
    "reading": ["Whether it helps: too few to tell.", "'<b>' occurs | 3 times"],
}


@pytest.fixture
def project(tmp_path):
    facts = {"lines": 2000, "words": 31000, "labelled": 900}
    made = Stub(tmp_path / "made", facts=facts)
    (made.folder / "model").mkdir(parents=True)
    (made.folder / "model/model.safetensors").write_bytes(b"")
    for kind, steps in {"task": 400, "language": 1500}.items():
        save_tensors(
            made.folder / f"vectors/{kind}/sft_model.safetensors",
            {"x": torch.zeros(1)},
            base={"id": "owner/base", "revision": "abc", "hash": "0"},
            k=123456,
            method="deft-x",
            outcome={"steps": steps},
        )
    return made


def card(project):
    return ModelCard.load(project.folder / "model/README.md")


def test_without_a_score_the_card_says_so_and_gives_no_figure(project):
    publish(project, None)
    text, data = card(project).text, card(project).data.to_dict()
    assert "Nobody has scored this model yet" in text and "accuracy" not in text.lower()
    assert not {"metrics", "model-index"} & data.keys()
    for fact in ("2,000 lines", "31,000 words", "900 labelled", "1,500 steps", "`owner/base`"):
        assert fact in text
    assert (data["language"], data["base_model"]) == ("mad", "owner/base")
    assert data["pipeline_tag"] == "text-classification"


def test_a_score_is_given_with_its_intervals_and_what_it_means(project):
    (project.folder / "score.json").write_text(json.dumps(SCORE))
    publish(project, None)
    text, data = card(project).text, card(project).data
    assert "| 36 of 50 | 72.0 | 62.0 to 82.0 | 70.0 | 60.0 to 80.0 |" in text
    assert "- Whether it helps: too few to tell." in text
    assert "Nobody has scored" not in text and "<b>" not in text.replace("\\<b", "")
    results = {r.metric_type: (r.metric_value, r.metric_name) for r in data.eval_results}
    assert results["accuracy"] == (72.0, "accuracy, 95 % interval 62.0% to 82.0%")
    assert results["f1"] == (70.0, "macro-F1, 95 % interval 60.0% to 80.0%")
    assert data.metrics == ["accuracy", "f1"]


def test_labelled_examples_that_chose_the_strength_are_named(project):
    publish(project, None)
    assert "No labelled example in Madurese was used" in card(project).text
    (project.folder / "strength.json").write_text('{"items": 60, "strength": 0.5}')
    publish(project, None)
    assert "count 0.5 times, which 60 labelled examples in Madurese chose" in card(project).text


def test_a_base_from_a_folder_is_named_but_not_as_a_model_of_the_hub(project):
    path = project.folder / "vectors/task/sft_model.safetensors"
    save_tensors(path, {"x": torch.zeros(1)}, base={"id": "my-base", "revision": None})
    publish(project, None)
    assert "`my-base`" in card(project).text
    assert "base_model" not in card(project).data.to_dict()


@pytest.mark.parametrize(
    ("answer", "keys"),
    [
        (None, {"license": "unknown"}),
        ("", {"license": "unknown"}),
        (" Unknown ", {"license": "unknown"}),
        ("all rights reserved", {"license": "unknown"}),
        ("CC BY-SA 4.0", {"license": "cc-by-sa-4.0"}),
        ("cc_by_4.0", {"license": "cc-by-4.0"}),
        ("CC0", {"license": "cc0-1.0"}),
        (
            "Community  licence (Madura) 1.0",
            {"license": "other", "license_name": "community-licence-madura-1.0"},
        ),
    ],
)
def test_only_with_a_licence_of_the_text_is_the_model_public(project, answer, keys):
    command = shlex.split(publish(project, answer))
    data = card(project).data.to_dict()
    assert {k: v for k, v in data.items() if k.startswith("license")} == keys
    unknown = keys["license"] == "unknown"
    assert ("--private" in command) == unknown
    assert ("Private for now" in card(project).text) == unknown


def test_a_licence_needs_letters(project):
    with pytest.raises(InputError, match="Latin letters"):
        publish(project, "?")


def test_again_gives_the_same_card_and_keeps_the_licence_until_another_is_given(project):
    path = project.folder / "model/README.md"
    for licence in ("cc-by-4.0", "My own terms"):
        first = publish(project, licence)
        written = path.read_bytes()
        assert publish(project, None) == first and path.read_bytes() == written
    assert "--private" in publish(project, "unknown")
    assert "--private" in publish(project, None)
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_without_a_model_there_is_no_card(project):
    (project.folder / "model/model.safetensors").unlink()
    with pytest.raises(ArtefactError, match="`deftx adapt` has not finished"):
        publish(project, None)


@pytest.mark.parametrize("hostile", [*HOSTILE, "..", "-", "a" * 300, "🙂"])
def test_names_are_shown_as_text_and_give_a_name_that_the_hub_takes(project, hostile):
    def blocks(made):
        return kinds(made.content.partition("\n---\n")[2])

    publish(project, "x")
    plain = blocks(card(project))
    project.name = project.task = hostile
    project.classes[0] = hostile
    command = publish(project, f"x{hostile}")
    assert blocks(card(project)) == plain
    assert ModelCard.load(project.folder / "model/README.md").data.language == "mad"
    validate_repo_id(shlex.split(command)[2])


def test_the_command_is_one_that_the_hubs_program_knows(project, monkeypatch):
    """The folder is uploaded to the top of a new private repository."""
    asked = {}

    class Stop(Exception):  # noqa: N818
        pass

    def create(self, repo_id, **options):
        asked.update(repo_id=repo_id, **options)
        raise Stop

    monkeypatch.setattr("huggingface_hub.hf_api.HfApi.create_repo", create)
    words = shlex.split(publish(project, None))
    assert words[0] == "hf" and words[3] == str(project.folder / "model") and words[4] == "."
    done = CliRunner().invoke(app, words[1:])
    assert isinstance(done.exception, Stop)
    assert asked["repo_id"] == "sentiment-mad" and asked["private"] is True


@pytest.mark.parametrize("pairs", [False, True])
def test_the_cards_code_runs_in_its_folder(base, project, pairs, monkeypatch, capsys):
    from deftx.exchange.model_folder import save_model_folder
    from deftx.models.load import load_classifier

    (project.folder / "model/model.safetensors").unlink()
    (project.folder / "model").rmdir()
    project.facts["pairs"], project.max_length = pairs, 16
    model = load_classifier(base, project.classes, seed=0)
    save_model_folder(model, base, project.folder / "model", {"vectors": []})
    publish(project, None)
    (code,) = re.findall(r"```python\n(.*?)```", card(project).text, re.S)
    monkeypatch.chdir(project.folder / "model")
    exec(code, {})
    shown = capsys.readouterr().out
    assert all(name in shown for name in project.classes)


@pytest.mark.parametrize(
    ("typed", "terminal", "answer"), [("cc0", True, "cc0"), ("", True, ""), ("cc0", False, None)]
)
def test_the_licence_is_asked_for_at_a_terminal_only(typed, terminal, answer, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: terminal, raising=False)
    asked = []
    assert ask_licence(lambda question: (asked.append(question), typed)[1]) == answer
    assert len(asked) == terminal


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        *[("mad", "mad"), ("bug", "bug"), ("swa", "sw"), ("swh", "sw"), ("ace_Arab", "ace-Arab")],
        *[("ind", "id"), ("nor", "no"), ("zho_Hant", "zh-Hant"), ("qaa", "qaa")],
    ],
)
def test_a_languages_tag_is_the_shortest_code_and_its_script(key, tag):
    assert language_tag(key) == tag
