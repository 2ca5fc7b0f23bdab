"""EntityCLIP: the model, its data, its training and its evaluation.

`model.load` and `model.load_published` are the two doors for other programs; everything else is
imported by submodule. torch is imported on first use only, so that `entityclip --help` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.checkpoint import load as load
    from model.sources.published import load_published as load_published

__all__ = ["load", "load_published"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from model.checkpoint import load

        return load
    if name == "load_published":
        from model.sources.published import load_published

        return load_published
    raise AttributeError(f"module 'model' has no attribute {name!r}")
