"""Measures what `benchmarks.sizing` multiplies: bytes of points, of entries in Redis, records and pictures.

Everything goes through the worker's own code into the real engine, the real Redis and the real broker (those
of the tests). What they hold comes from a run of the worker over the demo stream, from the captions of
`pairs.jsonl` and the files of `originals/`. Rates are those of `benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, TypeVar

import numpy as np

from benchmarks.sizing_formula import Measured, PointBytes
from model.checkpoint import load
from model.pictures.decode import decode_picture
from model.serving.encoder import Encoder
from tests.kafka.broker import Broker
from tests.redis_server import RedisServer
from worker.bench.machine import this_machine
from worker.bench.search_store import nobody_serves
from worker.config import Config
from worker.coordination.breaker import Breaker
from worker.coordination.emitted import EmittedPairs
from worker.coordination.redis import open_async_redis, open_redis
from worker.demo.stream import StreamConfig, write_stream
from worker.explain.answer import Answer
from worker.explain.cache import ExplanationCache, cache_key
from worker.explain.prompt import messages, post_data
from worker.index import Point, Search, VectorIndex
from worker.observe.metrics import Metrics
from worker.sections import KafkaConfig, LlmConfig, RedisConfig
from worker.store.client import Store, open_store
from worker.store.files import StoreFiles
from worker.store.upkeep import OPTIMIZE_AFTER
from worker.transport.base import Message
from worker.transport.kafka.sink import KafkaSink
from worker.types import Post
from worker.windows import text_windows

T = TypeVar("T")
STREAM = StreamConfig(pairs=80, lone_texts=20, lone_pictures=20, whole=10, swapped=5)
DIMS = (512, 128)
POINTS = OPTIMIZE_AFTER + 1024  # of each lot: enough for search graphs
ENTRIES = 5000  # in Redis
RECORDS = 2000  # in a topic
BATCH = 64  # records that a producer compresses together
COMMANDS = {
    "worker_posts_per_s": "entityclip bench pipeline --posts 400 --rounds 3 --picture 640x427 [--model …]",
    "store_points_per_s": "entityclip bench search",
    "everything else": "python -m benchmarks.sizing --measure benchmarks/sizing.json",
}
_QUIET_S = 5.0  # between two looks: graphs are built where nothing was asked for a while
RATES = {"tiny": 47.2, "ViT-B/32": 15.3, "ViT-B/16": 6.2}  # posts/s with two cores: benchmarks/RESULTS.md
STORE_POINTS_PER_S = 1615.0  # the same, "Search in the embedded store", 20,000 points


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of the worker over the demo stream left.

    Args:
        payloads: of its points.
        good_posts: posts with an outcome that is no dead letter.
    """

    payloads: Sequence[Mapping[str, object]]
    matches: Sequence[bytes]
    outcomes: Sequence[bytes]
    good_posts: int


@dataclass(frozen=True, slots=True)
class RealTexts:
    """What real texts and pictures are like; see `Measured`."""

    windows_per_text: float
    repeated: float
    thumbnail_bytes: float
    prompt_characters: float
    pictures: Sequence[bytes]
    captions: Sequence[str]


def measure(data: Path) -> Measured:
    """All figures; some minutes.

    Args:
        data: the folder with `pairs.jsonl`, `originals/` and `load/texts.jsonl.gz`.
    """
    with tempfile.TemporaryDirectory(prefix="entityclip-sizing-") as place:
        folder = Path(place)
        run = run_demo(folder / "run")
        explanations = [str(text) for payload in run.payloads if (text := payload.get("explanation"))]
        real = look_at(data, explanations)
        points = {str(dim): point_bytes(folder / str(dim), run.payloads, dim) for dim in DIMS}
        explanation_bytes, pair_bytes = redis_bytes(explanations)
        kafka = kafka_bytes(folder / "kafka", run, real)
    machine = this_machine()
    return Measured(
        machine=f"{machine.cores} cores of {machine.cpu}",
        commands=COMMANDS,
        worker_cores=2,
        worker_posts_per_s=RATES,
        model_dim={"tiny": 128, "ViT-B/32": 512, "ViT-B/16": 512},
        store_points_per_s=STORE_POINTS_PER_S,
        points=points,
        explanation_bytes=explanation_bytes,
        pair_bytes=pair_bytes,
        post_bytes=kafka["posts"],
        inline_post_bytes=kafka["inline"],
        match_bytes=kafka["matches"],
        outcome_bytes=kafka["outcomes"],
        thumbnail_bytes=real.thumbnail_bytes,
        prompt_characters=real.prompt_characters,
        answer_characters=mean(len(_answer(text)) for text in explanations),
        matches_per_post=len(run.matches) / run.good_posts,
        windows_per_text=real.windows_per_text,
        repeated_texts=real.repeated,
    )


