"""The config: what is wrong is found before anything runs, and named."""

import json
import re

import pytest
import yaml
from conftest import PROJECT
from tiny_config import with_change, with_key

from deftx.plan.config import check_config, check_run_names, json_schema, read_config
from deftx.stages.mask.settings import entries
from deftx.store.errors import ConfigError
from deftx.store.yaml_files import read_yaml

CONFIGS = [PROJECT / "config.yaml", *sorted((PROJECT / "workflow/configs").glob("*.yaml"))]
NEWS = {"files": "x/{split}.csv", "columns": {"label": "label"}}
ONE_SPLIT = {**NEWS, "files": "{language}.csv"}


def changed(path, value):
    return check_config(with_key(path, value))


REMOTE = {"files": "x/{language}.txt", "url": "https://example.org/{language}"}
OUT = {
    "files": {**REMOTE, "files": "../../x/{language}.txt"},
    "home": {**REMOTE, "files": "~/{language}"},
    "root": {**REMOTE, "files": "/etc/{language}"},
    "alias": {**REMOTE, "aliases": {"qta": "../../x"}},
    "dot": {**REMOTE, "files": ".{language}/x", "aliases": {"qta": "."}},
    "split": {**REMOTE, "files": "{split}/x", "splits": {"train": "a/../../x"}},
    "hub": {
        "files": "{language}.txt",
        "hub": {"dataset": "a/b", "file": "{language}.txt"},
        "aliases": {"qta": "../x"},
    },
}

