"""What the commands around a model share: their options, and how the model's errors end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from worker.errors import ConfigError

_PLOTS = (".png", ".svg", ".pdf")

CheckpointOption = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        metavar="tiny|DIR|SOURCE",
        help="The one that ships, a folder, open_clip:… or hf-hub:….",
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Where drawn pictures are kept.  [~/.cache/entityclip]"),
]


@contextmanager
def model_errors() -> Iterator[None]:
    """What `model` says about its input becomes a configuration error of one line."""
    try:
        yield
    except OSError as exc:
        said = f"{exc.filename}: {exc.strerror}" if exc.filename and exc.strerror else str(exc)
        raise ConfigError(said) from exc
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc


def check_outputs(file: Path | None, plot: Path | None) -> None:
    """Refuse, before the work is done, what could not be written after it.

    Raises:
        ConfigError: a folder that is not there, or in a file's place, or an unknown kind of plot.
    """
    for path in (file, plot):
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"{path}: there is no folder {path.parent}")
        if path is not None and path.is_dir():
            raise ConfigError(f"{path} is a folder; name a file")
    if plot is not None and plot.suffix not in _PLOTS:
        raise ConfigError(f"{plot}: a plot ends in {', '.join(_PLOTS)}")
