"""DeFT-X: denoised sparse fine-tuning for zero-shot cross-lingual transfer.

Tensors in, tensors out: the library needs no workflow. Names are loaded when first used, so that
reading a config costs no torch; `__init__.pyi` lists them, for type checkers and for this file.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

_LINES = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8").splitlines()
_HOME = {name: module for _, module, _, _, _, name in map(str.split, _LINES)}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'deftx' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
