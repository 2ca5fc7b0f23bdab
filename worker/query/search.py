"""`entityclip query`: what the store holds about a text or a picture. Reads only; workers may go on writing.

The vectors that are compared: a text asks for pictures (the model's trained direction, whose cosine is
calibrated to a probability) and for texts alike; a picture asks for texts and for pictures alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from model.calibration import Calibration, PairParts
from worker.errors import ConfigError, FatalError, InvalidPost, Reason
from worker.index import Hit, Search, VectorIndex, Where, served_model
from worker.store.client import Store, open_store

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.encoder import Encoder
    from model.images import ResizeMode

Kind = Literal["image", "text"]
MOST_IMAGE_BYTES = 20 << 20


@dataclass(frozen=True, slots=True)
class Query:
    """A question; exactly one of `text` and `image` is given.

    Args:
        image: a picture file.
        top: hits of each kind, at most.
        since: only posts published at or after; posts without a date are left out then.
        sources: only posts of these.

    Raises:
        ValueError: neither or both of text and image, or `top` out of range.
    """

    text: str = ""
    image: Path | None = None
    top: int = 10
    since: datetime | None = None
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.text.strip()) == (self.image is not None):
            raise ValueError("ask with a text or with --image FILE, one of the two")
        if not 1 <= self.top <= 1000:
            raise ValueError(f"--top must lie in 1 to 1000, got {self.top}")

    @property
    def asks(self) -> Kind:
        """Which of the two was given."""
        return "image" if self.image is not None else "text"


@dataclass(frozen=True, slots=True)
class Found:
    """One hit.

    Args:
        score: calibrated probability that it is about the same entity, 0 to 1; None where query and hit are
            of one kind, for which no calibration exists.
        cosine: cosine similarity, -1 to 1.
        content_hash: of the picture's file, empty for a text.
    """

    kind: Kind
    post_id: str
    image_id: str
    cosine: float
    score: float | None
    text: str
    explanation: str
    entities: tuple[str, ...]
    source: str
    published_at: str
    url: str
    content_hash: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Pictures first, then texts, each best first; `points` is what the store holds in all."""

    images: tuple[Found, ...]
    texts: tuple[Found, ...]
    model_id: str
    points: int

    @property
    def found(self) -> tuple[Found, ...]:
        return self.images + self.texts


def run_query(
    query: Query, target: str, alias: str, model: str, *, api_key: str | None = None, device: str = "cpu"
) -> Answer:
    """Open the store, ask, close.

    Args:
        target: folder of an embedded store, or a Qdrant URL.
        model: a checkpoint's folder, or `tiny`.

    Raises:
        ConfigError: no store there, nothing in it, or no such checkpoint.
        FatalError: the store was filled by another model.
        InvalidPost: the picture cannot be read.
        TransientError: the store is away.
    """
    from model.checkpoint import CheckpointError, load, model_id, resolve

    try:
        wanted = model_id(resolve(model))
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    picture = None if query.image is None else _read_picture(query.image)
    with open_store(target, api_key=api_key, create=False) as store:
        _check_model(store, alias, wanted)
        try:
            checkpoint = load(model)
        except CheckpointError as error:
            raise ConfigError(str(error)) from error
        index = VectorIndex(store, alias, wanted, checkpoint.config.architecture.embed_dim)
        index.open_existing()
        vector = _encode(query, picture, checkpoint, device)
        return _ask(query, vector, index, Calibration.of(checkpoint.config.matching), wanted)


def _check_model(store: Store, alias: str, wanted: str) -> None:
    """Say so before the weights are read."""
    served = served_model(store, alias)
    if served not in (None, wanted):
        raise FatalError(
            f"the store at {store.target} was filled by model {served}, this one is {wanted}: "
            "name that model with --model, or another --store"
        )


def _ask(
    query: Query, vector: NDArray[np.float32], index: VectorIndex, scale: Calibration, model_id: str
) -> Answer:
    where = Where(published_from=query.since, sources=query.sources)
    kinds: tuple[Kind, ...] = ("image", "text")
    requests = [Search(using=kind, vector=vector, limit=query.top, where=where) for kind in kinds]
    images, texts = index.search(requests)
    return Answer(
        images=_found(images, "image", query.asks, scale),
        texts=_found(texts, "text", query.asks, scale),
        model_id=model_id,
        points=index.count(),
    )


def _found(hits: Sequence[Hit], kind: Kind, asked: Kind, scale: Calibration) -> tuple[Found, ...]:
    return tuple(
        Found(
            kind=kind,
            post_id=_field(hit, "post_id"),
            image_id=_field(hit, "image_id"),
            cosine=hit.score,
            score=scale.score(PairParts(hit.score)) if kind != asked else None,
            text=_field(hit, "text"),
            explanation=_field(hit, "explanation"),
            entities=_entities(hit),
            source=_field(hit, "source"),
            published_at=_field(hit, "published_at"),
            url=_field(hit, "url"),
            content_hash=_field(hit, "content_hash") if kind == "image" else "",
        )
        for hit in hits
    )


def _field(hit: Hit, name: str) -> str:
    value = hit.payload.get(name)
    return "" if value is None else str(value)


def _entities(hit: Hit) -> tuple[str, ...]:
    value = hit.payload.get("entities")
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def _read_picture(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_IMAGE_BYTES + 1)
    except OSError as error:
        raise InvalidPost(Reason.IMAGE_UNAVAILABLE, f"{path}: {error.strerror}") from error
    if len(data) > MOST_IMAGE_BYTES:
        raise InvalidPost(Reason.IMAGE_TOO_LARGE, f"{path} is over {MOST_IMAGE_BYTES >> 20} MiB")
    return data


def _encode(query: Query, picture: bytes | None, checkpoint: Checkpoint, device: str) -> NDArray[np.float32]:
    """[D] float32, L2-normalised."""
    from model.encoder import Encoder

    encoder = Encoder.of(checkpoint, device=device, batch_size=1)
    if picture is None:
        vector = encoder.encode_texts([query.text])[0]
    else:
        pixels = _pixels(picture, query.image, encoder, checkpoint.config.preprocess.resize_mode)
        vector = encoder.encode_images(np.stack([pixels]))[0]
    if not np.isfinite(vector).all():
        raise InvalidPost(Reason.ENCODING_FAILED, "the model gives no vector for this query")
    row: NDArray[np.float32] = vector
    return row


def _pixels(data: bytes, path: Path | None, encoder: Encoder, resize_mode: ResizeMode) -> NDArray[np.uint8]:
    from model.images import ImageError, ImageLimits, decode, resize_for_model

    try:
        image = decode(data, target=encoder.image_size, limits=ImageLimits())
    except ImageError as error:
        raise InvalidPost(Reason(error.reason), f"{path}: {error}") from error
    return resize_for_model(image, encoder.image_size, resize_mode)
