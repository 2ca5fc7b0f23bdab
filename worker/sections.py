"""The sections of the worker's configuration (`worker.config` reads them). Units are in the names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=1024, le=1 << 40)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class KafkaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The brokers, and how to speak to them.

    Args:
        bootstrap_servers: `host:port`, several separated by commas.
        group: of consumers; its members share the partitions.
        ssl_*: paths of PEM files; none for the system's own trust store and no client certificate.
        compression: of what is produced.
        auto_offset_reset: where a group without commits begins.
        session_timeout_s: how long a member that went silent keeps its partitions.
        max_poll_interval_s: how long a member whose main thread hangs keeps them.
        poll_records: taken from the client at once.
        fetch_bytes: of one answer of a broker; the client holds about one for each broker.
        request_bytes: of one produced record; a larger dead letter goes out as a pointer.
        create_topics: make the topics that are missing, with these partitions and copies.
    """

    bootstrap_servers: str = "localhost:9092"
    group: Annotated[str, Meta(min_length=1, max_length=249)] = "entityclip"
    client_id: str = "entityclip"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_ca_file: str | None = None
    ssl_cert_file: str | None = None
    ssl_key_file: str | None = None
    ssl_key_password: str | None = None
    ssl_check_hostname: bool = True
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "zstd"
    auto_offset_reset: Literal["earliest", "latest"] = "earliest"
    session_timeout_s: Annotated[float, Meta(ge=1, le=3600)] = 15.0
    max_poll_interval_s: Annotated[float, Meta(ge=1, le=86_400)] = 300.0
    poll_records: Annotated[int, Meta(ge=1, le=10_000)] = 64
    fetch_bytes: Bytes = 16 << 20
    request_bytes: Bytes = 1_000_000
    create_topics: bool = True
    partitions: Annotated[int, Meta(ge=1, le=10_000)] = 6
    replication_factor: Annotated[int, Meta(ge=1, le=16)] = 1


class RedisConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What several workers share. Every use of it fails open.

    Args:
        url: `redis://`, `rediss://` or `unix://`; none for memory of the process's own.
        prefix: of every key.
        timeout_s: of one call.
        emitted_days: how long an emitted pair is remembered.
    """

    url: str | None = None
    prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,100}$")] = "entityclip"
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 0.5
    emitted_days: Annotated[float, Meta(gt=0, le=3650)] = 90.0


class LlmConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The endpoint that explains entities: anything that speaks the OpenAI chat protocol.

    Args:
        base_url: as `https://host/v1`; none switches it off.
        max_tokens: of an answer. `max_tokens_field` is how the endpoint calls it.
        concurrency: calls at once, of one worker.
        deadline_s: that a post waits for its explanation, all in all.
        call_timeout_s: of one call.
        calls: attempts within the deadline.
        vision: send the post's first image too.
        requests_per_minute, tokens_per_minute: of all workers together; none for what the endpoint's own
            limit headers say.
        cache_days, unknown_hours: how long an explanation, or that there is none, is kept.
        usd_per_million_prompt_tokens, usd_per_million_completion_tokens: for the cost metric.
        opt_out_sources: their posts are never sent.
        extra_body: fields that are added to every request.
    """

    base_url: str | None = None
    api_key: str | None = None
    model: str = "default"
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    max_tokens: Annotated[int, Meta(ge=1, le=100_000)] = 160
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    concurrency: Annotated[int, Meta(ge=1, le=4096)] = 32
    deadline_s: Annotated[float, Meta(gt=0, le=3600)] = 20.0
    call_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    calls: Annotated[int, Meta(ge=1, le=20)] = 3
    vision: bool = False
    requests_per_minute: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    tokens_per_minute: Annotated[float, Meta(gt=0, le=1e12)] | None = None
    cache_days: Annotated[float, Meta(gt=0, le=3650)] = 30.0
    unknown_hours: Annotated[float, Meta(gt=0, le=87_600)] = 24.0
    usd_per_million_prompt_tokens: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    usd_per_million_completion_tokens: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    opt_out_sources: list[str] = []
    extra_body: dict[str, Any] = {}


class FetchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Images that a post names by address.

    Args:
        enabled: otherwise a post with an address is a dead letter.
        total_s: for one image, redirects and repeats included, waiting for our own bounds not.
        attempts: of one image, where its host fails or is busy.
        concurrency, per_host: downloads at once.
        in_flight_bytes: of downloads, and of what was downloaded and is not decoded yet; one post's images
            more at most.
        cache_bytes: of downloads kept in memory, for addresses that come again.
        allow_networks: private ranges that may be fetched from all the same, as `10.1.0.0/16`.
        opt_out_sources: their addresses are never fetched.
    """

    enabled: bool = True
    total_s: Annotated[float, Meta(gt=0, le=3600)] = 15.0
    connect_s: Annotated[float, Meta(gt=0, le=3600)] = 5.0
    max_redirects: Annotated[int, Meta(ge=0, le=20)] = 3
    attempts: Annotated[int, Meta(ge=1, le=20)] = 3
    concurrency: Annotated[int, Meta(ge=1, le=4096)] = 32
    per_host: Annotated[int, Meta(ge=1, le=4096)] = 4
    in_flight_bytes: Bytes = 128 << 20
    cache_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 32 << 20
    user_agent: str = "entityclip"
    allow_networks: list[str] = []
    opt_out_sources: list[str] = []


class DeadLetterLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When so much is refused that something else must be wrong: the worker stops, uncommitted.

    Args:
        max_run: dead letters one after the other.
        max_ratio: of dead letters among the last `window` posts, once there were so many.
        ignore: go on all the same.
    """

    max_run: Count = 200
    max_ratio: Probability = 0.5
    window: Annotated[int, Meta(ge=10, le=1_000_000)] = 1000
    ignore: bool = False


class HealthConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a worker stops being ready, and when it had better be killed.

    Args:
        stalled_s: a stage inside one call, or the main thread, for longer than this: not ready.
        dead_s: for longer than this: not alive.
    """

    stalled_s: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    dead_s: Annotated[float, Meta(gt=0, le=86_400)] = 600.0


class MatchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What counts as a match.

    Args:
        top_k: hits a search asks for.
        max_matches: a post, at most.
        threshold: least calibrated score; None takes the checkpoint's.
        window_days: largest distance between the two posts' dates; None for any. With a window, a post
            without a date is matched only with others without one.
        same_post: whether a post's own text and images match each other.
        same_lang: only posts of one language; a post that names none is matched with none.
        share_entity: only posts that name an entity in common, spelled alike.
        own_below: least probability, at even odds, that a post's own text and picture belong together; with
            less, a match with another post makes it out of context.
        rerank: order matches by the matching head (GI-ITM), and tell its probability.
        all_parts: tell every part of a pair's score, also those that it does not depend on: for matches that
            are to be labelled. Searches cost more then.
    """

    top_k: Annotated[int, Meta(ge=1, le=1000)] = 20
    max_matches: Annotated[int, Meta(ge=1, le=1000)] = 10
    threshold: Probability | None = None
    window_days: Annotated[float, Meta(gt=0, le=36_500)] | None = None
    same_post: bool = False
    same_lang: bool = False
    share_entity: bool = False
    own_below: Probability = 0.5
    rerank: bool = False
    all_parts: bool = False


class EncodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The encoder's batches.

    Args:
        batch_size: posts in a batch, at most.
        linger_ms: how long a batch that is not full waits for more.
        batch_rows, batch_tokens, batch_pixels: of one forward pass, at most; padding counts.
        threads: batches side by side; none for what the device can use.
        precision: of the matrix products; `auto` tries what the device offers and takes the quickest that
            gives the same vectors.
        compile: the model for a few fixed shapes at start; for a GPU, which must then warm up for minutes.
            Where the matching head is asked, pictures go its way: in float32, and not compiled.
    """

    batch_size: Annotated[int, Meta(ge=1, le=4096)] = 64
    linger_ms: Annotated[float, Meta(ge=0, le=10_000)] = 20.0
    batch_rows: Annotated[int, Meta(ge=1, le=65_536)] = 64
    batch_tokens: Annotated[int, Meta(ge=77, le=1 << 24)] = 4096
    batch_pixels: Annotated[int, Meta(ge=1, le=1 << 32)] = 1 << 24
    threads: Annotated[int, Meta(ge=1, le=64)] | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False


class PrepareConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Decoding images and cutting texts: how many threads share it."""

    threads: Annotated[int, Meta(ge=1, le=256)] = 2


class LimitsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds; the defaults fit 4 GiB.

    Args:
        in_flight_bytes: of all posts between delivery and outcome.
        in_flight_posts: the same, counted.
        uncommitted_posts: between the oldest unfinished record and the newest delivered one.
        record_bytes: of one record.
        text_bytes: of one post's text.
        image_bytes: of one image file.
        image_pixels: of one image, read from its header before decoding.
        decode_pixels: of all images that are decoded at the same time; a larger one is decoded alone.
        attempts: how often a post that was alone in flight may kill the process.
    """

    in_flight_bytes: Bytes = 256 << 20
    in_flight_posts: Count = 256
    uncommitted_posts: Count = 10_000
    record_bytes: Bytes = 32 << 20
    text_bytes: Bytes = 1 << 20
    image_bytes: Bytes = 20 << 20
    image_pixels: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 50_000_000
    decode_pixels: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 64_000_000
    attempts: Annotated[int, Meta(ge=1, le=100)] = 2


class MetricsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where /metrics, /livez and /readyz are served; no port, no server."""

    port: Annotated[int, Meta(ge=0, le=65_535)] | None = None
    address: str = "127.0.0.1"
