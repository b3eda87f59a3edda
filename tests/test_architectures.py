"""Every encoder with a masked-language-model and a sequence-classification class is supported."""

import pytest
import torch
from conftest import sentences
from training import items, write_data
from transformers import (
    BertConfig,
    BertForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from deftx.cli.main import main
from deftx.core.sparse_delta import SparseDelta
from deftx.stages.base.pretrain import train_tokenizer
from deftx.store.tensors import TensorFile

SHAPE = {
    "vocab_size": 150,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
}
ENDS = {"bos_token_id": 0, "eos_token_id": 2}
MODELS = {
    "bert": lambda: BertForMaskedLM(BertConfig(**SHAPE)),
    "roberta": lambda: RobertaForMaskedLM(RobertaConfig(**SHAPE, **ENDS)),
    "modernbert": lambda: ModernBertForMaskedLM(
        ModernBertConfig(**SHAPE, **ENDS, cls_token_id=0, sep_token_id=2)
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_an_architecture_goes_from_folder_to_logits(name, tmp_path):
    torch.manual_seed(0)
    tokenizer = train_tokenizer(sentences(200), SHAPE["vocab_size"])
    MODELS[name]().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    write_data(tmp_path, items(40))
    base, labelled = tmp_path / "base", tmp_path / "labelled.parquet"

    def call(*arguments):
        assert main([str(argument) for argument in arguments]) == 0

    call("base", "--id", name, "--model", tmp_path / "model", "--out", base / "model.safetensors")
    training = "learning_rate: 0.01, batch_size: 8, epochs: 1, max_length: 32"
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
        call("full", *common, *settings, "--out", full)
        call("mask", *common, "--method", "m", "--selection", "{budget: 300}", "--delta", full,
             "--out", mask)  # fmt: skip
        call("sparse", *common, *settings, "--method", "m", "--mask", mask, "--out",
             tmp_path / target / "sft_model.safetensors")  # fmt: skip
        vector = SparseDelta.load(tmp_path / target)
        assert len(vector) == 300
        assert not any("norm" in name.lower() for name in vector.values)
    where = ("--system", "s", "--task", "x", "--language", "qaa", "--base", base)
    call("compose", *where, "--task-vector", tmp_path / "task-x/sft_model.safetensors",
         "--language-vector", tmp_path / "lang-qaa/sft_model.safetensors",
         "--out", tmp_path / "c.safetensors")  # fmt: skip
    call("evaluate", *where, "--classes", "[low, high]", "--composed", tmp_path / "c.safetensors",
         "--test", labelled, "--out", tmp_path / "e.safetensors")  # fmt: skip
    assert TensorFile(tmp_path / "e.safetensors")["logits"].shape == (40, 2)
