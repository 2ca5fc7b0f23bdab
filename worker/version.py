"""Which version of the worker this is: in dead letters, in metrics, on the command line."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def worker_version() -> str:
    """The installed version of this package."""
    try:
        return version("entityclip")
    except PackageNotFoundError:  # a checkout that was never installed
        return "unknown"
