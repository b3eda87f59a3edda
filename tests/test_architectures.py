"""Every model type of transformers that has a masked-language model and a classifier goes from a
folder to predictions, or is refused by the stage `base` with the reason."""

import json

import pytest
import torch
from conftest import sentences
from training import items, write_data
from transformers import AutoModelForMaskedLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from deftx.cli.main import main
from deftx.core.places import in_attention, in_embeddings, layer_of
from deftx.core.sparse_delta import SparseDelta
from deftx.models.base import Base
from deftx.stages.base.pretrain import train_tokenizer
from deftx.store.tensors import TensorFile

KINDS = sorted(
    MODEL_FOR_MASKED_LM_MAPPING_NAMES.keys() & MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
)

SHAPE = {
    "vocab_size": 150,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "embedding_size": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
SEVERAL = {
    "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2,
}  # fmt: skip
SEES = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": 32, "patch_size": 16, "model_type": "siglip_vision_model",
}  # fmt: skip
OWN = {
    "bart": SEVERAL, "mbart": SEVERAL, "mvp": SEVERAL,
    "esm": {"mask_token_id": 4},
    "layoutlm": {"max_2d_position_embeddings": 8},
    "longformer": {"attention_window": 4},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 32},
    "mobilebert": {"intra_bottleneck_size": 16, "embedding_size": 16},
    "modernbert": {"cls_token_id": 0, "sep_token_id": 2},
    "perceiver": {"num_latents": 4, "d_latents": 16, "d_model": 32,
                  "num_self_attends_per_block": 1, "num_self_attention_heads": 2,
                  "num_cross_attention_heads": 2},
    "roc_bert": {"pronunciation_vocab_size": 10, "shape_vocab_size": 10,
                 "pronunciation_embed_dim": 8, "shape_embed_dim": 8},
    "tapas": {"type_vocab_sizes": [3, 4, 4, 2, 2, 4, 4]},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}  # fmt: skip
WHOLLY = {
    "funnel": {"vocab_size": 150, "block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 32,
               "n_head": 2, "d_head": 16, "d_inner": 48, "pad_token_id": 1},
    "reformer": {"vocab_size": 150, "hidden_size": 32, "num_attention_heads": 2,
                 "attn_layers": ["local", "lsh"], "axial_pos_shape": [5, 8],
                 "axial_pos_embds_dim": [16, 16], "attention_head_size": 16,
                 "feed_forward_size": 48, "local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4,
                 "num_buckets": 2, "max_position_embeddings": 40, "pad_token_id": 1},
    "modernvbert": {"text_config": {**SHAPE, "model_type": "modernbert"}, "vision_config": SEES},
    "ultravbert": {"text_config": {**SHAPE, "model_type": "ultrabert"}, "vision_config": SEES},
}  # fmt: skip

BATCH = "what it predicts for a text (classification) depends on the other texts of a batch"
HEAD = "the head of its language model is more than a linear decoder of the last hidden state"
REFUSED = {
    **dict.fromkeys(["bart", "mbart", "mvp"], "is an encoder with a decoder"),
    **dict.fromkeys(["modernvbert", "ultravbert"], "it has text_config, vision_config"),
    **dict.fromkeys(["funnel", "perceiver"], "only one of its masked-language model and its"),
    **dict.fromkeys(["convbert", "fnet", "nystromformer", "reformer", "yoso"], BATCH),
    "ibert": "its word embeddings are a QuantEmbedding",
    **dict.fromkeys(["esm", "longformer", "luke", "mobilebert"], HEAD),
}
"""Model type → a part of the reason; every other type works."""

