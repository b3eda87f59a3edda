"""The plan: what is made from what, and what makes it stale."""

import json
import os
import time

import pytest
from tiny_config import with_change, with_key

from deftx.plan import user_files
from deftx.plan.artefact import Artefact, Target
from deftx.plan.config import check_config
from deftx.plan.plan import Plan
from deftx.stages.table import PAGES, path_of
from deftx.store.artefact import file_sha256
from deftx.store.errors import ConfigError


def unchanged(raw):
    """The tiny config as it is."""


def plan(change=unchanged):
    return Plan(check_config(with_change(change)))


def state(plan):
    """Path → everything that decides the artefact: its parameters and what goes in."""
    return {
        path_of(a): (
            json.dumps(plan.params(a), sort_keys=True),
            {role: [path_of(p) for p in parts] for role, parts in plan.inputs(a).items()},
        )
        for a in plan.artefacts
    }


PAGES_AND_SUMS = (*PAGES, "config.json", "coverage", "diagnostics")


def differing(before, after, ignore=PAGES_AND_SUMS):
    """Artefacts that are new or have other parameters or inputs."""
    return sorted(
        path
        for path, what in after.items()
        if before.get(path) != what and path.split("/")[0] not in ignore
    )


def inputs(change, path):
    """Role → paths of what goes into an artefact of the changed plan."""
    return state(plan(change))[path][1]


def params(change, path):
    return json.loads(state(plan(change))[path][0])


def test_a_task_needs_no_language_vector_and_a_language_without_text_has_none():
    assert "full/lang-qtb/seed0/model.safetensors" not in state(plan())
    for path in ("deft-x/sentiment/qtb", "zero-shot/sentiment/qta"):
        assert inputs(unchanged, f"compose/{path}/seed0.safetensors")["language_vector"] == []


def users(found, path):
    """Stages that an artefact goes into."""
    return {
        a.stage
        for a in found.artefacts
        for parts in found.inputs(a).values()
        if any(path_of(p) == path for p in parts)
    }


def test_one_full_serves_every_method():
    assert users(plan(), "full/lang-qta/seed0/model.safetensors") == {"denoise", "mask"}


def add_language(raw):
    raw["world"]["languages"]["qtc"] = 0.5
    raw["languages"]["qtc"] = {"text": "text"}


def test_adding_a_language_touches_no_other():
    before, after = state(plan()), state(plan(add_language))
    assert before.keys() <= after.keys()
    assert all("qtc" in path for path in differing(before, after))


def test_adding_a_rank_runs_denoise_for_it_and_on():
    def add(raw):
        raw["methods"]["deft-x-2"] = {"denoise": {"rank": 2}}
        raw["systems"]["deft-x-2"] = {"task": "deft-x-2"}

    new = differing(state(plan()), state(plan(add)))
    stages = {path.split("/")[0] for path in new}
    assert stages == {"denoise", "mask", "sparse", "compose", "evaluate"}
    assert all("deft-x-2" in path or "rank-2" in path for path in new)


TRAINED = {"full", "sparse"}


@pytest.mark.parametrize(
    ("path", "value", "stages"),
    [
        ("languages/qta/name", "Other", set()),
        ("systems/lt-sft/task_scale", 0.5, {"compose"}),
        ("budget/task", 0.05, {"mask"}),
        ("language_training/l1", 0.2, TRAINED),
        ("tasks/sentiment/training/max_length", 16, {*TRAINED, "evaluate", "tokens"}),
        ("world/international", 0.9, {"data"}),
        ("threads/mask", 2, {"mask"}),
    ],
)
def test_a_value_changes_the_parameters_of_the_stages_that_read_it(path, value, stages):
    changed = differing(state(plan()), state(Plan(check_config(with_key(path, value)))))
    assert {path.split("/")[0] for path in changed} == stages


def test_equal_values_written_otherwise_change_nothing():
    def rewrite(raw):
        raw["tasks"]["sentiment"]["training"]["learning_rate"] = "1e-3"
        raw["budget"] = dict(reversed(raw["budget"].items()))
        raw["seeds"] = [0]

    assert differing(state(plan()), state(plan(rewrite)), ignore=()) == []


def from_a_vector(raw):
    raw["task_start"] = "lt-sft"
    raw["languages"]["qaa"] = {"text": "text"}


