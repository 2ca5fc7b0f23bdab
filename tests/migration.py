"""A worker that is fed by hand, two models with random weights, and an analyst who never stops asking."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fakes import POSTS, MemorySource
from tests.random_model import random_model
from worker.build import build_pipeline
from worker.config import Config
from worker.index import Search, VectorIndex, served_model
from worker.migrate.collection import ModelCollection
from worker.sections import EncodeConfig, LimitsConfig, MatchConfig, MetricsConfig
from worker.store.client import Store, open_store
from worker.transport.base import Partition, Record


def picture(number: int) -> bytes:
    """A PNG of two colours, another one for each number."""
    pixels = np.full((40, 60, 3), (number % 251, number * 37 % 241, number * 91 % 239), np.uint8)
    pixels[:, number % 50 : number % 50 + 10] = 255 - pixels[0, 0]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def post(number: int, *, text: str | None = None, images: int = 1) -> dict[str, object]:
    """A post with text and pictures."""
    return {
        "id": f"post{number}",
        "text": text or f"Post number {number} speaks of {number * 7919}.",
        "explanation": f"Two colours, as number {number % 7} has them.",
        "images": [
            {"id": str(place), "data": base64.b64encode(picture(number + 1000 * place)).decode()}
            for place in range(images)
        ],
    }


class FedSource(MemorySource):
    """Delivers what it is fed, in the order in which it is fed; never exhausted."""

    def __init__(self) -> None:
        super().__init__([], endless=True, a_poll=64)
        self.fed = 0

    def feed(self, posts: Sequence[dict[str, object]]) -> None:
        """Posts, or `{"id": ..., "gone": True}` for a take-down."""
        for item in posts:
            value = b"" if item.get("gone") else json.dumps(item).encode()
            key = str(item["id"]).encode()
            self._records.append(Record(POSTS, self.fed, key, value or None, epoch=0))
            self.fed += 1

    def epoch(self, partition: Partition) -> int | None:
        return 0


@dataclass
class Stage:
    """A store, two models, and the configuration of a worker that writes both."""

    folder: Path
    old_id: str
    new_id: str
    dims: dict[str, int]
    source: FedSource = field(default_factory=FedSource)

    def config(self, *, dual: bool = True) -> Config:
        return Config(
            source="file:-",
            sink=f"file:{self.folder / 'matches.jsonl'}",
            store=str(self.folder / "store"),
            media_store=str(self.folder / "media"),
            model=str(self.folder / "old"),
            next_model=str(self.folder / "new") if dual else None,
            match=MatchConfig(top_k=5, max_matches=2),
            encode=EncodeConfig(linger_ms=1.0),
            limits=LimitsConfig(in_flight_posts=256),
            metrics=MetricsConfig(port=None),
            drain_deadline_s=20.0,
        )

    @contextmanager
    def worker(self, *, dual: bool = True) -> Iterator[None]:
        """Run one beside the test, until the end of the context; its error is the test's."""
        self.source = FedSource()
        errors: list[BaseException] = []
        ready = threading.Event()
        with build_pipeline(self.config(dual=dual), source=self.source) as pipeline:

            def run() -> None:
                try:
                    pipeline.run()
                except BaseException as error:
                    errors.append(error)
                finally:
                    ready.set()

            thread = threading.Thread(target=run)
            thread.start()
            try:
                yield
            finally:
                pipeline.stop()
                thread.join(60)
        assert not thread.is_alive()
        assert not errors, errors[0]

    def feed(self, posts: Sequence[dict[str, object]], *, timeout_s: float = 60) -> None:
        """Hand posts to the worker and wait until all are committed."""
        self.source.feed(posts)
        deadline = time.monotonic() + timeout_s
        while self.source.committed.get(POSTS, 0) < self.source.fed:
            assert time.monotonic() < deadline, "posts are not committed"
            time.sleep(0.02)

    def collection(self, store: Store, model_id: str) -> ModelCollection:
        return ModelCollection(store, f"entityclip-{model_id}", self.dims[model_id])

    def options(self, model: str) -> list[str]:
        """Of `entityclip migrate`, to this model's folder."""
        toml = self.folder / "worker.toml"
        toml.write_text(
            f'model = "{self.folder / "old"}"\nnext_model = "{self.folder / "new"}"\n'
            f'store = "{self.folder / "store"}"\nmedia_store = "{self.folder / "media"}"\n'
        )
        return ["--to", str(self.folder / model), "--config", str(toml)]

    def matches(self) -> list[dict[str, object]]:
        file = self.folder / "matches.jsonl"
        return [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def make_stage(folder: Path) -> Stage:
    """Two models that agree in nothing: neither weights, nor vectors, nor input."""
    old = random_model(folder / "old", 0)
    new = random_model(folder / "new", 1, image_size=48, dim=24)
    return Stage(folder, old, new, {old: 32, new: 24})


@dataclass
class Analyst:
    """Asks the store again and again, with vectors of the model that is served.

    `answers` are the models that answered; `mixed` counts hits of another model than the one that asked.
    """

    stage: Stage
    answers: list[str] = field(default_factory=list)
    mixed: int = 0
    errors: list[str] = field(default_factory=list)

    @contextmanager
    def asking(self, pause_s: float = 0.01) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self._ask, args=(stop, pause_s))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)

    def _ask(self, stop: threading.Event, pause_s: float) -> None:
        chance = np.random.default_rng(0)
        with open_store(str(self.stage.folder / "store"), create=False) as store:
            while not stop.wait(pause_s):
                try:
                    self._ask_once(store, chance)
                except Exception as error:
                    self.errors.append(f"{type(error).__name__}: {error}")

    def _ask_once(self, store: Store, chance: np.random.Generator) -> None:
        model = served_model(store, "entityclip")
        assert model is not None
        other = self.stage.new_id if model == self.stage.old_id else self.stage.old_id
        dim = self.stage.dims[model]
        index = VectorIndex(store, "entityclip", model, dim, beside=other)
        index.open_existing()
        vector = chance.standard_normal(dim).astype(np.float32)
        hits = index.search([Search("image", vector, limit=5), Search("text", vector, limit=5)])
        self.mixed += sum(hit.payload["model_id"] != model for found in hits for hit in found)
        self.answers.append(model)


def ids(collection: ModelCollection) -> set[str]:
    """Every point's id."""
    return {row.id for rows in collection.rows() for row in rows}


def until(condition: object, timeout_s: float = 30) -> None:
    """Wait until a function says yes."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        with suppress(InterruptedError):
            time.sleep(0.02)