BAD = [
    ("tasks/sentiment/classes", ["negative", "neutral", "positve"], r"'positve'; those of .*'pos"),
    ("sedes", [1], r"sedes: unknown key; did you mean seeds\?"),
    ("tasks/sentiment/training/learning_rte", 1, r"learning_rte: unknown key; did you mean learn"),
    ("methods/deft-x/denoise", {"rnk": 4}, r"methods\.deft-x\.denoise\.rnk: unknown .*rank"),
    ("methods/deft-x/denoise", {"task": {"rank": 0}}, r"denoise\.task\.rank: .*\(given: 0\)"),
    ("methods/deft-x/denoise", {"rank": 0}, r"denoise\.rank: .*greater than.*\(given: 0\)"),
    ("methods/deft-x/denoise", {"rank": 4, "energy": 0.5}, r"give exactly one of rank"),
    ("methods/deft-x/shares", {"a": 0.5, "b": 0.4}, r"methods\.deft-x\.shares: .*sum to 0\.9"),
    ("methods/deft-x/shares", {"(": 1.0}, r"is not a regular expression"),
    ("methods/deft-x/shares", {"observed": "ltsft"}, r"no method 'ltsft'; did you mean lt-sft"),
    ("methods/deft-x/shares", {"observed": "full"}, r"full has no mask"),
    ("methods/deft-x/shares", {"observed": "deft-x"}, r"leads back to deft-x"),
    ("methods/deft-x/score", "random", r"denoise needs score: magnitude"),
    ("methods/deft-x/score", "biggest", r"deft-x\.score: Input should be 'magnitude'"),
    ("methods/full", {"prune": False}, r"prune: false with retrain: true"),
    ("methods/full", {"prune": False, "retrain": False, "budget": 5}, r"budget has no effect"),
    ("methods/lt-sft", {"budget": 0}, r"methods\.lt-sft\.budget: K must be at least 1, got 0"),
    ("budget/task", "3/2", r"task: a share or ratio must be above 0 and at most 1, got"),
    ("budget/task", "many", r"budget\.task: 'many' is neither a number nor a ratio"),
    ("systems/x", {"task": "deftx"}, r"systems\.x\.task: no method 'deftx'; did you mean deft-x"),
    ("systems/x", {"task": "lt-sft", "language": "nnoe"}, r"x\.language: no method 'nnoe'; .*none"),
    ("languages/qtb", {"name": "Far"}, r"languages\.qtb\.text: missing"),
    ("languages/qtb", {"text": "txt"}, r"qtb\.text: no dataset 'txt'; did you mean text"),
    ("languages/qtc", {"text": "text"}, r"world\.languages: no language 'qtc'"),
    ("languages/Guarani", {"text": "none"}, r"languages"),
    ("datasets/sentiment/items/test", ..., r"sentiment\.items: no number for the split test"),
    ("datasets/sentiment", {"files": "x/{language}.csv"}, r"sentiment has no columns\.label"),
    ("tasks/sentiment/test/dataset", "text", r"tasks\.sentiment\.test\.dataset: .*does not fit"),
    ("tasks/sentiment/test", ..., r"tasks\.sentiment\.test: missing"),
    ("tasks/sentiment/languages", ["qxx"], r"tasks\.sentiment\.languages: no language 'qxx'"),
    ("tasks/sentiment/classes", ["a", "a"], r"has a class twice"),
    ("task_start", "lt-sf", r"task_start: no method 'lt-sf'; did you mean lt-sft"),
    ("task_start", "lt-sft", r"needs a vector of qaa, the source of tasks\.sentiment"),
    ("task_start", "full", r"task_start: full does not make sparse vectors"),
    ("datasets/text/header", False, r"datasets\.text: header: of files, not of the"),
    ("datasets/sentiment", NEWS, r"'x/\{split\}\.csv' has no \{language\}, .* read for qaa, qta"),
    ("datasets/sentiment", ONE_SPLIT, r"has no \{split\}, but is read for test, train, valid"),
    ("seeds", [1, 1], r"seeds: 1, 1 has a seed twice"),
    ("base/model", "x", r"base: give exactly one of model"),
    ("base/pretrain/hidden", 17, r"hidden \(17\) must be even and a multiple of heads"),
    ("world/languages/qta", 1.5, r"world\.languages\.qta: .*\(given: 1\.5\)"),
    ("run", "a/b", r"run: .*\(given: \"a/b\"\)"),
    ("threads/full", 0, r"threads\.full: .*\(given: 0\)"),
    ("threads/ful", 2, r"threads: no stage with threads 'ful'; did you mean full\?"),
    ("methods/lora", {"lora": {}, "rounds": 2}, r"lora\.rounds has no effect on a method"),
    ("methods/x", {"lora": {}, "gate": {}}, r"x\.lora has no effect on a method with gate"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_what_is_wrong_is_named_with_its_key(path, value, message):
    with pytest.raises(ConfigError, match=message):
        changed(path, value)


@pytest.mark.parametrize(
    ("case", "key", "path"),
    [
        ("files", "files", "../../x/qta.txt"),
        ("home", "files", "~/qta"),
        ("root", "files", "/etc/qta"),
        ("alias", "aliases or splits", "x/../../x.txt"),
        ("dot", "aliases or splits", "../x"),
        ("split", "aliases or splits", "a/../../x/x"),
        ("hub", "aliases or splits", "../x.txt"),
    ],
)
def test_no_download_leads_out_of_data_dir(case, key, path):
    message = rf"datasets\.text\.{key}: '{re.escape(path)}' \(train of qta\) leads out of /"
    with pytest.raises(ConfigError, match=message):
        changed("datasets/text", OUT[case])


def test_downloads_may_go_anywhere_below_data_dir_and_own_files_anywhere(tmp_path):
    raw = with_key("datasets/text", {**REMOTE, "files": f"{tmp_path}/a/{{language}}"})
    raw["data_dir"] = str(tmp_path)
    raw["base"] = {"model": "x"}
    check_config(raw)
    raw["datasets"]["text"] = {"files": "../../{language}"}
    check_config(raw)


def test_all_problems_are_listed_at_once():
    raw = with_key("systems/x", {"task": "nothing"})
    raw["languages"]["qtb"]["text"] = "nowhere"
    with pytest.raises(ConfigError) as error:
        check_config(raw)
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configs_are_valid_and_have_names_of_their_own_and_are_the_same_written_out(path):
    config = read_config(path)
    check_run_names(path, config, PROJECT)
    assert check_config(json.loads(config.model_dump_json())) == config


def test_two_configs_of_one_name_are_an_error(tmp_path):
    other = tmp_path / "mine.yaml"
    raw = yaml.safe_load((PROJECT / "config.yaml").read_text())
    other.write_text(yaml.safe_dump(raw))
    check_run_names(other, read_config(other), PROJECT)  # a copy is no other config
    raw["seeds"] = [7]
    other.write_text(yaml.safe_dump(raw))
    with pytest.raises(
        ConfigError, match=r"run: 'paper' of .*mine\.yaml is the run of .*config\.yaml"
    ):
        check_run_names(other, read_config(other), PROJECT)


def test_the_schema_file_is_in_step():
    """`make schema` writes it."""
    stored = json.loads((PROJECT / "workflow/schemas/config.schema.json").read_text())
    assert stored == json_schema()


def test_the_reference_is_a_system_that_is_evaluated():
    raw = with_key("tasks/sentiment/systems", ["deft-x"])
    assert check_config(raw).compared_with == "deft-x"
    raw["reference"] = "lt-sft"
    with pytest.raises(ConfigError, match="reference: lt-sft is evaluated on no task"):
        check_config(raw)


@pytest.mark.parametrize(("text", "message"), [("a: [", "not YAML"), ("- 1", "expected keys")])
def test_a_file_that_is_no_config_is_refused(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(path)
    with pytest.raises(ConfigError, match="no such file"):
        read_config(tmp_path / "y.yaml")


def test_budgets_are_those_of_the_papers_on_xlm_r_base_and_scale_elsewhere():
    budget = changed("budget", {}).budget
    assert entries(budget.task, 277_414_656) == 14_155_776
    assert entries(budget.language, 277_414_656) == 7_667_712
    assert entries(budget.task, 1_000_000) == round(1e6 * 14_155_776 / 277_414_656)
    assert (entries(141_557, 10**9), entries(0.05, 1000)) == (141_557, 50)


BY_KIND = {"denoise": {"task": {"rank": 3}}, "budget": {"task": 0.2, "language": 7}}


def test_values_may_differ_for_tasks_and_languages():
    config = changed("methods/deft-x", BY_KIND)
    task, language = (config.row("deft-x", kind) for kind in ("task", "language"))
    assert task.denoise.rank == 3 and language.denoise is None
    assert (task.budget, language.budget) == (0.2, 7)


def test_a_dataset_may_be_described_in_a_file_of_its_own(tmp_path):
    (tmp_path / "news.yaml").write_text("files: '{split}.csv'\nlicence: CC0\nheader: false\n")
    for given, header in (("news.yaml", False), ({"from": "news.yaml", "header": True}, True)):
        config = check_config(with_key("datasets/news", given), tmp_path / "mine.yaml")
        assert config.datasets["news"].licence == "CC0"
        assert config.datasets["news"].header is header
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        check_config(with_key("datasets/news", "nowhere.yaml"), tmp_path / "mine.yaml")


def test_a_config_that_is_written_out_is_the_same_config():
    config = changed("methods/deft-x", BY_KIND)
    row = config.row("lt-sft", "task").model_copy(update={"budget": None})
    assert config.methods["lt-sft"].model_dump() == row.model_dump()
    assert type(config).model_validate_json(config.model_dump_json()) == config


def test_labels_that_are_numbers_need_no_quotes():
    dataset = {**NEWS, "files": "{language}/{split}.csv", "labels": {0: "negative"}}
    config = changed("datasets/sentiment", dataset)
    assert config.datasets["sentiment"].labels == {"0": "negative"}


def test_methods_differ_in_one_field_each():
    config = read_config(PROJECT / "config.yaml")
    reference = config.methods["lt-sft"].model_dump()
    for name in ("deft-x", "sc-sft", "rand-sft"):
        row = config.methods[name].model_dump()
        assert sum(row[field] != reference[field] for field in row) == 1, name


@pytest.mark.parametrize(
    "text, message",
    [
        ("run: a\nseeds: [1]\nrun: b\n", r"line 3: the key 'run' is here again, after line 1"),
        (
            "languages:\n  ace: {}\n  ace: {}\n",
            r"line 3: the key 'ace' is here again, after line 2",
        ),
        ("languages:\n  no: {name: Norwegian}\n", r"line 2: a key is read as False.*quotes"),
        ("labels: {0: negative}\n", r"line 1: a key is read as 0.*quotes"),
    ],
)
def test_yaml_that_would_lose_a_value_is_refused_with_its_line(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        read_config(path)
    assert str(path) in str(error.value)


def test_a_merge_key_of_yaml_keeps_its_meaning(tmp_path):
    (tmp_path / "c.yaml").write_text("x: &d {a: 1, b: 2}\ny: {<<: *d, b: 3}\n")
    assert read_yaml(tmp_path / "c.yaml")["y"] == {"a": 1, "b": 3}


def test_words_that_yaml_takes_for_truth_values_are_to_be_quoted():
    written = """
    tasks: {a: {classes: [yes, maybe]}}
    languages: {b: {text: [~]}}
    """
    with pytest.raises(ConfigError) as error:
        check_config(yaml.safe_load(written))
    lines = str(error.value).splitlines()[1:]
    for line, start in zip(
        lines,
        (
            "tasks.a.classes: YAML reads yes, on or true as true, not as a name; quote it",
            "languages.b.text: YAML reads null or ~ as null",
        ),
        strict=True,
    ):
        assert line.strip().startswith(start)


def test_a_language_may_have_a_script_and_takes_it_everywhere():
    def in_two_scripts(raw):
        raw["languages"]["ace_Arab"] = {"text": "ace/jawi.txt"}
        raw["languages"]["ace_Latn"] = {"text": "ace/latin.txt"}
        raw["tasks"]["sentiment"]["languages"] = ["qta"]
        raw["groups"] = {"acehnese": ["ace_Arab", "ace_Latn"]}

    def read(change):
        return check_config(with_change(change))

    assert {"ace_Arab", "ace_Latn"} < read(in_two_scripts).languages.keys()
    for wrong in ("ace_arab", "ace-Arab", "ACE", "ac", "ace_Arabic"):
        with pytest.raises(ConfigError, match=rf"languages\.{wrong}: String should match"):
            read(lambda raw, key=wrong: raw["languages"].update({key: {"text": "none"}}))


def test_a_task_is_not_tested_on_what_it_is_trained_on():
    def same(raw):
        raw["tasks"]["sentiment"]["test"]["split"] = "train"
        raw["languages"]["qaa"] = {"text": "text"}

    with pytest.raises(
        ConfigError, match=r"tasks\.sentiment\.test: qaa would be tested on what it"
    ):
        check_config(with_change(same))
