"""A model folder becomes a base: `config.json`, tokenizer, `model.safetensors`, `backbone.json`."""

import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from transformers import AutoConfig, PreTrainedConfig

from deftx.models.backbone import stored_names
from deftx.models.base import Base
from deftx.models.folder import MODEL_FILES, folder_sha256
from deftx.models.load import without_weights
from deftx.store.artefact import file_sha256, write_json, write_manifest
from deftx.store.errors import ArtefactError
from deftx.store.tensors import tensors_sha256


def base_of_folder(model: Path, out: Path, identity: dict[str, str | None]) -> Base:
    """Make a base in the folder `out`, of the files in `model`; `identity` has `id` and `revision`.
    Raises ArtefactError as the functions below do."""
    known = architecture_of(config_of(model, str(model)), out, identity, dict(identity))
    copy_model(model, out)
    write_backbone(known)
    return Base.load(out)


def config_of(folder: Path, name: str, content: str | None = None) -> PreTrainedConfig:
    """The config of a model folder, which messages call `name`. Raises ArtefactError if the folder
    lacks a file that a base needs, if its `folder_sha256` is not `content`, where that is given, or
    if its architecture is none of transformers' own: code from the folder is never run."""
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / file).is_file():
            raise ArtefactError(
                f"{name}: no {file}: deftx needs it; weights are read from one file of "
                "safetensors, never from a pickle"
            )
    if content is not None and content != (found := folder_sha256(folder)):
        raise ArtefactError(f"{name}: sha256 {found}, expected {content}: did it change?")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ArtefactError(f"{name}: config.json: transformers cannot use it: {reason}") from None


def architecture_of(
    config: PreTrainedConfig,
    folder: Path,
    identity: dict[str, str | None],
    source: dict[str, Any],
) -> Base:
    """What a config alone determines of the base that will be in `folder`: its hash is None."""
    _, shapes, layer_norms = without_weights(config)
    return Base(folder, {**identity, "hash": None}, shapes, layer_norms, source)


def copy_model(source: Path, folder: Path) -> None:
    """Copy the files of a model byte for byte, and write the manifest of its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODEL_FILES:
        if (source / name).is_file():
            temporary = folder / f".{name}.tmp"
            shutil.copyfile(source / name, temporary)
            temporary.replace(folder / name)
    write_manifest(folder / "model.safetensors")


def write_backbone(known: Base) -> None:
    """Write `backbone.json` beside the weights: identity with hash, names, shapes and norms of the
    backbone, and the tokenizer's checksum. Raises ArtefactError if weights and config disagree."""
    stored = load_file(known.folder / "model.safetensors")
    keys = stored_names(stored, known.shapes)
    backbone = {name: stored[key] for name, key in keys.items()}
    for name, shape in known.shapes.items():
        if (found := tuple(backbone[name].shape)) != shape:
            raise ArtefactError(
                f"{known.folder}: {keys[name]} has shape {found}, by its config {shape}"
            )
    write_json(
        known.folder / "backbone.json",
        {
            "identity": {**known.identity, "hash": tensors_sha256(backbone)},
            "parameters": {
                name: {"shape": list(shape), "layer_norm": name in known.layer_norms}
                for name, shape in known.shapes.items()
            },
            "source": known.source,
            "tokenizer": file_sha256(known.folder / "tokenizer.json"),
        },
    )