SOURCE_VECTOR = "sparse/lt-sft/lang-qaa/seed0/sft_model.safetensors"


def test_a_task_that_starts_from_a_vector_names_it_in_its_path():
    for path in ("full/{}/model.safetensors", "sparse/deft-x/{}/sft_model.safetensors"):
        found = inputs(from_a_vector, path.format("task-sentiment/lt-sft/seed0"))
        assert found["start_vector"] == [SOURCE_VECTOR]


def test_methods_that_look_at_no_difference_skip_the_full_phase():
    def only_random(raw):
        raw["methods"] = {
            "rand-sft": {"score": "random"},
            "bitfit": {"score": "none", "choose_from": r"\.bias$"},
        }
        raw["systems"] = {name: {"task": name} for name in raw["methods"]}

    stages = {a.stage for a in plan(only_random).artefacts}
    assert not stages & {"full", "denoise"} and {"mask", "sparse"} <= stages


def test_task_seed_n_goes_with_language_seed_n():
    found = Plan(check_config(with_key("seeds", [0, 3])))
    for artefact in found.artefacts:
        if artefact.stage == "compose":
            roles = found.inputs(artefact)
            parts = roles["task_vector"] + roles["language_vector"]
            assert {part["seed"] for part in parts} == {artefact["seed"]}


def with_files(raw):
    raw["datasets"]["text"] = {"files": "text/{language}.txt"}
    raw["datasets"]["sentiment"] = {
        "files": "{language}/{split}.csv",
        "aliases": {"qta": "near"},
        "columns": {"label": "label"},
        "splits": {"valid": "dev"},
    }
    raw["languages"]["qta"]["text"] = "own/qta.txt.xz"


