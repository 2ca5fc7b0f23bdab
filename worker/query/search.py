"""`entityclip query`: what the store holds about a text, a picture, or both. Reads only; workers may go on.

One model encodes the question and only its own collection is searched: the alias is looked up once, the
model that it names is taken from those that are configured (`model`, `next_model`), and from then on the
collection is called by its own name. So a switch of the alias in between mixes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.calibration import Calibration
from worker.config import Config
from worker.errors import ConfigError, FatalError, InvalidPost, Reason
from worker.index import VectorIndex, served_model
from worker.model_info import read_model
from worker.query.candidates import Asked, Vector
from worker.query.explanation import Explained, explained
from worker.query.filters import check_values
from worker.query.hits import Found, Scale, find
from worker.query.picture import Picture, open_picture, read_picture
from worker.query.question import Kind, Query
from worker.store.client import Store, open_store

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.serving.encoder import Encoder


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits, pictures first, each kind best first.

    Args:
        points: what the collection holds in all.
        intercept: what the linear score begins with, before any part.
        thumbnail: a JPEG of the picture that was asked with.
    """

    found: tuple[Found, ...]
    explained: Explained
    model_id: str
    points: int
    intercept: float = 0.0
    thumbnail: bytes | None = None

    @property
    def images(self) -> tuple[Found, ...]:
        return tuple(hit for hit in self.found if hit.kind == "image")

    @property
    def texts(self) -> tuple[Found, ...]:
        return tuple(hit for hit in self.found if hit.kind == "text")


def run_query(query: Query, config: Config, *, ask_llm: bool = True) -> Answer:
    """Open the store, ask, close.

    Args:
        ask_llm: whether the configured LLM may be asked how what the text names looks.

    Raises:
        ConfigError: no store there, nothing in it, or no such checkpoint.
        FatalError: the store was filled by another model.
        InvalidPost: the picture cannot be read.
        UnknownValue: a filter names what no post has.
        TransientError: the store is away.
    """
    data = b"" if query.image is None else read_picture(query.image, config)
    with open_store(
        config.store, api_key=config.store_api_key, timeout_s=config.store_timeout_s, create=False
    ) as store:
        model, index = open_served(store, config)
        check_values(query, index)
        checkpoint, encoder = _load(model, config.device)
        calibration = Calibration.of(checkpoint.config.matching, config.match.threshold)
        if "margin" in calibration.needs:
            calibration = calibration.alone()  # a question has no rivals: it stands in no stream
        reads = _Reads(encoder.reads_explanations, "explanation_similarity" in calibration.needs)
        about = explained(query, config, is_read=reads.any, ask_llm=ask_llm)
        scale = Scale(calibration, lambda texts: _encode_alone(encoder, texts), config.match.own_below)
        picture = None
        if query.image is not None:
            mode = checkpoint.config.preprocess.resize_mode
            picture = open_picture(data, query.image, encoder.image_size, mode, config)
        sides = _sides(query, picture, about.text, encoder)
        alone = _row(_encode_alone(encoder, [about.text])) if reads.in_score and about.text else None
        found = find(query, Asked(sides, alone), index, scale)
        return Answer(
            found,
            about,
            checkpoint.model_id,
            index.count(),
            intercept=calibration.fitted.intercept,
            thumbnail=None if picture is None else picture.thumbnail,
        )


@dataclass(frozen=True, slots=True)
class _Reads:
    """Where the query's explanation counts."""

    in_vector: bool
    in_score: bool

    @property
    def any(self) -> bool:
        return self.in_vector or self.in_score


def _sides(query: Query, picture: Picture | None, explanation: str, encoder: Encoder) -> dict[Kind, Vector]:
    sides: dict[Kind, Vector] = {}
    if picture is not None:
        sides["image"] = _row(encoder.encode_images(np.stack([picture.pixels])))
    if "text" in query.asks:
        sides["text"] = _row(encoder.encode_texts([query.text], [explanation]))
    return sides


def open_served(store: Store, config: Config) -> tuple[str, VectorIndex]:
    """The configured model that the alias names, and its collection.

    Raises:
        ConfigError: there is nothing to read, or no such checkpoint.
        FatalError: the alias names another model.
    """
    served = served_model(store, config.alias)
    models = {name: read_model(name) for name in _models(config)}
    if served is None:
        raise ConfigError(
            f"the store at {store.target} has no alias {config.alias!r}: index some posts first"
        )
    for name, info in models.items():
        if info.id == served:
            index = VectorIndex(store, config.alias, info.id, info.dim)
            index.open_named()
            return name, index
    ours = " and ".join(info.id for info in models.values())
    raise FatalError(
        f"the store at {store.target} was filled by model {served}, "
        f"{'this one is' if len(models) == 1 else 'these are'} {ours}: "
        "name that model with --model, or another --store"
    )


def _models(config: Config) -> list[str]:
    return [config.model, *([config.next_model] if config.next_model else [])]


def _load(model: str, device: str) -> tuple[Checkpoint, Encoder]:
    """The model; what torch says about a device that it does not have becomes a line."""
    from model.checkpoint import CheckpointError, load
    from model.serving.encoder import Encoder

    try:
        checkpoint = load(model)
        return checkpoint, Encoder.of(checkpoint, device=device)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    except (RuntimeError, AssertionError) as error:  # torch built without it, or no such device
        line = (str(error).splitlines() or [""])[0]
        raise ConfigError(f"the device {device!r} cannot be used: {line}") from error


def _encode_alone(encoder: Encoder, explanations: Sequence[str]) -> Vector:
    """Explanations as texts of their own. [B, D]"""
    return encoder.encode_texts(explanations, [""] * len(explanations))


def _row(vectors: Vector) -> Vector:
    """The only row. [1, D] -> [D]"""
    row: Vector = vectors[0]
    if not np.isfinite(row).all():
        raise InvalidPost(Reason.ENCODING_FAILED, "the model gives no vector for this query")
    return row
