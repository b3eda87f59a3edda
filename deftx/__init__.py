"""DeFT-X: denoised sparse fine-tuning for zero-shot cross-lingual transfer.

The library is small and pure: tensors in, tensors out. Names are loaded when first used, so that
reading a config costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deftx.core.delta import Delta
    from deftx.core.low_rank import LowRank
    from deftx.core.mask import Mask
    from deftx.core.parameters import backbone_parameters, head_parameters, weights_of
    from deftx.core.sparse_delta import SparseDelta
    from deftx.engine.checkpoint import Checkpoint
    from deftx.engine.fit import fit
    from deftx.engine.language import masked_language_modelling
    from deftx.engine.session import Session
    from deftx.engine.settings import Engine, LanguageTraining, TaskTraining
    from deftx.engine.task import classification, classification_of_sources
    from deftx.exchange.foreign import read_foreign
    from deftx.exchange.model_folder import save_model_folder, with_vectors
    from deftx.exchange.shira import save_shira
    from deftx.models.base import Base
    from deftx.models.load import load_classifier, load_masked_lm, load_tokenizer
    from deftx.models.predict import evaluate, predict
    from deftx.plan.checks import read_config
    from deftx.plan.config import Config
    from deftx.report.anatomy import anatomy, common
    from deftx.report.metrics import measure
    from deftx.stages.compose.math import merged
    from deftx.stages.compose.settings import Combine
    from deftx.stages.denoise.math import denoise
    from deftx.stages.denoise.settings import RankRule
    from deftx.stages.mask.math import top_k, top_k_in_groups, uniform
    from deftx.store.errors import ArtefactError, ConfigError
    from deftx.store.items import load_labelled, load_text

_HOME = {
    "ArtefactError": "store.artefact",
    "Base": "models.base",
    "Checkpoint": "engine.checkpoint",
    "Combine": "stages.compose.settings",
    "Config": "plan.config",
    "ConfigError": "plan.config",
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
    "read_config": "plan.checks",
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
