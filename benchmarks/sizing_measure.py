"""Measures what `benchmarks.sizing` multiplies: bytes of points, of entries in Redis, records and pictures.

Everything goes through the worker's own code into the real engine, the real Redis and the real broker (those
of the tests). What they hold comes from a run of the worker over the demo stream, from the captions of
`pairs.jsonl` and the files of `originals/`. Rates are those of `benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.sizing_formula import Measured
from benchmarks.sizing_points import open_index, point_bytes
from benchmarks.sizing_records import kafka_bytes, redis_bytes
from model.checkpoint import load
from model.pictures.decode import decode_picture
from model.serving.encoder import Encoder
from worker.bench.machine import this_machine
from worker.config import Config
from worker.demo.stream import StreamConfig, write_stream
from worker.explain.prompt import messages, post_data
from worker.types import Post
from worker.windows import text_windows

STREAM = StreamConfig(pairs=80, lone_texts=20, lone_pictures=20, whole=10, swapped=5)
DIMS = (512, 128)
COMMANDS = {
    "worker_posts_per_s": "entityclip bench pipeline --posts 400 --rounds 3 --picture 640x427 [--model …]",
    "store_points_per_s": "entityclip bench search",
    "everything else": "python -m benchmarks.sizing --measure benchmarks/sizing.json",
}
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
        kafka = kafka_bytes(folder / "kafka", real.captions, real.pictures, run.matches, run.outcomes)
    machine = this_machine()
    return Measured(
        machine=f"{machine.cores} cores of {machine.cpu}",
        commands=COMMANDS,
        worker_cores=2,
        worker_posts_per_s=RATES,
        model_dim={"tiny": 128, "ViT-B/32": 512, "ViT-B/16": 512},
        store_points_per_s=STORE_POINTS_PER_S,
        points=points,
        point_characters=mean(len(str(text)) for payload in run.payloads if (text := payload.get("text"))),
        explanation_bytes=explanation_bytes,
        pair_bytes=pair_bytes,
        post_bytes=kafka["posts"],
        inline_post_bytes=kafka["inline"],
        post_characters=mean(map(len, real.captions)),
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
    with closing(open_index(folder / "store", load("tiny").model_id, 128)) as index:
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


def _rows(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    return [
        json.loads(line) for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
    ]


def _answer(text: str) -> str:
    """As the prompt asks for it."""
    return json.dumps({"known": True, "explanation": text})
