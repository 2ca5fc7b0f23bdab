"""The whole pipeline over real files, the embedded store and a model with random weights."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from worker.build import build_pipeline
from worker.config import Config, load_config
from worker.errors import ConfigError, FatalError, Reason
from worker.flow.pipeline import Summary
from worker.index import VectorIndex
from worker.sections import EncodeConfig, LimitsConfig, MatchConfig
from worker.store.client import open_store
from worker.store.files import StoreFiles
from worker.store.process import read_address
from worker.types import Outcome

REPOSITORY = Path(__file__).parents[2]


@dataclass
class Stream:
    """A folder with a source, and everything a run makes of it."""

    folder: Path
    checkpoint: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def config(self) -> Config:
        return Config(
            source=f"file:{self.folder / 'posts.jsonl'}",
            sink=f"file:{self.folder / 'matches.jsonl'}",
            outcomes=f"file:{self.folder / 'outcomes.jsonl'}",
            store=str(self.folder / "store"),
            model=str(self.checkpoint),
            match=MatchConfig(top_k=1000, max_matches=1000),
            encode=EncodeConfig(linger_ms=1.0),
        )

    def write(self, posts: list[object]) -> None:
        lines = [post if isinstance(post, str) else json.dumps(post) for post in posts]
        (self.folder / "posts.jsonl").write_text("".join(f"{line}\n" for line in lines))

    def run(self, config: Config | None = None) -> tuple[Summary, list[Outcome]]:
        outcomes: list[Outcome] = []
        with build_pipeline(config or self.config, on_outcome=outcomes.append) as pipeline:
            return pipeline.run(), outcomes

    def start(self) -> subprocess.Popen[bytes]:
        """Run in a process of its own, slowly enough to be interrupted: few posts at once, small batches."""
        c = self.config
        file = self.folder / "worker.toml"
        file.write_text(
            f'source = "{c.source}"\nsink = "{c.sink}"\noutcomes = "{c.outcomes}"\nstore = "{c.store}"\n'
            f'model = "{c.model}"\ncommit_interval_s = 0.05\n[limits]\nin_flight_posts = 8\n'
            "[match]\ntop_k = 1000\nmax_matches = 3\n"
        )
        command = [sys.executable, "-m", "tests.integration.run_pipeline", str(file)]
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self.running.append(process)
        return process

    def lines(self, name: str) -> list[dict[str, object]]:
        file = self.folder / name
        return [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []

    def finished_offsets(self) -> set[object]:
        return {line["offset"] for line in self.lines("outcomes.jsonl")}

    def wait_for_outcomes(self, count: int, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 60
        file = self.folder / "outcomes.jsonl"
        while not file.exists() or file.read_bytes().count(b"\n") < count:
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def committed(self) -> int:
        """Where the next run starts, as the offsets file says; 0 before the first commit."""
        places = [json.loads(file.read_bytes()) for file in self.folder.glob("matches.offsets-*.json")]
        return max((place["next_offset"] for saved in places for place in saved.values()), default=0)

    def wait_for_commit(self, least: int, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 60
        while self.committed() < least:
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < deadline, "nothing is committed"
            time.sleep(0.01)

    def point_ids(self) -> dict[str, str]:
        """Every point's id and post."""
        from model.checkpoint import model_id

        with open_store(str(self.folder / "store"), create=False) as store:
            index = VectorIndex(store, "entityclip", model_id(self.checkpoint), 32)
            index.open_existing()
            return {point.id: str(point.payload["post_id"]) for point in index.scroll()}


@pytest.fixture
def stream(tmp_path: Path, random_checkpoint: Path) -> Iterator[Stream]:
    made = Stream(tmp_path, random_checkpoint)
    yield made
    for process in made.running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def kept(stream: Stream) -> Iterator[Stream]:
    """The same, over a store whose process stays: one a test in place of one a run."""
    with open_store(str(stream.folder / "store")):
        yield stream


def png(colour: tuple[int, int, int]) -> str:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def text_post(number: int) -> dict[str, object]:
    return {"id": f"text{number}", "text": f"Post number {number} speaks of {number * 7919}."}


def image_post(number: int) -> dict[str, object]:
    return {"id": f"image{number}", "images": [{"data": png((number % 256, number * 37 % 256, 9))}]}


def mixed(count: int) -> list[object]:
    return [text_post(n) if n % 2 else image_post(n) for n in range(count)]


def few_matches(stream: Stream) -> Config:
    return msgspec.structs.replace(stream.config, match=MatchConfig(max_matches=3))


def store_pid(stream: Stream) -> int:
    address = read_address(StoreFiles(stream.folder / "store"))
    assert address is not None
    return address.pid


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_same_file_twice_changes_no_points_and_no_matches(kept: Stream) -> None:
    stream = kept
    stream.write([*mixed(24), {"id": "both", "text": "Both.", "images": [{"data": png((1, 2, 3))}]}])
    first, outcomes = stream.run()
    points, matches = stream.point_ids(), stream.lines("matches.jsonl")
    second, _ = stream.run()
    assert (first.posts, second.posts, len(outcomes)) == (25, 25, 25)
    assert len(points) == 26
    assert stream.point_ids() == points
    assert first.matches == len(matches) == len({match["match_id"] for match in matches}) > 0
    assert second.matches == 0
    assert stream.lines("matches.jsonl") == matches


