"""Files of a model repository on the Hugging Face hub, or one line that says why there are none.

The library keeps what it downloads (HF_HOME), resumes broken downloads and shows a bar on a terminal.
Without a network the copy it kept is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging import ERROR
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import logging
from huggingface_hub.utils.tqdm import tqdm

from model.sources.weights import CheckpointError

_TIMEOUT_S = 10.0


def fetch(repository: str, names: Sequence[str], remedy: str) -> Path | None:
    """Return the first of these files that the repository has, downloaded where needed.

    Blocks for the download; gives up after about ten seconds without an answer.

    Args:
        repository: `organisation/name`.
        names: files, the best one first; later ones are not downloaded when an earlier one is there.
        remedy: what a person can do when the hub is out of reach, see `elsewhere`.

    Raises:
        CheckpointError: no such repository, no access, no network.
    """
    try:
        with _quiet():
            return _download(repository, names)
    except HFValidationError as exc:
        raise CheckpointError(f"{repository!r} is no name of a hub's repository") from exc
    except GatedRepoError as exc:
        page = f"{constants.ENDPOINT}/{repository}"
        raise CheckpointError(
            f"{page} is gated: accept its terms there, and log in with `hf auth login`"
        ) from exc
    except RepositoryNotFoundError as exc:
        raise CheckpointError(
            f"{constants.ENDPOINT} has no model {repository} (or a private one: `hf auth login`)"
        ) from exc
    except (OSError, httpx2.HTTPError) as exc:
        for name in names:
            if path := _cached(repository, name):
                return path
        raise CheckpointError(
            f"cannot download {names[0]} of {repository} from {constants.ENDPOINT} ({_reason(exc)}), "
            f"and there is no copy of it here: {remedy}"
        ) from exc


def elsewhere(repository: str, file: str = "") -> str:
    """How to get a repository, or one of its files, past a closed network."""
    command = f"hf download {repository} {file}".strip()
    return f"run `{command}` where there is a network and copy its cache folder to {constants.HF_HUB_CACHE}"


def _download(repository: str, names: Sequence[str]) -> Path | None:
    # asked first, once and with a deadline: the download itself would try six times to reach a hub
    info = huggingface_hub.HfApi().model_info(repository, timeout=_TIMEOUT_S)
    there = {file.rfilename for file in info.siblings or ()}
    for name in names:
        if name in there:
            return Path(huggingface_hub.hf_hub_download(repository, name, tqdm_class=_Bar))
    return None


def _cached(repository: str, name: str) -> Path | None:
    path = huggingface_hub.try_to_load_from_cache(repository, name)
    return Path(path) if isinstance(path, str) else None


def _reason(exc: BaseException) -> str:
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if isinstance(exc, HfHubHTTPError):
        return f"HTTP {exc.response.status_code}"
    if isinstance(exc, FileNotFoundError) and exc.__cause__ is not None:  # the library's way to say it all
        return _reason(exc.__cause__)
    return (str(exc).splitlines() or [""])[0] or type(exc).__name__


class _Bar(tqdm):
    """The library's bar, on a terminal only."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "disable": None})  # type: ignore[no-untyped-call]


@contextmanager
def _quiet() -> Iterator[None]:
    """The library's warnings would stand beside our own line."""
    before = logging.get_verbosity()
    logging.set_verbosity(ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)
