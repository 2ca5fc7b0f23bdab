"""The posts that `bench pipeline` sends through the worker, and a source that paces them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from model.flagnews.captions import caption
from model.flagnews.compose import draw_share, take_photograph
from model.flagnews.entities import real_entities
from model.flagnews.layers import FlagSpec
from model.flagnews.scenes import draw_scene, scene_kinds, scene_rng
from model.flagnews.shapes import render_flag
from worker.errors import ConfigError
from worker.transport.base import Partition, Record

_DRAWN = 16  # pictures; every post's own is one of them, shifted
_DRAWN_SIDE = 320  # pixels; drawing larger ones takes longer and decodes no differently
_FLAG_HEIGHT = 200
_QUALITY = 90
_TAG = 0xBE7C4  # keeps these random streams apart from others


def drawn_posts(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """Draw posts with a picture and a caption each and without an explanation; no two are alike.

    Args:
        folder: takes `posts.jsonl`, and the pictures beside it.
        size: width and height of a picture, pixels.

    Returns:
        The JSONL file; a picture's path is relative to its folder.
    """
    rng = np.random.default_rng([_TAG])
    entities = real_entities()[:: len(real_entities()) // _DRAWN][:_DRAWN]
    scenes = [_photograph(number, entity.spec, rng) for number, entity in enumerate(entities)]
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (entity, pixels) in enumerate(islice(cycle(zip(entities, scenes, strict=True)), count)):
        path = f"pictures/{number:05d}.jpg"
        shifted = np.roll(pixels, int(rng.integers(_DRAWN_SIDE)), axis=1)
        Image.fromarray(shifted).resize(size).save(folder / path, quality=_QUALITY)
        text = f"{caption(entity.name, rng, 'test')} Picture {number} of the day."
        rows.append({"id": f"bench-{number:05d}", "text": text, "images": [{"path": path}]})
    return _write(folder, rows)


def own_posts(data: Path, folder: Path, count: int) -> Path:
    """Take posts from a JSONL file, from the beginning again where it has fewer; explanations are left out.

    Args:
        data: each line a post, or a row with `image` (a path below the file's folder) and `text`.

    Raises:
        ConfigError: not such a file.
    """
    try:
        lines = data.read_bytes().splitlines()
        rows = [_post(msgspec.json.decode(line, type=dict[str, Any])) for line in lines if line.strip()]
    except OSError as error:
        raise ConfigError(f"{data}: {error.strerror or error}") from error
    except (msgspec.DecodeError, KeyError) as error:
        raise ConfigError(f"{data}: a line is neither a post nor a row with `id` and `image`") from error
    if not rows:
        raise ConfigError(f"{data} holds no posts")
    return _write(folder, list(_numbered(rows, count)))


def records_of(posts: Path) -> list[Record]:
    """The lines of a file as records, as a file source delivers them."""
    place = Partition(str(posts), 0)
    return [Record(place, number, None, line) for number, line in enumerate(posts.read_bytes().splitlines())]


class PacedSource:
    """A source that delivers one record after the other at a steady rate, however quick the worker is.

    Args:
        per_s: records a second.
    """

    def __init__(self, records: Sequence[Record], per_s: float) -> None:
        self._records, self._per_s = records, per_s
        self._begun_s: float | None = None
        self._next = 0
        self.due_s: dict[int, float] = {}  # by offset, of `time.perf_counter`

    def poll(self, timeout_s: float) -> Sequence[Record]:
        now_s = time.perf_counter()
        self._begun_s = now_s if self._begun_s is None else self._begun_s
        if self.exhausted():
            return []
        due_s = self._begun_s + self._next / self._per_s
        until_due_s = due_s - now_s
        if until_due_s > 0:
            time.sleep(min(until_due_s, timeout_s))
            if until_due_s > timeout_s:
                return []
        record = self._records[self._next]
        self.due_s[record.offset] = due_s  # a worker that comes for it late has made it wait
        self._next += 1
        return [record]

    def pause(self) -> None:
        """It goes on: what is late counts as late."""

    def resume(self) -> None:
        """It never rests."""

    def commit(self, next_offsets: Mapping[Partition, int]) -> None:
        """Nobody reads these posts again."""

    def mark(self, notes: Mapping[Partition, str]) -> None:
        """Nobody reads these posts again."""

    def note(self, partition: Partition) -> str:
        return ""

    def epoch(self, partition: Partition) -> int | None:
        return 0

    def lag(self) -> Mapping[Partition, int]:
        return {}

    def away(self) -> str:
        return ""

    def exhausted(self) -> bool:
        return self._next >= len(self._records)

    def close(self, *, clean: bool = True) -> None:
        """Nothing is held open."""


def _photograph(number: int, spec: FlagSpec, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    kinds = scene_kinds("test")
    scene = draw_scene(
        kinds[number % len(kinds)], scene_rng("test", number, _TAG), _DRAWN_SIDE * 4 // 3, "test"
    )
    flag = render_flag(spec, _FLAG_HEIGHT)
    return take_photograph(scene, flag, rng, share=draw_share(rng), size=_DRAWN_SIDE).pixels


def _post(row: dict[str, Any]) -> dict[str, Any]:
    images = row["images"] if "images" in row else [{"path": row["image"]}]
    return {"id": str(row["id"]), "text": row.get("text") or "", "images": images}


def _numbered(rows: Sequence[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(islice(cycle(rows), count)):
        again = number // len(rows)
        yield {**row, "id": f"{number}-{row['id']}", "text": row["text"] + (f" ({again})" if again else "")}


def _write(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path = folder / "posts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
