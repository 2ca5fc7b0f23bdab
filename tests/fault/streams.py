"""Streams to run on: planted pairs among the open texts and pictures of the test data."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from tests.fault.planted import Pair, Post

_APART = 1 / 3  # of the pairs, produced at the same moment


def texts(data: Path, count: int) -> list[Post]:
    """Posts of the load file, as they come; the file is begun again with other ids where it ends."""
    return list(islice(_texts(data), count))


def pictures(data: Path, count: int) -> list[Post]:
    """Posts of one picture each, named by its path below the data folder."""
    pairs = [json.loads(line) for line in (data / "pairs.jsonl").read_text().splitlines()]
    return [{"id": f"picture-{pair['id']}", "images": [{"path": pair["image"]}]} for pair in pairs[:count]]


def with_pairs(posts: list[Post], pairs: list[Pair], seed: int = 0) -> list[Post]:
    """Shuffle the pairs in: a third of them with both posts beside each other, the rest anywhere."""
    rng = random.Random(seed)
    together = pairs[: round(len(pairs) * _APART)]
    apart = pairs[len(together) :]
    units = [[post] for post in posts] + [[pair.text, pair.picture] for pair in together]
    units += [[post] for pair in apart for post in (pair.text, pair.picture)]
    rng.shuffle(units)
    return list(chain.from_iterable(units))


def _texts(data: Path) -> Iterator[Post]:
    turn = 0
    while True:
        with gzip.open(data / "load" / "texts.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                if row["text"].strip():
                    post = {"id": f"{row['id']}-{turn}", "text": row["text"], "source": row["kind"]}
                    yield post
        turn += 1
