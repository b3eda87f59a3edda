"""A model folder becomes a base: `config.json`, tokenizer, `model.safetensors`, `backbone.json`."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from deftx.core.parameters import backbone_parameters, head_parameters, layer_norm_names
from deftx.models.backbone import stored_names
from deftx.models.base import READ_BY_TRANSFORMERS, Base
from deftx.models.folder import TOKENIZER_FILES, WEIGHTS, folder_sha256, has_weights, model_files
from deftx.models.load import load_from
from deftx.models.parts import known_as, positions
from deftx.models.tokenizer import canary_of, check_as_file, check_tokenizer, read_tokenizer
from deftx.store.artefact import atomic, file_sha256, write_json, write_manifest
from deftx.store.errors import ArtefactError
from deftx.store.seeds import stream
from deftx.store.tensors import tensors_sha256

log = logging.getLogger(__name__)

FRESH = "`base: {head: fresh}` draws it from base.head_seed"


def base_of_folder(model: Path, out: Path, identity: dict[str, str | None]) -> Base:
    """Make a base in the folder `out`, of the files in `model`; `identity` has `id` and `revision`.
    A language-model head that is not stored is drawn. Raises ArtefactError as the functions below
    do."""
    known = architecture_of(config_of(model, str(model)), out, identity, dict(identity))
    copy_model(known, model, str(model), head_seed=0)
    write_backbone(base := identified(known))
    return base


def config_of(
    folder: Path, name: str, content: str | None = None, allow_pickle: bool = False
) -> PreTrainedConfig:
    """The config of a model folder, which messages call `name`. Raises ArtefactError if the folder
    lacks a file that a base needs, if its `folder_sha256` is not `content`, where that is given, or
    if its architecture is none of transformers' own: code from the folder is never run."""
    if not (folder / "config.json").is_file():
        raise ArtefactError(f"{name}: no config.json: deftx needs it")
    if not has_weights(folder, allow_pickle):
        pickle = has_weights(folder, allow_pickle=True)
        hint = "; `base: {allow_pickle: true}` reads pytorch_model.bin, tensors and nothing else"
        raise ArtefactError(f"{name}: no {WEIGHTS}: deftx needs it{hint if pickle else ''}")
    if content is not None and content != (found := folder_sha256(folder, allow_pickle)):
        raise ArtefactError(f"{name}: sha256 {found}, expected {content}: did it change?")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a damaged config raises what its parser raises
        reason = str(error).strip().partition("\n")[0]
        raise ArtefactError(f"{name}: config.json: transformers cannot use it: {reason}") from None


def without_weights(kind: Any, config: PreTrainedConfig) -> PreTrainedModel:
    """A model of a config, by one of transformers' classes, without memory for its weights. Raises
    ArtefactError if there is none for it."""
    try:
        with torch.device("meta"):
            model: PreTrainedModel = kind.from_config(config, trust_remote_code=False)
        return model
    except Exception as error:  # an impossible config raises what its architecture raises
        reason = str(error).strip().partition("\n")[0]
        raise ArtefactError(f"model type {config.model_type!r}: {reason}") from None