OFFSET_BY_PADDING = (
    "camembert", "data2vec-text", "mpnet", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
"""Types whose first token has the position after that of padding: of 40, 38 are left."""

SHARING = ("albert",)
"""Types whose layers share their weights."""


def tiny(kind):
    """A tiny random masked-language model."""
    torch.manual_seed(0)
    settings = WHOLLY.get(kind) or {**SHAPE, **OWN.get(kind, {})}
    return AutoModelForMaskedLM.from_config(CONFIG_MAPPING[kind](**settings))


def call(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_type_goes_from_folder_to_logits_or_is_refused_by_base(kind, tmp_path, capsys):
    tokenizer = train_tokenizer(sentences(200), SHAPE["vocab_size"])
    tiny(kind).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    base, labelled = tmp_path / "base", tmp_path / "labelled.parquet"
    made = call(
        "base", "--id", kind, "--model", tmp_path / "model", "--out", base / "model.safetensors"
    )
    if kind in REFUSED:
        assert made == 1 and REFUSED[kind] in capsys.readouterr().err
        assert not (base / "backbone.json").exists()
        return
    assert made == 0, capsys.readouterr().err
    check_parts(Base.load(base), kind)
    write_data(tmp_path, items(24))
    training = "learning_rate: 0.01, batch_size: 8, epochs: 1, max_length: 16"
    targets = {
        "lang-qaa": (
            "--language", f"{{{training}, min_steps: 0, evaluate_every: 9}}",
            "--train", tmp_path / "text.parquet",
        ),
        "task-x": (
            "--task", f"{{{training}}}", "--classes", "[low, high]",
            "--train", labelled, "--valid", labelled,
        ),
    }  # fmt: skip
    for target, settings in targets.items():
        full, mask = (tmp_path / f"{target}-{stage}.safetensors" for stage in ("full", "mask"))
        common = ("--base", base, "--target", target)
        assert call("full", *common, *settings, "--out", full) == 0
        assert call("mask", *common, "--method", "m", "--selection", "{budget: 300}", "--delta",
                    full, "--out", mask) == 0  # fmt: skip
        assert call("sparse", *common, *settings, "--method", "m", "--mask", mask, "--out",
                    tmp_path / target / "sft_model.safetensors") == 0  # fmt: skip
        vector = SparseDelta.load(tmp_path / target)
        assert len(vector) == 300
        assert not vector.values.keys() & Base.load(base).layer_norms
    where = ("--system", "s", "--task", "x", "--language", "qaa", "--base", base)
    vectors = ("--task-vector", tmp_path / "task-x/sft_model.safetensors",
               "--language-vector", tmp_path / "lang-qaa/sft_model.safetensors")  # fmt: skip
    assert call("compose", *where, *vectors, "--out", tmp_path / "c.safetensors") == 0
    low = ("--task-depth", "{share: 0.5}", "--language-depth", "{share: 0.5}")
    refused = call("compose", *where, *vectors, *low, "--out", tmp_path / "low.safetensors")
    assert refused == (kind in SHARING), capsys.readouterr().err
    if kind not in SHARING:
        left, known_as = SparseDelta.load(tmp_path / "low.safetensors"), Base.load(base).known_as
        known = [known_as[name] for name in left.values]
        assert known and all(in_embeddings(name) or layer_of(name) == 0 for name in known)
    assert call("evaluate", *where, "--classes", "[low, high]", "--composed",
                tmp_path / "c.safetensors", "--test", labelled, "--max-length", "16",
                "--out", tmp_path / "e.safetensors") == 0  # fmt: skip
    logits = TensorFile(tmp_path / "e.safetensors")["logits"]
    assert logits.shape == (24, 2) and logits.isfinite().all()


def check_parts(base, kind):
    """The description of the parts of a base, against what the test knows of its architecture."""
    known = base.known_as
    assert len(set(known.values())) == len(known), "two parameters of one name"
    assert base.depth == 2 and base.layers == (1 if kind in SHARING else 2)
    assert base.positions == (38 if kind in OFFSET_BY_PADDING else 40)
    assert any(base.shapes[name][0] == SHAPE["vocab_size"] for name in base.embeddings)
    for layer in range(base.layers):
        mine = [name for name in known.values() if layer_of(name) == layer]
        assert any(map(in_attention, mine))
        assert not any(map(in_embeddings, mine)) and not all(map(in_attention, mine))
    norms = [name for name in base.shapes if "norm" in name.lower()]
    assert base.layer_norms and base.layer_norms >= set(norms)
    facts = json.loads((base.folder / "backbone.json").read_text())
    if kind in ("bert", "roberta", "xlm-roberta"):
        assert not any("known_as" in each for each in facts["parameters"].values())
