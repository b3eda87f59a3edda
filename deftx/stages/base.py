"""Stage `base`: the pretrained encoder, from the hub, from a folder, or made here."""

import shutil
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from pydantic import Field
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from deftx.artefact import ArtefactError, file_sha256, write_json, write_manifest
from deftx.backbone import backbone_hash, backbone_parameters, layer_norm_names, stored_names
from deftx.data import load_text
from deftx.model_folder import MODEL_FILES, folder_sha256
from deftx.pretraining import pretrain, train_tokenizer
from deftx.settings.base import Pretrain
from deftx.settings.strict import Strict
from deftx.tensor_file import save_tensors


class Params(Strict):
    """Which encoder it is; exactly one of a hub id, a folder's checksum, and `pretrain`."""

    id: str = Field(description="name of the base, as vectors record it; a hub id is loaded by it")
    revision: str | None = Field(default=None, description="of a hub model")
    content: str | None = Field(
        default=None, description="of a local folder: sha256 over its files, see `folder_sha256`"
    )
    pretrain: Pretrain | None = None


def base(
    params: Params, *, model: Path | None = None, text: list[Path] | None = None, out: Path
) -> None:
    """Write config, tokenizer, `model.safetensors` and `backbone.json` beside each other; `out` is
    the path of `model.safetensors`, `model` a local folder, `text` what is pretrained on.

    Raises ArtefactError if the folder has no safetensors weights or other ones than recorded, or
    the model has no masked-language or no classification head in transformers.
    """
    folder = out.parent
    folder.mkdir(parents=True, exist_ok=True)
    if params.pretrain is not None:
        lines = [line for path in text or [] for line in load_text(path)]
        tokenizer = train_tokenizer(lines, params.pretrain.vocabulary)
        made = pretrain(lines, tokenizer, params.pretrain)
        made.config.architectures = [type(made).__name__]
        made.config.dtype = "float32"
        made.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_tensors(out, _once(made), stage="base", params=params.model_dump())
    else:
        source = model or Path(
            snapshot_download(
                params.id,
                revision=params.revision,
                allow_patterns=["config.json", "model.safetensors", "tokenizer*", "*.model"],
            )
        )
        _copy(source, folder, params.content)
    _describe(folder, params)


def _once(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Each parameter under one name; that of the backbone, where a decoder is tied to it."""
    named = sorted(
        model.named_parameters(remove_duplicate=False),
        key=lambda item: not item[0].startswith(model.base_model_prefix),
    )
    names: dict[int, str] = {}
    for name, parameter in named:
        names.setdefault(id(parameter), name)
    return {names[id(p)]: p.detach() for _, p in named}


def _copy(source: Path, folder: Path, expected: str | None) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (source / name).is_file():
            raise ArtefactError(f"{source}: no {name}: deftx needs it (weights as safetensors)")
    found = folder_sha256(source)
    if expected not in (None, found):
        raise ArtefactError(f"{source}: sha256 {found}, expected {expected}: did it change?")
    for name in MODEL_FILES[:-1]:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    temporary = folder / ".model.safetensors.tmp"
    shutil.copyfile(source / "model.safetensors", temporary)
    temporary.replace(folder / "model.safetensors")


def _describe(folder: Path, params: Params) -> None:
    """Write the manifest of the weights, and `backbone.json`: identity, names, shapes, norms."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        models = [
            auto.from_config(config)
            for auto in (AutoModelForMaskedLM, AutoModelForSequenceClassification)
        ]
    shared = backbone_parameters(models[0]).keys() & backbone_parameters(models[1]).keys()
    shapes = {n: tuple(p.shape) for n, p in backbone_parameters(models[0]).items() if n in shared}
    norms = layer_norm_names(models[0])
    stored = load_file(folder / "model.safetensors")
    keys = stored_names(stored, shapes)
    for name, shape in shapes.items():
        if tuple(stored[keys[name]].shape) != shape:
            raise ArtefactError(
                f"{folder}: {keys[name]} has shape {tuple(stored[keys[name]].shape)}, the config "
                f"says {shape}"
            )
    identity = {
        "id": params.id,
        "revision": params.revision,
        "hash": backbone_hash({name: stored[key] for name, key in keys.items()}),
    }
    parameters = {
        name: {"shape": list(shape), "layer_norm": name in norms}
        for name, shape in sorted(shapes.items())
    }
    write_manifest(folder / "model.safetensors")
    write_json(
        folder / "backbone.json",
        {
            "identity": identity,
            "parameters": parameters,
            "tokenizer": file_sha256(folder / "tokenizer.json"),
        },
    )