def architecture_of(
    config: PreTrainedConfig,
    folder: Path,
    identity: dict[str, str | None],
    source: dict[str, Any],
) -> Base:
    """What a config alone determines of the base that will be in `folder`: its hash and its canary
    are None. Raises ArtefactError if a masked-language model and a classifier of this architecture
    do not share a text encoder."""
    kind = f"model type {config.model_type!r}"
    if config.is_encoder_decoder:
        raise ArtefactError(f"{kind} is an encoder with a decoder; deftx needs an encoder")
    parts = [name for name in type(config).sub_configs if vars(config).get(name) is not None]
    if parts:
        raise ArtefactError(f"{kind} is more than an encoder of text: it has {', '.join(parts)}")
    model = without_weights(AutoModelForMaskedLM, config)
    classifier = without_weights(AutoModelForSequenceClassification, config)
    parameters, shared = backbone_parameters(model), backbone_parameters(classifier)
    if differ := sorted(parameters.keys() ^ shared.keys()):
        raise ArtefactError(
            f"{kind}: only one of its masked-language model and its classifier has {differ[0]}"
        )
    # Exactly these: training replaces both, and a subclass may compute something else.
    for what, module, expected in (
        ("word embeddings", model.get_input_embeddings(), torch.nn.Embedding),
        ("decoder", model.get_output_embeddings(), torch.nn.Linear),
    ):
        if type(module) is not expected:
            raise ArtefactError(
                f"{kind}: its {what} are a {type(module).__name__}, expected torch.nn."
                f"{expected.__name__}"
            )
    return Base(
        folder=folder,
        identity={**identity, "hash": None, "canary": None},
        shapes={name: tuple(parameters[name].shape) for name in sorted(parameters)},
        layer_norms=frozenset(layer_norm_names(model) & parameters.keys()),
        known_as=known_as(model),
        model_type=config.model_type,
        depth=config.num_hidden_layers,
        positions=positions(model),
        source=source,
    )


def copy_model(
    known: Base,
    source: Path,
    name: str,
    *,
    head_seed: int | None = None,
    allow_pickle: bool = False,
) -> None:
    """Put the config, the tokenizer and the weights of a model folder, which messages call `name`,
    into the folder of a base: byte for byte where it can, else as transformers reads them.

    The weights are written anew in float32 where they are shards or a pickle, where names are those
    of older versions, where the language-model head is not stored and is drawn from `head_seed`,
    and where there is the head of a classifier, which is left out.

    Raises ArtefactError, naming the tensor or the token, if the weights cannot be read, do not fit
    the config or are not finite, if the head is missing and there is no `head_seed`, or if the
    tokenizer cannot be read or does not fit the embeddings.
    """
    known.folder.mkdir(parents=True, exist_ok=True)
    _copy(source / "config.json", known.folder)
    if (source / "tokenizer.json").is_file():
        for file in TOKENIZER_FILES:
            if (source / file).is_file():
                _copy(source / file, known.folder)
    else:
        _convert_tokenizer(source, known.folder)
    tokenizer = read_tokenizer(known.folder)
    check_as_file(tokenizer, known.folder)
    # Before the language model, whose memory it need not share.
    kept, is_classifier = _classifiers_part(source, name, allow_pickle)
    torch.manual_seed(stream(head_seed or 0, "base", "head"))
    model, report = _loaded(source, name, AutoModelForMaskedLM, allow_pickle)
    words: Any = model.get_input_embeddings()
    check_tokenizer(tokenizer, len(words.weight), words.padding_idx)
    drawn = _check_report(model, report, name, may_draw=head_seed is not None)
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ArtefactError(f"{name}: {key} holds NaN or infinity")
    one_file = model_files(source, allow_pickle)[-1] == WEIGHTS
    if one_file and not drawn and not is_classifier and _names_fit(source / WEIGHTS, known):
        _copy(source / WEIGHTS, known.folder)
    else:
        with atomic(known.folder / WEIGHTS) as temporary:
            tensors = {key: t.detach().contiguous() for key, t in [*_once(model), *kept.items()]}
            save_file(tensors, temporary, metadata={"format": "pt"})
    write_manifest(known.folder / WEIGHTS)


def identified(known: Base) -> Base:
    """The base with its hash and its canary, as the weights and the tokenizer in its folder have
    them. Raises ArtefactError if weights and config disagree."""
    stored = load_file(known.folder / WEIGHTS)
    keys = stored_names(stored, known.shapes)
    backbone = {name: stored[key] for name, key in keys.items()}
    for name, shape in known.shapes.items():
        if (found := tuple(backbone[name].shape)) != shape:
            raise ArtefactError(
                f"{known.folder}: {keys[name]} has shape {found}, by its config {shape}"
            )
    canary = canary_of(read_tokenizer(known.folder))
    identity = {**known.identity, "hash": tensors_sha256(backbone), "canary": canary}
    return replace(known, identity=identity)