def test_files_are_found_below_data_dir_by_alias_and_split(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFTX_DATA", str(tmp_path))
    found = plan(with_files)
    files = {
        (a["dataset"], a["language"], a["split"]): str(found.user_files.of(a).relative_to(tmp_path))
        for a in found.artefacts
        if a.stage == "data"
    }
    assert files[("sentiment", "qta", "test")] == "near/test.csv"
    assert files[("sentiment", "qaa", "valid")] == "qaa/dev.csv"
    assert files[("own-text", "qta", "train")] == "own/qta.txt.xz"
    with pytest.raises(ConfigError, match=r"languages\.qta\.text: no file .*own/qta\.txt\.xz"):
        found.check_files()


def test_a_moved_file_is_the_same_and_an_edited_one_is_not(tmp_path, monkeypatch):
    texts = []
    for folder, content in (("a", "one\n"), ("b", "one\n"), ("c", "two\n")):
        (tmp_path / folder / "own").mkdir(parents=True)
        (tmp_path / folder / "own/qta.txt.xz").write_text(content)
        monkeypatch.setenv("DEFTX_DATA", str(tmp_path / folder))
        artefact = Artefact.of("data", dataset="own-text", language="qta", split="train")
        texts.append(plan(with_files).params(artefact))
    assert texts[0] == texts[1] != texts[2]
    assert not any(str(tmp_path) in str(text) for text in texts)


@pytest.mark.parametrize(
    "target",
    [
        Target("language", "ace"),
        Target("task", "nli"),
        Target("task", "nli", "lt-sft"),
        Target("language", "ace", added="lt-sft.round1"),
        Target("task", "nli", "lt-sft", "lt-sft.round2"),
        Target("language", "ace", average=5),
        Target("task", "nli", "lt-sft", "lt-sft.round2", 12),
    ],
)
def test_a_target_as_text_is_the_target(target):
    assert Target.parse(str(target)) == target


def in_rounds(raw):
    raw["methods"]["lt-sft"] = {"rounds": 3}
    raw["systems"] = {"lt-sft": {"task": "lt-sft"}}


def test_each_round_builds_on_the_vector_of_the_one_before():
    added = "full/lang-qta/base+lt-sft.round{}/seed0/model.safetensors"
    vector = "sparse/lt-sft.round{}/lang-qta/seed0/sft_model.safetensors"
    mask = "mask/lt-sft{}/lang-qta/seed0.safetensors"
    for path, before in (
        ("full/lang-qta/seed0/model.safetensors", []),
        (added.format(1), [vector.format(1)]),
        (added.format(2), [vector.format(2)]),
        ("sparse/lt-sft/lang-qta/seed0/sft_model.safetensors", [vector.format(2)]),
    ):
        assert inputs(in_rounds, path)["round_vector"] == before
    last = inputs(in_rounds, "sparse/lt-sft/lang-qta/seed0/sft_model.safetensors")
    assert last["mask"] == [mask.format("")]
    third, facts = (find(in_rounds, mask.format("")) for find in (inputs, params))
    assert third["chosen"] == [mask.format(".round2")] and third["delta"] == [added.format(2)]
    assert (facts["round"], facts["rounds"]) == (3, 3)
    assert inputs(in_rounds, mask.format(".round1"))["chosen"] == []
    assert params(in_rounds, mask.format(".round1"))["round"] == 1
    assert users(plan(in_rounds), vector.format(1)) == {"full", "sparse"}


def families(raw):
    raw["languages"]["qaa"] = {"text": "text"}
    raw["methods"] |= {"mad-x": {"adapter": {}}, "ada-sft": {"gate": {}}, "lora": {"lora": {}}}
    raw["systems"] = {
        "mad-x": {"task": "mad-x"},
        "ada-sft": {"task": "ada-sft", "language": "lt-sft"},
        "lora": {"task": "lora", "language": "lt-sft"},
    }


def test_a_task_adapter_is_trained_on_the_adapter_of_the_source():
    source = "adapter/mad-x/lang-qaa/seed0.safetensors"
    of_task = inputs(families, "adapter/mad-x/task-sentiment/base/seed0.safetensors")
    assert of_task["language_adapter"] == [source]
    assert inputs(families, source)["language_adapter"] == []
    near = inputs(families, "evaluate/mad-x/sentiment/qta/seed0.safetensors")
    assert near["language_vector"] == ["adapter/mad-x/lang-qta/seed0.safetensors"]
    far = inputs(families, "evaluate/mad-x/sentiment/qtb/seed0.safetensors")  # has no text
    assert far["language_vector"] == [] and far["start_vector"] == [source]


def test_a_soft_mask_is_learned_before_the_weights_under_it():
    weights = inputs(families, "gated/ada-sft/task-sentiment/base/seed0.safetensors")
    assert weights["gates"] == ["gate/ada-sft/task-sentiment/base/seed0.safetensors"]
    assert not any(path.startswith("full/task") for path in state(plan(families)))


def test_low_rank_training_gets_the_budget_of_its_kind():
    path = "lora/lora/task-sentiment/base/seed0.safetensors"
    assert params(families, path)["budget"] == 0.1


def several_sources(raw):
    raw["languages"] |= {"qta": {"text": "text"}, "qaa": {"text": "text"}}
    more = [{"language": key, "dataset": "sentiment", "split": "train"} for key in ("qta", "qtb")]
    raw["tasks"]["sentiment"]["more_sources"] = more


def test_sources_train_under_their_own_vectors_and_not_on_top_of_one():
    def start(raw):
        several_sources(raw)
        raw["task_start"] = "lt-sft"

    path = "full/task-sentiment/lt-sft/seed0/model.safetensors"
    found, facts = inputs(start, path), params(start, path)
    assert found["train"] == [
        f"tokens/32/data/sentiment/{key}/train.safetensors" for key in ("qaa", "qta", "qtb")
    ]
    assert found["start_vector"] == []
    vectors = [f"sparse/lt-sft/lang-{key}/seed0/sft_model.safetensors" for key in ("qaa", "qta")]
    assert found["source_vector"] == vectors
    assert facts["sources"] == ["qaa", "qta", "qtb"] and facts["with_vectors"] == ["qaa", "qta"]
    path = "full/task-sentiment/base/seed0/model.safetensors"
    assert inputs(several_sources, path)["source_vector"] == []


def test_a_system_that_no_task_evaluates_makes_nothing_and_stands_on_no_page():
    def spare(raw):
        raw["tasks"]["sentiment"]["systems"] = list(raw["systems"])
        raw["methods"]["spare"] = {"denoise": {"rank": 3}}
        raw["systems"]["spare"] = {"task": "spare"}

    assert differing(state(plan()), state(plan(spare)), ignore=()) == ["config.json"]


def test_a_system_may_start_its_task_elsewhere():
    def start(raw):
        raw["languages"]["qaa"] = {"text": "text"}
        raw["systems"]["on-source"] = {"task": "lt-sft", "task_start": "lt-sft"}

    paths = state(plan(start))
    task = "sparse/lt-sft/task-sentiment/lt-sft/seed0/sft_model.safetensors"
    composed = inputs(start, "compose/on-source/sentiment/qta/seed0.safetensors")
    assert composed["task_vector"] == [task]
    assert inputs(start, task)["start_vector"] == [SOURCE_VECTOR]
    assert "sparse/lt-sft/task-sentiment/base/seed0/sft_model.safetensors" in paths


def test_a_system_that_is_combined_otherwise_reads_its_vectors_themselves():
    def combine(raw):
        raw["systems"]["ties"] = {"task": "lt-sft", "combine": {"ties": {"density": 0.2}}}

    for system, count in (("ties", 1), ("lt-sft", 0)):
        read = inputs(combine, f"evaluate/{system}/sentiment/qta/seed0.safetensors")
        assert len(read["task_vector"]) == len(read["language_vector"]) == count


def from_elsewhere(raw):
    """The world's languages with text and labelled items from a server."""
    raw["base"] = {"model": "someone/model", "revision": "0" * 40}
    server = "https://example.org"
    labelled = {"columns": {"label": "label"}}
    raw["datasets"] = {
        "wiki": {
            "files": "wiki/{language}.txt",
            "hub": {"dataset": "some/wiki", "file": "20231101.{language}/{split}.parquet"},
            "aliases": {"qta": "near"},
            "limit": {"qtb": 7},
        },
        "news": {"files": "news/{language}.txt", "url": f"{server}/{{language}}.txt"},
        "sentiment": {
            "files": "{language}/{split}.csv",
            "url": f"{server}/c0ffee/{{language}}/{{split}}.csv",
            "splits": {"valid": "dev"},
            **labelled,
        },
        "smsa": {
            "files": "smsa/{split}.tsv",
            "url": f"{server}/{{split}}.tsv",
            "without_nearest": {"dataset": "sentiment", "language": "qaa", "split": "test"},
            **labelled,
        },
    }
    raw["cleaning"] = {}
    raw["languages"]["qta"]["text"] = ["wiki", "news"]
    raw["languages"]["qtb"]["text"] = "wiki"
    raw["tasks"]["sentiment"].update(
        train={"dataset": "smsa", "split": "train"}, valid={"dataset": "smsa", "split": "valid"}
    )
    del raw["world"]


def test_each_file_is_fetched_by_a_job_of_its_own_and_read_from_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFTX_DATA", str(tmp_path))
    found = plan(from_elsewhere)
    found.check_files()  # nothing that is to be fetched is missed
    wiki, wiki_file = "download/wiki/qta/train.json", "20231101.near/train.parquet"
    assert inputs(from_elsewhere, wiki) == {}
    facts = params(from_elsewhere, wiki)
    hub = {"dataset": "some/wiki", "revision": "main", "file": wiki_file}
    assert facts["hub"] == {**hub, "config": None, "split": "train"}
    assert facts["given"] is None
    smsa = params(from_elsewhere, "download/smsa/qaa/valid.json")
    assert smsa["url"] == "https://example.org/valid.tsv"
    assert inputs(from_elsewhere, "data/wiki/qta/train.parquet") == {"download": [wiki]}
    for language, limit in (("qtb", 7), ("qta", None)):
        assert params(from_elsewhere, f"data/wiki/{language}/train.parquet")["limit"] == limit


def test_a_trimmed_dataset_takes_all_its_splits_and_the_other_one():
    assert inputs(from_elsewhere, "trim/smsa/qaa/train.parquet") == {
        "splits": [f"data/smsa/qaa/{split}.parquet" for split in ("train", "valid", "test")],
        "made_from": ["data/sentiment/qaa/test.parquet"],
    }
    read = inputs(from_elsewhere, "full/task-sentiment/base/seed0/model.safetensors")
    assert read["train"] == ["tokens/32/trim/smsa/qaa/train.safetensors"]
    assert read["valid"] == ["tokens/32/trim/smsa/qaa/valid.safetensors"]


def test_the_text_of_a_language_depends_on_its_own_evaluation_items_alone():
    def more(raw):
        from_elsewhere(raw)
        raw["languages"]["qtc"] = {"text": "wiki"}

    assert inputs(from_elsewhere, "clean/qta.parquet") == {
        "text": ["data/wiki/qta/train.parquet", "data/news/qta/train.parquet"],
        "evaluation": ["data/sentiment/qta/test.parquet"],
    }
    read = inputs(from_elsewhere, "full/lang-qta/seed0/model.safetensors")
    assert read["train"] == ["tokens/whole/clean/qta.safetensors"]
    new = differing(state(plan(from_elsewhere)), state(plan(more)))
    assert "clean/qtc.parquet" in new and all("qtc" in path for path in new)


def test_the_text_of_the_source_loses_validation_items_unless_evaluation_is_off():
    def source(raw):
        from_elsewhere(raw)
        raw["languages"]["qaa"] = {"text": "wiki"}

    def off(raw):
        source(raw)
        raw["cleaning"] = {"evaluation": False}

    evaluation = ["data/sentiment/qaa/test.parquet", "trim/smsa/qaa/valid.parquet"]
    for change, expected in ((source, evaluation), (off, [])):
        assert inputs(change, "clean/qaa.parquet")["evaluation"] == expected


def test_without_cleaning_there_is_no_such_stage():
    assert not any(path.startswith("clean/") for path in state(plan()))


def test_fetching_makes_no_download_stale_and_another_copy_does(tmp_path, monkeypatch):
    """The parameters before and after the first run are the same, also when files were touched."""
    monkeypatch.setenv("DEFTX_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    artefact = Artefact.of("download", dataset="news", language="qta", split="train")
    read = Artefact("data", artefact.wildcards)

    def now():
        user_files.sha256.cache_clear()
        found = plan(from_elsewhere)
        return found.params(artefact), found.params(read)

    def touch():
        os.utime(file, (time.time() + 60,) * 2)

    def finish_download(given):
        """Write what the stage writes for the file that is there."""
        out.parent.mkdir(parents=True, exist_ok=True)
        sizes = {"sha256": file_sha256(file), "bytes": file.stat().st_size}
        out.write_text(json.dumps({**sizes, "given": given}))

    first, first_read = now()
    found = plan(from_elsewhere)
    file, out = found.user_files.of(artefact), tmp_path / found.path(artefact)
    file.parent.mkdir(parents=True)
    file.write_text("one\n")
    assert now()[0]["given"] is not None  # a copy of the user's own, before any download
    finish_download(given=None)
    assert now() == (first, first_read)
    touch()
    assert now() == (first, first_read)
    file.write_text("two\n")
    touch()
    second, second_read = now()
    assert second["given"] == file_sha256(file) and second_read == first_read
    finish_download(second["given"])
    assert now()[0] == second
    file.unlink()
    assert now()[0] == second


NEAREST = "datasets/smsa/without_nearest"
QTA = "languages/qta/text"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("datasets/news/hub", {"dataset": "a/b", "file": "c"}, r"news: give one of url and hub"),
        ("datasets/news/url", "ftp://x/{language}", r"news: url: expected http://, https:// or"),
        ("datasets/sentiment/url", "https://x/{split}", r"sentiment\.url: .* has no \{language\}"),
        ("datasets/wiki/hub/file", "all.csv", r"wiki\.hub\.file: 'all.csv' has no \{language\}"),
        (f"{NEAREST}/dataset", "sentimnt", r"no other dataset 'sentimnt'; did you mean sentiment"),
        (f"{NEAREST}/dataset", "smsa", r"without_nearest\.dataset: no other dataset 'smsa'"),
        (f"{NEAREST}/among", ["train"], r"among: no valid, which tasks\.sentiment\.valid\.dataset"),
        ("datasets/smsa/files", "x", r"files: 'x' has no \{split\}, but is read for test, tr"),
        ("cleaning", ..., r"languages\.qta\.text: several texts are put together by"),
        (QTA, [], r"languages\.qta\.text: an empty list"),
        (QTA, ["wiki", "none"], r"languages\.qta\.text: none stands alone"),
        (QTA, ["a.txt", "b.txt"], r"languages\.qta\.text: one path at most"),
        (QTA, ["wiki", "wiky"], r"languages\.qta\.text: no dataset 'wiky'; did you mean wiki"),
        ("cleaning/max_characters", 2, r"max_characters \(2\) is less than min_characters \(3\)"),
    ],
)
def test_what_cannot_be_fetched_or_put_together_is_named_by_its_key(path, value, message):
    with pytest.raises(ConfigError, match=message):
        check_config(with_key(path, value, with_change(from_elsewhere)))