def run_demo(folder: Path) -> Run:
    """Draw the stream and run `entityclip run` over it."""
    folder.mkdir()
    stream = write_stream(folder, STREAM)
    paths = {name: folder / f"{name}.jsonl" for name in ("matches", "outcomes")}
    places = [f"--source=file:{stream.path}", f"--store={folder / 'store'}"]
    places += [f"--sink=file:{paths['matches']}", f"--outcomes=file:{paths['outcomes']}"]
    subprocess.run([sys.executable, "-m", "worker.cli.main", "run", *places], check=True)
    outcomes = paths["outcomes"].read_bytes().splitlines()
    with closing(_index(folder / "store", load("tiny").model_id, 128)) as index:
        index.open_existing()
        payloads = [dict(point.payload) for point in index.scroll()]
    good = [row for line in outcomes if (row := json.loads(line))["outcome"] != "dead_lettered"]
    return Run(payloads, paths["matches"].read_bytes().splitlines(), outcomes, len(good))


def look_at(data: Path, explanations: Sequence[str]) -> RealTexts:
    """Measure the real files."""
    captions = [row["text"] for row in _rows(data / "pairs.jsonl")]
    encoder = Encoder.of(load("tiny"))
    usual = sorted(explanations, key=len)[len(explanations) // 2]
    windows = [len(text_windows(text, lambda piece: encoder.fits(piece, usual))) for text in captions]
    texts = [row["text"] for row in _rows(data / "load" / "texts.jsonl.gz")]
    pictures = [path.read_bytes() for path in sorted((data / "originals").iterdir())]
    decoded = [decode_picture(picture, target=224, longer_side=Config().media_side) for picture in pictures]
    prompts = [messages(post_data(Post("id", text))) for text in captions]
    return RealTexts(
        windows_per_text=mean(windows),
        repeated=1 - len(set(texts)) / len(texts),
        thumbnail_bytes=mean(len(picture.thumbnail(Config().media_side)) for picture in decoded),
        prompt_characters=mean(sum(len(str(part["content"])) for part in prompt) for prompt in prompts),
        pictures=pictures,
        captions=captions,
    )


def point_bytes(folder: Path, payloads: Sequence[Mapping[str, object]], dim: int) -> PointBytes:
    """Disk and memory that a point adds to a store: what a second lot of points takes, with search graphs."""
    points = list(_points(payloads, dim))
    first = _add(folder, points[:POINTS], POINTS)
    second = _add(folder, points[POINTS:], 2 * POINTS)
    return PointBytes((second.disk - first.disk) / POINTS, (second.ram - first.ram) / POINTS)


def _add(folder: Path, points: Sequence[Point], total: int) -> PointBytes:
    """Store the points and wait for their graphs; what the whole store takes then."""
    store = open_store(str(folder))
    dim = len(next(iter(points[0].vectors.values())))
    with closing(VectorIndex(store, "entityclip", "sizing", dim)) as index:
        index.open_or_create()
        for batch in _in_batches(points, 512):
            index.upsert(batch)
        _wait_for_graphs(store, index.collection, total)
    ram = _served_bytes(folder, dim)  # by a new process: nothing of what loading took is left
    return PointBytes(_disk_bytes(folder), ram)


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


def kafka_bytes(folder: Path, run: Run, real: RealTexts) -> dict[str, float]:
    """Bytes a record on the broker's disk, in batches as our producer makes them; one copy."""
    posts = [_addressed(number, real) for number in range(RECORDS)]
    inline = [_inlined(number, real) for number in range(RECORDS // 10)]
    made = {
        "posts": [Message(str(post["id"]).encode(), _json(post)) for post in posts],
        "inline": [Message(str(post["id"]).encode(), _json(post)) for post in inline],
        "matches": [Message(json.loads(line)["match_id"].encode(), line) for line in run.matches],
        "outcomes": [Message(f"news.posts-0-{n}".encode(), line) for n, line in enumerate(run.outcomes)],
    }
    with Broker(folder) as broker:
        config = KafkaConfig(bootstrap_servers=broker.bootstrap, partitions=1, request_bytes=8 << 20)
        for topic, messages_ in made.items():
            with closing(KafkaSink(config, topic, Metrics())) as sink:
                for batch in _in_batches(messages_, BATCH):
                    sink.write(batch)
        return {topic: _log_bytes(folder, topic) / len(sent) for topic, sent in made.items()}


def _addressed(number: int, real: RealTexts) -> dict[str, Any]:
    """A post with a real caption whose picture is an address."""
    url = f"https://pictures.example.org/2026/05/{uuid.uuid4().hex}.jpg"
    return {
        "id": f"agency-{number:07d}",
        "text": real.captions[number % len(real.captions)],
        "images": [{"url": url}],
        "published_at": f"2026-05-01T08:{number // 60 % 60:02d}:{number % 60:02d}Z",
        "source": "agency",
        "lang": "en",
    }


def _inlined(number: int, real: RealTexts) -> dict[str, Any]:
    picture = real.pictures[number % len(real.pictures)]
    return _addressed(number, real) | {"images": [{"data": base64.b64encode(picture).decode()}]}


def _points(payloads: Sequence[Mapping[str, object]], dim: int) -> Iterator[Point]:
    """Random vectors with payloads of the demo, each point a post of its own."""
    random = np.random.default_rng(0)
    for number in range(2 * POINTS):
        payload = payloads[number % len(payloads)]
        vector = random.standard_normal(dim).astype(np.float32)
        own = {"post_id": f"demo-{number}", "content_hash": uuid.uuid4().hex * 2}
        yield Point(str(uuid.uuid4()), {str(payload["kind"]): vector}, {**payload, **own})


def _index(folder: Path, model_id: str, dim: int) -> VectorIndex:
    return VectorIndex(open_store(str(folder)), "entityclip", model_id, dim)


def _served_bytes(folder: Path, dim: int) -> int:
    """Resident memory of a new process that serves the store, once searches have gone over it."""
    random = np.random.default_rng(1)
    with closing(_index(folder, "sizing", dim)) as index:
        index.open_or_create()
        for _ in range(20):
            vectors = random.standard_normal((BATCH, dim)).astype(np.float32)
            index.search([Search(using, vector, 20) for vector in vectors for using in ("image", "text")])
        pid = json.loads(StoreFiles(folder).address.read_bytes())["pid"]
        status = Path(f"/proc/{pid}/status").read_text()
    with nobody_serves(folder):
        pass
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


def _wait_for_graphs(store: Store, collection: str, points: int) -> None:
    deadline = time.monotonic() + 600
    while points - (store.client.get_collection(collection).indexed_vectors_count or 0) >= OPTIMIZE_AFTER:
        if time.monotonic() > deadline:
            raise TimeoutError("the store built no search graphs in 600 s")
        time.sleep(_QUIET_S)


def _disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _log_bytes(folder: Path, topic: str) -> int:
    return sum(path.stat().st_size for path in (folder / "data").glob(f"{topic}-*/*.log"))


def _in_batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _rows(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    return [
        json.loads(line) for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
    ]


def _json(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()


def _answer(text: str) -> str:
    """As the prompt asks for it."""
    return json.dumps({"known": True, "explanation": text})
