"""DeFT-X: denoised sparse fine-tuning for zero-shot cross-lingual transfer.

Tensors in, tensors out: the library needs no workflow. Names are loaded when first used, so that
reading a config costs no torch.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "ArtefactError": "store.artefact",
    "Base": "models.base",
    "Checkpoint": "engine.checkpoint",
    "Combine": "stages.compose.settings",
    "Config": "plan.schema",
    "ConfigError": "store.errors",
    "Delta": "core.delta",
    "Engine": "engine.settings",
    "LanguageTraining": "engine.settings",
    "LowRank": "core.low_rank",
    "Mask": "core.mask",
    "RankRule": "stages.denoise.settings",
    "Session": "engine.session",
    "SparseDelta": "core.sparse_delta",
    "TaskTraining": "engine.settings",
    "anatomy": "report.anatomy",
    "backbone_parameters": "core.parameters",
    "classification": "engine.task",
    "classification_of_sources": "engine.task",
    "common": "report.anatomy",
    "denoise": "stages.denoise.math",
    "evaluate": "models.predict",
    "fit": "engine.fit",
    "head_parameters": "core.parameters",
    "load_classifier": "models.load",
    "load_labelled": "store.items",
    "load_masked_lm": "models.load",
    "load_text": "store.items",
    "load_tokenizer": "models.load",
    "masked_language_modelling": "engine.language",
    "measure": "report.metrics",
    "merged": "stages.compose.math",
    "predict": "models.predict",
    "read_config": "plan.config",
    "read_foreign": "exchange.foreign",
    "save_model_folder": "exchange.model_folder",
    "save_shira": "exchange.shira",
    "top_k": "stages.mask.math",
    "top_k_in_groups": "stages.mask.math",
    "uniform": "stages.mask.math",
    "weights_of": "core.parameters",
    "with_vectors": "exchange.model_folder",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'deftx' has no attribute {name!r}")
    return getattr(import_module(f"deftx.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
