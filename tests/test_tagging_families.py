"""Every family of methods on a task of words: trained by its stages, composed and evaluated, the
logits of all words are those of a model that is put together by hand."""

from itertools import accumulate

import pytest
import torch
from conftest import sentences
from test_tagging import TAGS, in_names, tagged_items
from training import language_settings, task_settings

from deftx.core.parameters import backbone_parameters, head_of, put_head
from deftx.models.load import load_classifier, load_tokenizer
from deftx.models.predict import padded
from deftx.models.vectors import dense_vector
from deftx.stages.adapter.file import load_adapter
from deftx.stages.adapter.math import installed
from deftx.stages.adapter.run import Params as AdapterParams
from deftx.stages.adapter.run import adapter
from deftx.stages.compose.run import Params as ComposeParams
from deftx.stages.compose.run import compose
from deftx.stages.compose.settings import Combine
from deftx.stages.denoise.run import Params as DenoiseParams
from deftx.stages.denoise.run import denoise
from deftx.stages.denoise.settings import RankRule
from deftx.stages.evaluate.run import Params as EvaluateParams
from deftx.stages.evaluate.run import evaluate
from deftx.stages.full.run import Params as FullParams
from deftx.stages.full.run import full
from deftx.stages.gate.run import Params as GateParams
from deftx.stages.gate.run import gate
from deftx.stages.gated.run import Params as GatedParams
from deftx.stages.gated.run import gated
from deftx.stages.lora.run import Params as LoraParams
from deftx.stages.lora.run import lora
from deftx.stages.lora.settings import Lora
from deftx.stages.mask.run import Params as MaskParams
from deftx.stages.mask.run import mask
from deftx.stages.mask.settings import Selection
from deftx.stages.sparse.run import Params as SparseParams
from deftx.stages.sparse.run import sparse
from deftx.store.items import write_items
from deftx.store.tensors import TensorFile
from deftx.tasks.tagging.tokens import encode_words

pytestmark = pytest.mark.rounding

LENGTH = 24
TARGETS = {
    "task": {
        "target": "task-x",
        "classes": TAGS,
        "kind": "tagging",
        "task": task_settings(max_length=LENGTH, metric="accuracy", epochs=1),
    },
    "language": {"target": "lang-qaa", "language": language_settings(max_steps=3)},
}


class Stages:
    """Runs the stages of one method on a tiny task of words and a language, in a folder."""

    def __init__(self, base, folder):
        self.base, self.folder = base, folder
        write_items(folder / "words.parquet", in_names(tagged_items(40, longest=30)))
        text = [{"id": str(i), "text": line} for i, line in enumerate(sentences(40))]
        write_items(folder / "text.parquet", text)

    def path(self, kind, stage):
        return self.folder / f"{kind}-{stage}.safetensors"

    def data(self, kind):
        words = self.folder / "words.parquet"
        texts = {"train": self.folder / "text.parquet"}
        own = {"train": words, "valid": words} if kind == "task" else texts
        return {"base": self.base.folder, **own}

    def full(self, kind):
        full(FullParams(**TARGETS[kind]), **self.data(kind), out=self.path(kind, "full"))
        return self.path(kind, "full")

    def sparse(self, kind, delta, **selection):
        target, out = TARGETS[kind]["target"], self.path(kind, "mask")
        chosen = MaskParams(method="m", target=target, selection=Selection(**selection))
        mask(chosen, base=self.base.folder, delta=delta, out=out)
        params = SparseParams(method="m", **TARGETS[kind])
        folder = self.folder / f"{kind}-sparse"
        folder.mkdir()
        vector = folder / "sft_model.safetensors"
        sparse(params, **self.data(kind), mask=out, out=vector)
        return vector


def lt_sft(stages, kind):
    return stages.sparse(kind, stages.full(kind), budget=0.05)


def deft_x(stages, kind):
    out = stages.path(kind, "denoise")
    params = DenoiseParams(rule=RankRule(rank=4), target=TARGETS[kind]["target"])
    denoise(params, base=stages.base.folder, full=stages.full(kind), out=out)
    return stages.sparse(kind, out, budget=0.05)


def rand_sft(stages, kind):
    return stages.sparse(kind, None, budget=0.05, score="random")


def bit_fit(stages, kind):
    return stages.sparse(kind, None, score="none", choose_from=r"\.bias$")


def whole(stages, kind):
    return stages.full(kind)


def with_lora(stages, kind):
    out = stages.path(kind, "lora")
    lora(LoraParams(method="m", lora=Lora(rank=2), **TARGETS[kind]), **stages.data(kind), out=out)
    return out


