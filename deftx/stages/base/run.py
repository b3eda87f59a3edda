"""Stage `base`: the pretrained encoder, from the hub, from a folder, or made here."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from pydantic import Field
from transformers import PreTrainedConfig, PreTrainedModel

from deftx.engine.checkpoint import Checkpoint
from deftx.models.base import Base
from deftx.models.folder import HUB_FILES, PICKLES, has_weights
from deftx.models.make import architecture_of, config_of, copy_model, identified, write_backbone
from deftx.plan.feasible import Uses, check_uses
from deftx.stages.base.pretrain import architecture, pretrain, train_tokenizer
from deftx.stages.base.settings import Pretrain
from deftx.stages.base.trial import check_works
from deftx.store.artefact import digests
from deftx.store.hub import fetch
from deftx.store.items import load_text
from deftx.store.strict import Strict
from deftx.store.tensors import save_tensors


class Params(Strict):
    """Which encoder it is; exactly one of a hub id, a folder's checksum, and `pretrain`."""

    id: str = Field(description="name of the base, as vectors record it; a hub id is loaded by it")
    revision: str | None = Field(default=None, description="of a hub model")
    content: str | None = Field(
        default=None, description="of a local folder: sha256 over its files, see `folder_sha256`"
    )
    head: Literal["fresh"] | None = Field(
        default=None, description="fresh: draw a language-model head that is not stored"
    )
    head_seed: int = Field(default=0, description="which a fresh head is a function of")
    allow_pickle: bool = Field(default=False, description="read pytorch_model.bin, too")
    pretrain: Pretrain | None = None
    uses: Uses = Field(
        default=Uses(),
        description="what must work on it: methods, lengths, swaps of layers; checked before it "
        "is pretrained",
    )

    @property
    def recorded(self) -> dict[str, object]:
        """What the base is made from."""
        return self.model_dump(include=self.model_fields_set - {"uses"})


def base(
    params: Params, *, model: Path | None = None, text: list[Path] | None = None, out: Path
) -> None:
    """Write config, tokenizer, `model.safetensors` (`out`) and `backbone.json` in one folder: from
    the local folder `model`, from the hub, or by pretraining on `text`.

    Raises ArtefactError if the folder lacks a file or has other ones than recorded, if its config,
    weights and tokenizer do not fit each other, or if the model does not do what training and
    prediction need; InputError if a method, a length or a swap of layers cannot work on this base.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if params.pretrain is not None:
        lines = [line for path in text or [] for line in load_text(path)]
        tokenizer = train_tokenizer(lines, params.pretrain.vocabulary)
        known = _known(architecture(tokenizer, params.pretrain), out.parent, params)
        provenance = params.model_dump(include={"id", "revision", "content", "pretrain"})
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
            folder = model or _download(params, Path(cache))
            name = str(folder) if model else f"{params.id}@{params.revision}"
            config = config_of(folder, name, params.content, params.allow_pickle)
            known = _known(config, out.parent, params)
            seed = params.head_seed if params.head else None
            copy_model(known, folder, name, head_seed=seed, allow_pickle=params.allow_pickle)
    made_base = identified(known)
    check_works(made_base, params.uses.kinds)
    write_backbone(made_base)


def _download(params: Params, folder: Path) -> Path:
    found = fetch(params.id, params.revision, HUB_FILES, folder)
    if params.allow_pickle and not has_weights(found):
        fetch(params.id, params.revision, PICKLES, folder)
    return found


def _known(config: PreTrainedConfig, folder: Path, params: Params) -> Base:
    """The base as its architecture determines it, checked for all that is to work on it."""
    identity = {"id": params.id, "revision": params.revision}
    known = architecture_of(config, folder, identity, params.recorded)
    check_uses(known, params.uses)
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
