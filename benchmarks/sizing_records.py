"""What entries in Redis and records of Kafka take: in real servers, written by the worker's own code."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.kafka.broker import Broker
from tests.redis_server import RedisServer
from worker.coordination.breaker import Breaker
from worker.coordination.emitted import EmittedPairs
from worker.coordination.redis import open_async_redis, open_redis
from worker.explain.answer import Answer
from worker.explain.cache import ExplanationCache, cache_key
from worker.observe.metrics import Metrics
from worker.sections import KafkaConfig, LlmConfig, RedisConfig
from worker.transport.base import Message
from worker.transport.kafka.sink import KafkaSink

ENTRIES = 5000  # in Redis
RECORDS = 2000  # in a topic
BATCH = 64  # records that a producer compresses together


def redis_bytes(explanations: Sequence[str]) -> tuple[float, float]:
    """Memory of a cached explanation and of an emitted pair, in a real server."""
    with RedisServer() as server:
        config = RedisConfig(url=server.url, timeout_s=5.0)
        with closing(server.client()) as client:

            def used() -> int:
                return int(client.info("memory")["used_memory"])

            empty = used()
            asyncio.run(_cache(config, explanations))
            after_answers = used()
            _record_pairs(config)
            return (after_answers - empty) / ENTRIES, (used() - after_answers) / ENTRIES


async def _cache(config: RedisConfig, explanations: Sequence[str]) -> None:
    metrics, llm = Metrics(), LlmConfig()
    shared = open_async_redis(config, metrics, Breaker("Redis"))
    assert shared is not None
    cache = ExplanationCache(llm, shared, metrics)
    for number in range(ENTRIES):

        async def ask(number: int = number) -> Answer:
            return Answer(explanations[number % len(explanations)])

        await cache.get(cache_key(llm, str(number), None), ask)
    await cache.aclose()
    await shared.aclose()


def _record_pairs(config: RedisConfig) -> None:
    redis = open_redis(config, Metrics(), Breaker("Redis"))
    assert redis is not None
    with closing(redis):
        EmittedPairs(redis, config.emitted_days).record(str(uuid.uuid4()).encode() for _ in range(ENTRIES))


def kafka_bytes(
    folder: Path,
    captions: Sequence[str],
    pictures: Sequence[bytes],
    matches: Sequence[bytes],
    outcomes: Sequence[bytes],
) -> dict[str, float]:
    """Bytes a record on the broker's disk, in batches as our producer makes them; one copy."""
    posts = [_addressed(number, captions) for number in range(RECORDS)]
    inline = [_inlined(number, captions, pictures) for number in range(RECORDS // 10)]
    made = {
        "posts": [Message(str(post["id"]).encode(), _json(post)) for post in posts],
        "inline": [Message(str(post["id"]).encode(), _json(post)) for post in inline],
        "matches": [Message(json.loads(line)["match_id"].encode(), line) for line in matches],
        "outcomes": [Message(f"news.posts-0-{n}".encode(), line) for n, line in enumerate(outcomes)],
    }
    with Broker(folder) as broker:
        config = KafkaConfig(bootstrap_servers=broker.bootstrap, partitions=1, request_bytes=8 << 20)
        for topic, messages in made.items():
            with closing(KafkaSink(config, topic, Metrics())) as sink:
                for start in range(0, len(messages), BATCH):
                    sink.write(messages[start : start + BATCH])
        return {topic: _log_bytes(folder, topic) / len(sent) for topic, sent in made.items()}


def _addressed(number: int, captions: Sequence[str]) -> dict[str, Any]:
    """A post with a real caption whose picture is an address."""
    url = f"https://pictures.example.org/2026/05/{uuid.uuid4().hex}.jpg"
    return {
        "id": f"agency-{number:07d}",
        "text": captions[number % len(captions)],
        "images": [{"url": url}],
        "published_at": f"2026-05-01T08:{number // 60 % 60:02d}:{number % 60:02d}Z",
        "source": "agency",
        "lang": "en",
    }


def _inlined(number: int, captions: Sequence[str], pictures: Sequence[bytes]) -> dict[str, Any]:
    picture = pictures[number % len(pictures)]
    return _addressed(number, captions) | {"images": [{"data": base64.b64encode(picture).decode()}]}


def _log_bytes(folder: Path, topic: str) -> int:
    return sum(path.stat().st_size for path in (folder / "data").glob(f"{topic}-*/*.log"))


def _json(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()