def test_sink_inside_the_source_folder_is_not_read_as_posts(kept: Stream) -> None:
    stream = kept
    photos = stream.folder / "photos"
    photos.mkdir()
    for number in range(2):
        (photos / f"{number}.png").write_bytes(base64.b64decode(png((number, 9, 9))))
        (photos / f"{number}.txt").write_text(f"Photo {number}.")
    (photos / "broken.jpg").write_bytes(b"no picture")
    config = msgspec.structs.replace(
        stream.config,
        source=f"file:{photos}",
        sink=f"file:{photos / 'matches.jsonl'}",
        outcomes=f"file:{photos / 'outcomes.jsonl'}",
        media_store=str(photos / "media"),
    )
    first, _ = stream.run(config)
    second, _ = stream.run(config)
    assert (first.posts, first.dead_lettered) == (3, {Reason.IMAGE_UNDECODABLE: 1})
    assert (second.posts, second.dead_lettered) == (3, {Reason.IMAGE_UNDECODABLE: 1})


def test_bad_posts_are_dead_letters_and_good_ones_go_on(kept: Stream) -> None:
    stream = kept
    bad = ["nonsense", {"text": "no id"}, {"id": "empty"}, {"id": "i", "images": [{"data": "AAAA"}]}]
    stream.write([text_post(1), *bad, image_post(2), {"id": "long", "text": "a" * 3000}])
    config = msgspec.structs.replace(stream.config, limits=LimitsConfig(text_bytes=2048))
    summary, _ = stream.run(config)
    assert summary.posts == 7
    assert summary.dead_lettered == {
        Reason.INVALID_JSON: 1,
        Reason.INVALID_SCHEMA: 1,
        Reason.EMPTY_POST: 1,
        Reason.IMAGE_UNDECODABLE: 1,
        Reason.TEXT_TOO_LARGE: 1,
    }
    assert {line["offset"] for line in stream.lines("matches.dead.jsonl")} == {1, 2, 3, 4, 6}
    assert set(stream.point_ids().values()) == {"text1", "image2"}


def test_post_that_comes_again_replaces_its_points(kept: Stream) -> None:
    stream = kept
    long_text = "This is a sentence that fills a window of the model by being rather long and wordy. " * 6
    pictures = [{"id": name, "data": png((9, 9, 9))} for name in "ab"]
    stream.write([{"id": "p", "text": long_text, "images": pictures}, {"id": "p", "text": "Short."}])
    stream.run()
    assert list(stream.point_ids().values()) == ["p"]


def test_store_of_another_model_is_refused(stream: Stream) -> None:
    stream.write([text_post(1)])
    with open_store(str(stream.folder / "store")) as store:
        VectorIndex(store, "entityclip", "other", 32).open_or_create()
    with pytest.raises(FatalError, match="another model"):
        stream.run()


@pytest.mark.parametrize(
    ("field_name", "value", "message"),
    [
        ("source", "file:/nonexistent/posts.jsonl", "source"),
        ("source", "s3:bucket", "s3:bucket"),
        ("model", "/nonexistent", "no checkpoint"),
        ("device", "nonsense", "device"),
        ("store", __file__, "is a file"),
    ],
)
def test_what_cannot_be_used_is_a_config_error(
    stream: Stream, field_name: str, value: str, message: str
) -> None:
    stream.write([text_post(1)])
    c = stream.config
    options = {"source": c.source, "sink": c.sink, "store": c.store, "model": c.model} | {field_name: value}
    with pytest.raises(ConfigError, match=message) as caught:
        stream.run(load_config(None, options, environ={}))
    assert "\n" not in str(caught.value)


def test_ctrl_c_keeps_what_was_acknowledged_and_the_next_run_does_the_rest(stream: Stream) -> None:
    stream.write(mixed(120))
    process = stream.start()
    stream.wait_for_outcomes(30, process)
    pid = store_pid(stream)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err.decode()
    interrupted = json.loads(out)
    assert interrupted["stopped"] is True
    assert 30 <= interrupted["posts"] == len(stream.finished_offsets()) < 120
    assert not is_running(pid)
    summary, _ = stream.run(few_matches(stream))
    assert summary.posts == 120 - interrupted["posts"]  # a drained stop leaves nothing to be done twice
    assert stream.finished_offsets() == set(range(120))
    assert len(set(stream.point_ids().values())) == 120


def test_killed_worker_loses_nothing(stream: Stream) -> None:
    stream.write(mixed(80))
    process = stream.start()
    stream.wait_for_commit(16, process)
    process.kill()
    process.communicate()
    committed, acknowledged = stream.committed(), stream.finished_offsets()
    assert set(range(committed)) <= acknowledged  # nothing was committed ahead of its acknowledgement
    summary, _ = stream.run(few_matches(stream))
    assert summary.posts == 80 - committed
    assert stream.finished_offsets() == set(range(80))
    matches = [line["match_id"] for line in stream.lines("matches.jsonl")]
    assert len(matches) == len(set(matches))
    assert len(set(stream.point_ids().values())) == 80


def test_killed_store_is_started_again_and_the_run_goes_on(stream: Stream) -> None:
    stream.write(mixed(60))
    process = stream.start()
    stream.wait_for_outcomes(30, process)
    os.kill(store_pid(stream), signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    assert json.loads(out)["posts"] == 60
    assert b"dependency away" in err
    assert len(set(stream.point_ids().values())) == 60
