"""How large an installation must be: the formula. `benchmarks.sizing` prints what it gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

DAY_S = 86_400
DEFAULT_PARTITIONS = 6  # what `kafka.partitions` is by default


class PointBytes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one point takes in the vector store, payload and search graph included, bytes."""

    disk: float
    ram: float


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Figures of real runs.

    Args:
        machine: where, in words.
        commands: what measured the figures that this command only takes over.
        worker_posts_per_s: of the whole worker with `worker_cores` cores, by model.
        model_dim: dimension of a model's vectors.
        store_points_per_s: that one store takes.
        points: bytes a point, by the dimension of its vector.
        explanation_bytes, pair_bytes: of one entry in Redis, keys and overhead included.
        post_bytes: of a compressed post in Kafka whose picture is an address.
        inline_post_bytes: the same with the picture in the post, base64.
        point_characters: of text in a text point that was measured, on average; its explanation is on top.
        post_characters: of text in a post that was measured in Kafka, on average.
        match_bytes, outcome_bytes: of those records, compressed.
        thumbnail_bytes: of one picture in the media store, on disk.
        prompt_characters, answer_characters: of one call of the LLM.
        matches_per_post: in the demo stream.
        windows_per_text: text points that a real text becomes.
        repeated_texts: share of real texts that came before: what a cache without end could answer.
    """

    machine: str
    commands: dict[str, str]
    worker_cores: int
    worker_posts_per_s: dict[str, float]
    model_dim: dict[str, int]
    store_points_per_s: float
    points: dict[str, PointBytes]
    point_characters: float
    explanation_bytes: float
    pair_bytes: float
    post_bytes: float
    inline_post_bytes: float
    post_characters: float
    match_bytes: float
    outcome_bytes: float
    thumbnail_bytes: float
    prompt_characters: float
    answer_characters: float
    matches_per_post: float
    windows_per_text: float
    repeated_texts: float


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What only the operator knows.

    Args:
        busy: share of its measured rate that a worker is planned for; the rest is for peaks and backlogs: one
            of an hour takes busy / (1 - busy) hours at most.
        texts, pictures: a post. The worker's rate was measured with one of each.
        windows: text points that a text becomes, one for each part that the model reads at once; None for
            what real texts of `post_characters` gave.
        matches: a post; None for what the demo stream gave.
        explained: share of the posts with a text for which the LLM would be asked; the others bring an
            explanation, or there is no LLM.
        hit_ratio: share of those that the cache answers; None for the texts that repeat in real data.
        retention_days: that points and pictures are kept (`retention_days`).
        topic_days: that Kafka keeps the posts, the matches and the outcomes.
        emitted_days, cache_days: as in `redis` and `llm` of the configuration.
        copies: of each Kafka record; of each point.
        characters_per_token: of the LLM, in English.
        usd_per_million_prompt, usd_per_million_completion: tokens.
    """

    busy: float = 0.7
    texts: float = 1.0
    pictures: float = 1.0
    windows: float | None = None
    matches: float | None = None
    explained: float = 1.0
    hit_ratio: float | None = None
    retention_days: float = 90.0
    topic_days: float = 7.0
    emitted_days: float = 90.0
    cache_days: float = 30.0
    kafka_copies: int = 3
    store_copies: int = 1
    characters_per_token: float = 4.0
    usd_per_million_prompt: float = 0.0
    usd_per_million_completion: float = 0.0


@dataclass(frozen=True, slots=True)
class Workers:
    """Of one model at one rate."""

    workers: int
    cores: int
    partitions: int


@dataclass(frozen=True, slots=True)
class Data:
    """What lies where once everything is as old as it is kept, bytes; and what flows, a second.

    Args:
        points: in the vector store.
        store_writers: stores (shards on machines of their own) that take the points as fast as they come.
        usd_a_day: what the LLM costs; 0 without prices.
    """

    points: float
    store_disk: float
    store_ram: float
    store_writers: int
    kafka_posts: float
    kafka_posts_inline: float
    kafka_results: float
    redis: float
    media: float
    llm_calls_per_s: float
    llm_tokens_per_s: float
    usd_a_day: float


def size_workers(rate: float, model: str, measured: Measured, assumed: Assumptions) -> Workers:
    """Workers on the CPU for `rate` posts/s.

    workers = ⌈rate / (busy × measured rate)⌉. Partitions bound the workers and cannot be raised without
    moving keys from one to another, so there are twice as many, and never fewer than the default.
    """
    workers = max(1, math.ceil(rate / (assumed.busy * measured.worker_posts_per_s[model])))
    return Workers(
        workers=workers,
        cores=workers * measured.worker_cores,
        partitions=max(DEFAULT_PARTITIONS, 2 * workers),
    )


def size_data(rate: float, dim: int, measured: Measured, assumed: Assumptions) -> Data:
    """Everything but the workers, for `rate` posts/s and vectors of `dim` numbers.

    bytes = rate × 86,400 × days × (items a post) × (bytes an item) × copies, for each kind of item.
    """
    posts_a_day = rate * DAY_S
    points_per_s = rate * (assumed.texts * windows_per_text(measured, assumed) + assumed.pictures)
    points = points_per_s * DAY_S * assumed.retention_days
    one = measured.points[str(dim)]
    kept_posts = posts_a_day * assumed.topic_days * assumed.kafka_copies
    matches = measured.matches_per_post if assumed.matches is None else assumed.matches
    calls = rate * calls_per_post(measured, assumed)
    prompt, completion = tokens_per_call(measured, assumed)
    explanations = calls * DAY_S * assumed.cache_days * measured.explanation_bytes
    pairs = posts_a_day * assumed.emitted_days * matches * measured.pair_bytes
    usd = prompt * assumed.usd_per_million_prompt + completion * assumed.usd_per_million_completion
    return Data(
        points=points,
        store_disk=points * one.disk * assumed.store_copies,
        store_ram=points * one.ram * assumed.store_copies,
        store_writers=max(1, math.ceil(points_per_s / (assumed.busy * measured.store_points_per_s))),
        kafka_posts=kept_posts * measured.post_bytes,
        kafka_posts_inline=kept_posts * measured.inline_post_bytes,
        kafka_results=kept_posts * (matches * measured.match_bytes + measured.outcome_bytes),
        redis=explanations + pairs,
        media=posts_a_day * assumed.retention_days * assumed.pictures * measured.thumbnail_bytes,
        llm_calls_per_s=calls,
        llm_tokens_per_s=calls * (prompt + completion),
        usd_a_day=calls * DAY_S * usd / 1e6,
    )


def windows_per_text(measured: Measured, assumed: Assumptions) -> float:
    """Text points that a text becomes."""
    return measured.windows_per_text if assumed.windows is None else assumed.windows


def calls_per_post(measured: Measured, assumed: Assumptions) -> float:
    """Calls of the LLM: for the texts to be explained that the cache does not answer."""
    hit_ratio = measured.repeated_texts if assumed.hit_ratio is None else assumed.hit_ratio
    return min(1.0, assumed.texts) * assumed.explained * (1 - hit_ratio)


def tokens_per_call(measured: Measured, assumed: Assumptions) -> tuple[float, float]:
    """Tokens of a prompt, and of its answer."""
    return (
        measured.prompt_characters / assumed.characters_per_token,
        measured.answer_characters / assumed.characters_per_token,
    )