def ada_sft(stages, kind):
    gates, out = stages.path(kind, "gate"), stages.path(kind, "gated")
    gate(GateParams(method="m", **TARGETS[kind]), **stages.data(kind), out=gates)
    gated(GatedParams(method="m", **TARGETS[kind]), **stages.data(kind), gates=gates, out=out)
    return out


def mad_x(stages, kind):
    below = {"language_adapter": stages.path("language", "adapter")} if kind == "task" else {}
    out = stages.path(kind, "adapter")
    adapter(AdapterParams(method="m", **TARGETS[kind]), **stages.data(kind), **below, out=out)
    return out


@pytest.fixture
def stages(base, tmp_path):
    return Stages(base, tmp_path)


def evaluated(stages, paths, **changes):
    """The file of the stage `evaluate`, of the two vectors composed."""
    identity = {"system": "s", "task": "x", "language": "qaa"}
    out, vectors = stages.folder / "composed.safetensors", dict(zip(ROLES, paths, strict=True))
    compose(ComposeParams(**identity, **changes), base=stages.base.folder, **vectors, out=out)
    write_items(stages.folder / "test.parquet", in_names(tagged_items(12, 5, longest=40)))
    params = EvaluateParams(**identity, classes=TAGS, kind="tagging", max_length=LENGTH)
    evaluate(params, base=stages.base.folder, composed=out, test=stages.folder / "test.parquet",
             **vectors, out=stages.folder / "e.safetensors")  # fmt: skip
    return TensorFile(stages.folder / "e.safetensors")


ROLES = ("task_vector", "language_vector")


def plain(model, base):
    """Logits of all words of the test items, one window at a time, and in float64."""
    tokenizer, model = load_tokenizer(base), model.double().eval()
    found = encode_words(tagged_items(12, 5, longest=40), tokenizer, LENGTH)
    rows = []
    for window in found:
        batch = padded([window], tokenizer, len(window["input_ids"]))
        places = batch.pop("places")
        batch.pop("labels")
        with torch.no_grad():
            rows.append(model(**batch).logits[places])
    assert len(found) > 12  # some sentences are read in several windows
    return torch.cat(rows)


def check(stages, file, model):
    """Whether the logits are those of a model, and learned from the words."""
    items = tagged_items(12, 5, longest=40)
    assert file["ends"].tolist() == [*accumulate(len(item["words"]) for item in items)]
    expected = plain(model, stages.base)
    torch.testing.assert_close(file["logits"].double(), expected, rtol=0, atol=2e-4)
    assert file.provenance["params"]["kind"] == "tagging"
    fresh = plain(load_classifier(stages.base, TAGS, 0, "tagging"), stages.base)
    labels = torch.tensor([tag for item in items for tag in item["tags"]])
    losses = [torch.nn.functional.cross_entropy(x, labels) for x in (expected, fresh)]
    assert losses[0] < losses[1]


def by_hand(stages, paths, own=lambda task, language: task + language):
    """The base's model with the head of the task, and the two vectors as one."""
    model = load_classifier(stages.base, TAGS, 0, "tagging")
    parts = [dense_vector(TensorFile(path), stages.base) for path in paths]
    with torch.no_grad():
        for name, weight in backbone_parameters(model).items():
            task, language = (part.get(name, torch.zeros_like(weight)) for part in parts)
            weight += own(task, language)
    head = head_of(TensorFile(paths[0]))
    assert head.keys() == {"classifier.weight", "classifier.bias"}
    put_head(model, head)
    return model


@pytest.mark.parametrize("method", [lt_sft, deft_x, rand_sft, bit_fit, whole, with_lora, ada_sft])
def test_a_method_on_words_is_its_vectors_added_by_hand(stages, method):
    paths = [method(stages, kind) for kind in TARGETS]
    check(stages, evaluated(stages, paths), by_hand(stages, paths))


def test_a_merge_on_words_is_that_of_the_two_vectors(stages):
    paths = [lt_sft(stages, kind) for kind in TARGETS]
    file = evaluated(stages, paths, combine=Combine(ties={"density": 1}))

    def agreeing(task, language):
        pair, sign = torch.stack([task, language]), (task + language).sign()
        return (pair * (pair.sign() == sign)).sum(0) / (pair.sign() == sign).sum(0).clamp(min=1)

    check(stages, file, by_hand(stages, paths, agreeing))


def test_mad_x_on_words_is_the_stack_in_a_plain_forward_pass(stages):
    paths = [mad_x(stages, kind) for kind in ("language", "task")][::-1]
    file = evaluated(stages, paths)
    model = load_classifier(stages.base, TAGS, 0, "tagging").double()
    task, below = (load_adapter(TensorFile(path), stages.base) for path in paths)
    put_head(model, task.head)
    with installed(model, [below.module.double(), task.module.double()], task.settings.drop_last):
        check(stages, file, model)
