"""The stage types of the pipeline: what each stage takes and hands on.

    Record ─decode→ Post ─gather→ Gathered ─prepare→ Prepared ─encode→ Encoded ─index→ Encoded ─match→ Outcome

One record in, exactly one outcome out, but for a record whose partition was taken away (`Dropped`).
After decoding, failure is data: a stage returns a `DeadLettered` for the one item that is bad and goes
on with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from worker.errors import Reason
from worker.index import Point
from worker.transport.base import Record

Vector = NDArray[np.float32]
Pixels = NDArray[np.uint8]


class ExplanationStatus(StrEnum):
    """Where a post's explanation came from, or why there is none."""

    GIVEN = "given"  # the post brought it
    GENERATED = "generated"  # the LLM wrote it
    NONE = "none"  # none given, and no LLM configured, or this source is opted out of it
    UNKNOWN = "unknown"  # the LLM was asked and knows no named entity in it; not asked again
    FAILED = "failed"  # the LLM was down, over its budget or too slow; may be enriched later


@dataclass(frozen=True, slots=True)
class Explanation:
    """What bridges name and look.

    Args:
        text: empty when there is none.
    """

    text: str = ""
    status: ExplanationStatus = ExplanationStatus.NONE


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image as the post names it; exactly one of url, data, path is set.

    Args:
        id: unique within the post.
        data: the image file itself, base64 already undone.
        path: relative to the configured media root.
    """

    id: str
    url: str | None = None
    data: bytes | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Post:
    """A decoded, validated post (version 1 of the wire format, `worker/schemas/post.json`).

    Args:
        extra: unknown fields, kept and passed on in the payload.
    """

    id: str
    text: str = ""
    images: tuple[ImageRef, ...] = ()
    published_at: datetime | None = None
    source: str | None = None
    lang: str | None = None
    entities: tuple[str, ...] = ()
    explanation: str | None = None
    url: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gathered:
    """A post with what had to be waited for.

    Args:
        fetched: files of the images at addresses, by image id.
        release: gives back the memory of the files; any thread, once or more.
    """

    record: Record
    post: Post
    fetched: Mapping[str, bytes]
    explanation: Explanation
    release: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """A decoded image, ready for the encoder.

    Args:
        pixels: [S, S, 3] uint8 RGB at the model's input size.
        content_hash: hex digest of the file's bytes.
        next_pixels: the same for `next_model`; None where there is none, or it takes the same pixels.
    """

    id: str
    pixels: Pixels
    content_hash: str
    next_pixels: Pixels | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A post with everything the encoder needs.

    Args:
        windows: the text in sentence-aligned pieces that fit the model's context; empty without text.
    """

    record: Record
    post: Post
    images: tuple[PreparedImage, ...]
    windows: tuple[str, ...]
    explanation: Explanation = Explanation()


@dataclass(frozen=True, slots=True)
class TakeDown:
    """A tombstone: every point of the post goes."""

    record: Record
    post_id: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """A post with its points: one an image, one a text window.

    Args:
        next_points: the same by `next_model`, for its collection; empty where there is no such model, or it
            gave no vector.
    """

    prepared: Prepared
    points: tuple[Point, ...]
    next_points: tuple[Point, ...] = ()


class Direction(StrEnum):
    """Which side of the pair was the query."""

    TEXT_TO_IMAGE = "text→image"
    IMAGE_TO_TEXT = "image→text"


@dataclass(frozen=True, slots=True)
class Match:
    """An image–text pair about the same entity, as it is sent (`worker/schemas/match.json`).

    Args:
        match_id: UUIDv5 of text point, image point and model id; the key of the record.
        cosine: cosine similarity of the two vectors, -1 to 1.
        score: calibrated probability that the pair shows the same entity, 0 to 1.
        rank: place among the query's hits, from 1.
        margin, itm_probability, explanation_similarity, entity_overlap: the other parts of the score, as
            `model.calibration.PairParts` has them; None where the pair has none, or nobody asked.
        text_own_score, image_own_score: probability that the text belongs to a picture of its own post, and
            the picture to a text of its own; None where the post has only one kind.
        out_of_context: ids of those of the two posts whose own text and picture do not belong together, while
            this match does.
    """

    match_id: str
    text_post_id: str
    image_post_id: str
    image_id: str
    window: int
    same_post: bool
    direction: Direction
    cosine: float
    score: float
    rank: int
    text: str
    explanation: str
    entities: tuple[str, ...]
    model_id: str
    matched_at: datetime
    text_published_at: datetime | None
    image_published_at: datetime | None
    image_hash: str
    margin: float | None = None
    itm_probability: float | None = None
    explanation_similarity: float | None = None
    entity_overlap: float | None = None
    text_own_score: float | None = None
    image_own_score: float | None = None
    out_of_context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Matched:
    """The post found at least one partner.

    Args:
        matches: those emitted for it, best first.
        points: how many points it has in the store.
    """

    record: Record
    post_id: str
    matches: tuple[Match, ...]
    points: int
    explanation_status: ExplanationStatus = ExplanationStatus.NONE
    published_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Unmatched:
    """The post is in the store and found no partner above the threshold, or was taken down."""

    record: Record
    post_id: str
    points: int
    explanation_status: ExplanationStatus = ExplanationStatus.NONE
    published_at: datetime | None = None
    taken_down: bool = False


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """The post cannot be processed; its raw bytes are kept with the reason.

    Args:
        stage: the stage that refused it.
        attempts: how often it was tried.
    """

    record: Record
    reason: Reason
    detail: str
    stage: str
    attempts: int = 1


Outcome = Matched | Unmatched | DeadLettered


@dataclass(frozen=True, slots=True)
class Dropped:
    """Work on a record whose partition was taken away: somebody else has it now, and will finish it."""

    record: Record
