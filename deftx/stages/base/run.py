"""Stage `base`: the pretrained encoder, from the hub, from a folder, or made here."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pydantic import Field
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from deftx.engine.checkpoint import Checkpoint
from deftx.models.backbone import stored_names
from deftx.models.base import Base
from deftx.models.folder import MODEL_FILES, folder_sha256
from deftx.models.load import without_weights
from deftx.plan.feasible import check_methods
from deftx.stages.base.pretrain import architecture, pretrain, train_tokenizer
from deftx.stages.base.settings import Pretrain
from deftx.store.artefact import digests, file_sha256, write_json, write_manifest
from deftx.store.errors import ArtefactError
from deftx.store.hub import fetch
from deftx.store.items import load_text
from deftx.store.strict import Strict
from deftx.store.tensors import save_tensors, tensors_sha256


class Params(Strict):
    """Which encoder it is; exactly one of a hub id, a folder's checksum, and `pretrain`."""

    id: str = Field(description="name of the base, as vectors record it; a hub id is loaded by it")
    revision: str | None = Field(default=None, description="of a hub model")
    content: str | None = Field(
        default=None, description="of a local folder: sha256 over its files, see `folder_sha256`"
    )
    pretrain: Pretrain | None = None
    methods: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="methods that are to work on it; that one cannot is told before the expensive "
        "part, and changes nothing in the base itself",
    )


def base(
    params: Params, *, model: Path | None = None, text: list[Path] | None = None, out: Path
) -> None:
    """Write config, tokenizer, `model.safetensors` and `backbone.json` beside each other; `out` is
    the path of `model.safetensors`, `model` a local folder, `text` what is pretrained on.

    Raises ArtefactError if the folder lacks a file or has other ones than recorded, or its weights
    do not fit its config; InputError if a method cannot work on this base.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if params.pretrain is not None:
        lines = [line for path in text or [] for line in load_text(path)]
        tokenizer = train_tokenizer(lines, params.pretrain.vocabulary)
        known = _known(architecture(tokenizer, params.pretrain), out.parent, params)
        provenance = params.model_dump(exclude={"methods"})
        inputs = digests(**{str(number): path for number, path in enumerate(text or [])})
        with Checkpoint.of_stage("base", out, provenance, inputs) as state:
            made = pretrain(lines, tokenizer, params.pretrain, state)
            made.config.architectures = [type(made).__name__]
            made.config.dtype = "float32"
            made.config.save_pretrained(out.parent)
            tokenizer.save_pretrained(out.parent)
            save_tensors(out, dict(_once(made)), stage="base", params=provenance)
            state.remove()
    else:
        with TemporaryDirectory() as cache:
            folder = model or fetch(params.id, params.revision, MODEL_FILES, Path(cache))
            _check_folder(folder, params, "" if model else f"{params.id}@{params.revision}")
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            known = _known(config, out.parent, params)
            _copy(folder, out.parent)
        write_manifest(out)
    _describe(known, params)


def _known(config: PreTrainedConfig, folder: Path, params: Params) -> Base:
    """What the architecture alone tells of the base, once every method is found to fit it."""
    _, shapes, layer_norms = without_weights(config)
    known = Base(
        folder=folder,
        identity={"id": params.id, "revision": params.revision, "hash": None},
        shapes=shapes,
        layer_norms=layer_norms,
        source=params.model_dump(exclude={"methods"}),
    )
    check_methods(known, params.methods)
    return known


def _once(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Each parameter under one name; that of the backbone, where a decoder is tied to it."""
    seen = set()
    for name, parameter in sorted(
        model.named_parameters(remove_duplicate=False),
        key=lambda item: not item[0].startswith(model.base_model_prefix),
    ):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            yield name, parameter.detach()


def _check_folder(folder: Path, params: Params, hub_id: str) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ArtefactError(
                f"{hub_id or folder}: no {name}: deftx needs it; weights are read from one file of "
                "safetensors, never from a pickle"
            )
    if params.content is not None and params.content != (found := folder_sha256(folder)):
        raise ArtefactError(f"{folder}: sha256 {found}, expected {params.content}: did it change?")


def _copy(source: Path, folder: Path) -> None:
    for name in MODEL_FILES:
        if (source / name).is_file():
            temporary = folder / f".{name}.tmp"
            shutil.copyfile(source / name, temporary)
            temporary.replace(folder / name)


def _describe(known: Base, params: Params) -> None:
    """Write `backbone.json`: identity, names, shapes and norms of the backbone, and the tokenizer's
    checksum. Raises ArtefactError if the weights do not fit the config."""
    stored = load_file(known.folder / "model.safetensors")
    keys = stored_names(stored, known.shapes)
    for name, shape in known.shapes.items():
        if tuple(stored[keys[name]].shape) != shape:
            raise ArtefactError(
                f"{known.folder}: {keys[name]} has shape {tuple(stored[keys[name]].shape)}, the "
                f"config says {shape}"
            )
    identity = {**known.identity, "hash": tensors_sha256({n: stored[k] for n, k in keys.items()})}
    parameters = {
        name: {"shape": list(shape), "layer_norm": name in known.layer_norms}
        for name, shape in known.shapes.items()
    }
    tokenizer = file_sha256(known.folder / "tokenizer.json")
    write_json(
        known.folder / "backbone.json",
        {
            "identity": identity,
            "parameters": parameters,
            "source": known.source,
            "tokenizer": tokenizer,
        },
    )