def write_backbone(known: Base) -> None:
    """Write `backbone.json` beside the weights: what is known of the base, and the checksums of its
    config and tokenizer."""
    folder = known.folder
    files = ("config.json", "tokenizer.json", *READ_BY_TRANSFORMERS)
    write_json(
        folder / "backbone.json",
        {
            "identity": known.identity,
            "parameters": {
                name: {"shape": list(shape), "layer_norm": name in known.layer_norms}
                | ({"known_as": known.known_as[name]} if known.known_as[name] != name else {})
                for name, shape in known.shapes.items()
            },
            "model_type": known.model_type,
            "depth": known.depth,
            "positions": known.positions,
            "source": known.source,
            "files": {n: file_sha256(folder / n) for n in files if (folder / n).is_file()},
        },
    )


def _copy(file: Path, folder: Path) -> None:
    with atomic(folder / file.name) as temporary:
        shutil.copyfile(file, temporary)


def _convert_tokenizer(source: Path, folder: Path) -> None:
    """Write `tokenizer.json` of a sentencepiece model or a vocabulary, by transformers."""
    try:
        tokenizer = read_tokenizer(source)
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
        tokenizer.save_pretrained(folder)
    except (ArtefactError, AttributeError) as error:
        command = (
            'pip install sentencepiece protobuf && python -c "from transformers import '
            f"AutoTokenizer as A; A.from_pretrained('{source}').save_pretrained('{source}')\""
        )
        raise ArtefactError(f"no tokenizer.json; {error}. This converts it: {command}") from None


def _loaded(source: Path, name: str, kind: Any, allow_pickle: bool) -> Any:
    try:
        return load_from(source, kind, allow_pickle)
    except Exception as error:  # damaged weights raise what their parser raises
        reason = " ".join(str(error).split())[:300]
        raise ArtefactError(
            f"{name}: the weights cannot be read: {type(error).__name__}: {reason}"
        ) from None


def _classifiers_part(
    source: Path, name: str, allow_pickle: bool
) -> tuple[dict[str, torch.Tensor], bool]:
    """What a classifier reads of the weights beyond what a language model does: a pooler; and
    whether they hold the head of one."""
    classifier, report = _loaded(source, name, AutoModelForSequenceClassification, allow_pickle)
    with torch.device("meta"):
        language_model = AutoModelForMaskedLM.from_config(
            classifier.config, trust_remote_code=False
        )
    own = head_parameters(classifier)
    own = {key: own[key] for key in own.keys() - dict(language_model.named_parameters()).keys()}
    drawn = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    pooler = {key: p.detach() for key, p in own.items() if "pooler." in key and key not in drawn}
    head = sorted(key for key in own if "pooler." not in key and key not in report["missing_keys"])
    if head:
        log.info("%s: the checkpoint of a classifier; its head is left out: %s", name, head)
    return pooler, bool(head)


def _check_report(
    model: PreTrainedModel, report: dict[str, Any], name: str, may_draw: bool
) -> list[str]:
    """The names of the head's tensors that were drawn."""
    for key, found, expected in report["mismatched_keys"]:
        raise ArtefactError(
            f"{name}: {key} has shape {tuple(found)}, by its config {tuple(expected)}"
        )
    missing = sorted(report["missing_keys"])
    for key in missing:
        if key.startswith(f"{model.base_model_prefix}."):
            raise ArtefactError(f"{name}: no stored tensor fits the parameter {key}")
    if missing and not may_draw:
        raise ArtefactError(
            f"{name}: no language-model head is stored ({', '.join(missing)}): {FRESH}"
        )
    if missing:
        log.warning("%s: no language-model head is stored; drawn: %s", name, ", ".join(missing))
    return missing


def _names_fit(file: Path, known: Base) -> bool:
    with safe_open(file, framework="pt") as weights:
        try:
            stored_names(weights.keys(), known.shapes)
        except ArtefactError:
            return False
    return True


def _once(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor under one name; that of the backbone, where a decoder is tied to it."""
    seen = set()
    for name, tensor in sorted(
        model.state_dict(keep_vars=True).items(),
        key=lambda item: not item[0].startswith(model.base_model_prefix),
    ):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor
