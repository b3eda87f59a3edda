"""Equal to what the `adapters` library computes, read as data: of classifiers and language models
in a folder beside the project, of a token classifier in `tests/fixtures` (make_mad_x_tags.py).

With transformers' own masked-language-model heads the library 1.3.0 leaves out the inverse before
the decoder; its own head (`add_masked_lm_head`) has it, as MAD-X and ours do. So in the language
model the inverse is undone here before the comparison; test_adapters.py has the one that is left.
"""

import json
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import (
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
)

from deftx.core.parameters import head_parameters, weights_of
from deftx.stages.adapter.file import StoredAdapter, stacked
from deftx.stages.adapter.math import AdapterModule, installed
from deftx.stages.adapter.settings import Adapter

pytestmark = pytest.mark.rounding

LANGUAGE_MODEL = {"none": [], "lang": ["lang"]}
CLASSIFIER = {
    **LANGUAGE_MODEL,
    "task": ["task"],
    "lang_task": ["lang", "task"],
    "other_task": ["other", "task"],
}
HEADS = {
    "classify": (XLMRobertaForSequenceClassification, CLASSIFIER),
    "mlm": (XLMRobertaForMaskedLM, LANGUAGE_MODEL),
    "tags": (XLMRobertaForTokenClassification, CLASSIFIER),
}
OF_TAGS = Path(__file__).parent / "fixtures" / "mad_x_tags.safetensors"
FILES = {
    "classify_all_layers": 0,
    "classify_madx2_last_layer_left_out": 1,
    "mlm_all_layers": 0,
    "mlm_madx2_last_layer_left_out": 1,
    "tags": 1,
}
"""File → how many last layers have no adapters."""


class Oracle:
    """A model of the library with its adapters, its inputs and what came out.

    The library computed in float32. Here the same weights are float64, so that what is left of the
    difference is the library's rounding: a constant of the file, on any CPU.
    """

    def __init__(self, path, head, drop_last):
        with safe_open(path, framework="pt") as file:
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            config = json.loads(file.metadata()["config"])
        self.config, self.drop_last = XLMRobertaConfig(**config), drop_last
        self.inputs = {name: self.tensors[name] for name in ("input_ids", "attention_mask")}
        self.state = self.under("state.")
        kind, self.activations = HEADS[head]
        self.model = kind(self.config).eval().double()
        own = {n: self.state[n] for n in self.model.state_dict() if n in self.state}
        assert set(self.model.state_dict()) == set(own)
        self.model.load_state_dict(own)

    def under(self, prefix):
        return {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}

    def adapter(self, name):
        """The library's adapter under our names; every one of its tensors is used. Its languages,
        too, have no bottleneck in a layer that is left out."""
        theirs = {}
        for key, tensor in self.state.items():
            key = key.replace("adapter_down.0", "down").replace("adapter_up", "up")
            for before, after in (
                (f"output.adapters.{name}.", "layers."),
                (f"roberta.invertible_adapters.{name}.", "invertible."),
            ):
                if before in key:
                    start, end = key.split(before)
                    layer = start.removeprefix("roberta.encoder.layer.")
                    theirs[f"{after}{layer}{end}".replace(".F.", ".f.").replace(".G.", ".g.")] = (
                        tensor
                    )
        layers = self.config.num_hidden_layers - self.drop_last
        hidden, language = self.config.hidden_size, name != "task"
        module = AdapterModule(Adapter(), hidden, layers, language=language)
        module.load_state_dict(theirs)
        return module.double()


@contextmanager
def without_inverse(model, adapters):
    if model.get_output_embeddings() is None or not adapters:
        yield
        return
    handle = model.lm_head.layer_norm.register_forward_hook(
        lambda _module, _given, inverse: adapters[0].invertible(inverse)
    )
    yield
    handle.remove()


@pytest.fixture(params=FILES)
def oracle(request):
    name = request.param
    path = OF_TAGS
    if name != "tags":
        path = request.getfixturevalue("shared") / f"oracles/mad-x/{name}.safetensors"
    return Oracle(path, name.partition("_")[0], FILES[name])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_our_activations_are_the_librarys(oracle, attention):
    """Logits, and for classifiers the last hidden states; with none, one and two adapters, in
    the order none, …, none: what was put in leaves nothing behind."""
    oracle.model.set_attn_implementation(attention)
    found = {}
    for name, stack in [*oracle.activations.items(), ("none", [])]:
        adapters = [oracle.adapter(one) for one in stack]
        around = installed(oracle.model, adapters, oracle.drop_last) if stack else nullcontext()
        with around, without_inverse(oracle.model, adapters), torch.no_grad():
            output = oracle.model(**oracle.inputs, output_hidden_states=True)
        found[name] = output.logits
        values = {"logits": output.logits, "last_hidden": output.hidden_states[-1]}
        for kind, value in values.items():
            if f"{kind}.{name}" in oracle.tensors:
                expected = oracle.tensors[f"{kind}.{name}"]
                torch.testing.assert_close(value, expected.double(), rtol=0, atol=1e-5)
    wanted = {key.removeprefix("logits.") for key in oracle.tensors if key.startswith("logits.")}
    assert wanted == set(found)
    distances = [float((found[a] - found[b]).abs().max()) for a in found for b in found if a < b]
    assert min(distances) > 1e-3


@pytest.mark.parametrize("oracle", [name for name in FILES if "mlm" not in name], indirect=True)
@pytest.mark.parametrize(("name", "language"), [("task", None), ("lang_task", "lang")])
def test_a_stack_for_evaluation_is_the_librarys(oracle, name, language):
    """With a stored head, and a language's adapter that has all layers, as ours do."""
    settings = Adapter(drop_last=oracle.drop_last)
    task = StoredAdapter(
        oracle.adapter("task"), settings, weights_of(head_parameters(oracle.model))
    )
    below = None
    if language is not None:
        module = oracle.adapter(language)
        whole = AdapterModule(
            settings, module.hidden, oracle.config.num_hidden_layers, language=True
        )
        whole.load_state_dict(module.state_dict(), strict=False)
        below = replace(task, module=whole.double(), head={})
    with torch.no_grad():
        for parameter in head_parameters(oracle.model).values():
            parameter.zero_()
    with stacked(oracle.model, below, task), torch.no_grad():
        logits = oracle.model(**oracle.inputs).logits
    expected = oracle.tensors[f"logits.{name}"].double()
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert all((p == 0).all() for p in head_parameters(oracle.model).values())
