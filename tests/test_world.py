"""The laws of the embedded world."""

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from pydantic import ValidationError

from deftx.stages.world.math import labelled, text
from deftx.stages.world.settings import World

WORLD = World()
TASKS = ("sentiment", "inference")
SPLITS = ("train", "valid", "test")


@pytest.fixture(params=TASKS)
def task(request):
    return request.param


def with_languages(**distances: float) -> World:
    return WORLD.model_copy(update={"languages": distances})


def everything(world: World, key: str) -> list:
    items = [labelled(world, name, key, split, 30) for name in TASKS for split in SPLITS]
    return [text(world, key, 30), *items]


def texts(rows: list[dict[str, str]]) -> list[str]:
    return [row[column] for row in rows for column in ("text", "text_pair") if column in row]


def sentences(lines: list[str]) -> set[str]:
    return {part.strip() for line in lines for part in line.split(".") if part.strip()}


def words(lines: list[str]) -> set[str]:
    return set(" ".join(lines).replace(".", "").split())


def vocabulary(world: World, key: str) -> set[str]:
    return words(text(world.model_copy(update={"borrowed": 0.0}), key, 2000))


def test_items_have_the_documented_keys_their_own_ids_and_balanced_labels(task):
    parts = [labelled(WORLD, task, "qtb", split, 90) for split in SPLITS]
    rows = [row for part in parts for row in part]
    pair = ["text_pair"] if task == "inference" else []
    assert all(list(row) == ["id", "text", *pair, "label"] for row in rows)
    assert all(isinstance(value, str) and value for row in rows for value in row.values())
    assert len({row["id"] for row in rows}) == len(rows)
    for part in parts:
        assert sorted(Counter(row["label"] for row in part).values()) == [30, 30, 30]


def test_same_id_same_label_and_content_in_every_language(task):
    """Items that are equal in one language are equal in all, and others differ in all."""
    rows = [labelled(WORLD, task, language, "test", 90) for language in WORLD.languages]
    keys = [[(row["id"], row["label"]) for row in of_language] for of_language in rows]
    columns = [texts(of_language) for of_language in rows]
    patterns = [[column.index(item) for item in column] for column in columns]
    assert all(other == keys[0] for other in keys)
    assert all(other == patterns[0] for other in patterns)


def test_more_items_only_add_to_fewer(task):
    assert labelled(WORLD, task, "qtb", "test", 60)[:30] == labelled(WORLD, task, "qtb", "test", 30)
    assert text(WORLD, "qtb", 60)[:30] == text(WORLD, "qtb", 30)


def test_the_seed_decides_the_world(task):
    assert everything(WORLD, "qtb") == everything(World(), "qtb")
    other = World(seed=1)
    assert text(WORLD, "qaa", 5) != text(other, "qaa", 5)
    assert labelled(WORLD, task, "qaa", "test", 5) != labelled(other, task, "qaa", "test", 5)


def test_another_process_generates_the_same_world():
    code = (
        "import json; from deftx.stages.world.settings import World;"
        "from deftx.stages.world.math import *;"
        "items = labelled(World(), 'inference', 'qtc', 'test', 20);"
        "print(json.dumps([text(World(), 'qtc', 20), items]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    items = labelled(WORLD, "inference", "qtc", "test", 20)
    assert json.loads(run.stdout) == [text(WORLD, "qtc", 20), items]


@pytest.mark.parametrize("change", [{"qzz": 0.4}, {"qta": 0.9}], ids=["added", "moved"])
def test_adding_or_moving_a_language_changes_no_other(change):
    other = with_languages(**{**WORLD.languages, **change})
    assert all(everything(other, key) == everything(WORLD, key) for key in ("qaa", "qbc", "qtc"))
    if "qta" in change:
        assert everything(other, "qta") != everything(WORLD, "qta")


def test_distance_zero_is_the_source():
    world = with_languages(qaa=0.0, qzz=0.0)
    assert everything(world, "qaa") == everything(world, "qzz")


def test_equal_distance_is_not_the_same_language():
    world = with_languages(qaa=0.0, qxx=0.5, qyy=0.5)
    assert everything(world, "qxx") != everything(world, "qyy")
    assert vocabulary(world, "qxx") != vocabulary(world, "qyy")


def test_shared_vocabulary_falls_with_distance():
    steps = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    source = vocabulary(WORLD, "qaa")
    shared = [
        len(source & vocabulary(with_languages(qaa=0.0, qxx=step), "qxx")) / len(source)
        for step in steps
    ]
    assert shared[0] == 1
    assert all(near > far for near, far in pairwise(shared))


def test_the_farthest_language_shares_the_international_words_alone():
    far = with_languages(qaa=0.0, qxx=1.0)
    common = vocabulary(far, "qaa") & vocabulary(far, "qxx")
    assert common and all(word[-1] not in "aeiouy" for word in common)
    none = far.model_copy(update={"international": 0.0})
    assert not vocabulary(none, "qaa") & vocabulary(none, "qxx")


def test_text_borrows_from_the_source_and_items_do_not(task):
    own = vocabulary(WORLD, "qtc")
    mixed = words(text(WORLD, "qtc", 2000))
    assert mixed - own and mixed <= own | vocabulary(WORLD, "qaa")
    assert words(texts(labelled(WORLD, task, "qtc", "train", 300))) <= own


@pytest.mark.parametrize("language", ["qaa", "qta", "qtc"])
def test_splits_are_disjoint(language):
    parts = [sentences(text(WORLD, language, 3000))]
    for split in SPLITS:
        rows = [row for name in TASKS for row in labelled(WORLD, name, language, split, 600)]
        parts.append(sentences(texts(rows)))
    union = set().union(*parts)
    assert sum(map(len, parts)) == len(union)


@pytest.mark.parametrize(
    ("column", "labels"),
    [
        ("text", ("entailment", "neutral", "contradiction")),
        ("text_pair", ("entailment", "contradiction")),
    ],
)
def test_no_word_reveals_the_label(column, labels):
    """No word of the premise any label, none of the hypothesis whether it contradicts."""
    counters = {label: Counter() for label in labels}
    for row in labelled(WORLD, "inference", "qaa", "train", 1200):
        if row["label"] in counters:
            counters[row["label"]].update(words([row[column]]))
    for word in set().union(*counters.values()):
        counts = [counter[word] for counter in counters.values()]
        assert max(counts) <= 2 * min(counts) + 20


@pytest.mark.parametrize("distance", [-0.1, 1.1])
def test_bad_distance_is_an_error(distance):
    with pytest.raises(ValidationError, match=r"languages\.qxx"):
        World(languages={"qaa": 0.0, "qxx": distance})


def test_an_unknown_language_is_an_error_that_names_the_known_ones():
    with pytest.raises(KeyError, match=r"qzz.*qaa"):
        text(WORLD, "qzz", 1)


def test_an_unknown_split_is_an_error_that_names_the_known_ones(task):
    with pytest.raises(ValueError, match=r"dev.*valid"):
        labelled(WORLD, task, "qaa", "dev", 1)
