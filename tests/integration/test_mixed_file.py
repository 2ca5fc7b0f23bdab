"""One file of good and bad posts: the good ones are prepared, each bad one is one dead letter."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from model.pictures.decode import ImageLimits
from tests import hostile
from worker.dead_letters import dead_letter_message, read_dead_letters
from worker.endpoints import open_dead_letter_file
from worker.errors import InvalidPost, Reason
from worker.posts import PostLimits, decode_post
from worker.stages.prepare import LocalLoader, Preparer
from worker.transport.base import Record
from worker.transport.files import FileSource
from worker.types import DeadLettered, Explanation, Gathered, Prepared

RECORD_BYTES = PostLimits().record_bytes


def post(name: str, **fields: object) -> bytes:
    return json.dumps({"id": name} | fields).encode()


def picture(name: str, data: bytes) -> bytes:
    return post(name, images=[{"data": base64.b64encode(data).decode()}])


def good_lines() -> list[bytes]:
    return [
        post("plain", text="Rain in Oslo."),
        post("unknown", text="Rain in Oslo.", desk={"name": "world"}, priority=3),
        post("naughty", text="'; DROP TABLE posts; -- \u202e <script>alert(1)</script> Ω≈ç√ 田中さん 👾 \0"),
        picture("cmyk", hostile.encode(Image.new("CMYK", (64, 48), (0, 255, 255, 0)), "JPEG")),
        picture("animated", hostile.animated_gif()),
        *(
            picture(f"orientation-{number}", hostile.oriented_jpeg(number, hostile.quadrants()))
            for number in range(1, 9)
        ),
    ]


def bad_lines() -> list[tuple[bytes, Reason]]:
    refused = hostile.refused()
    files = [(picture(name, data), Reason(reason.value)) for name, (data, reason) in refused.items()]
    return [
        (b"this line is not JSON", Reason.INVALID_JSON),
        (b'{"id": "cut", "text": "in the mid', Reason.INVALID_JSON),
        (b"\xff\xfe\x00", Reason.INVALID_JSON),
        (json.dumps({"text": "nobody gave it an id"}).encode(), Reason.INVALID_SCHEMA),
        (post("typed", text=7), Reason.INVALID_SCHEMA),
        (post("empty", text=""), Reason.EMPTY_POST),
        (post("long", text="word " * (1 << 20)), Reason.TEXT_TOO_LARGE),
        (post("longer", text="word " * (7 << 20)), Reason.TEXT_TOO_LARGE),  # over the cap of a line, too
        (picture("dot", hostile.encode(Image.new("RGB", (1, 1)), "PNG")), Reason.IMAGE_TOO_SMALL),
        (picture("half", hostile.jpeg()[:600]), Reason.IMAGE_UNDECODABLE),
        (post("outside", images=[{"path": "../secret.jpg"}]), Reason.IMAGE_REFUSED),
        (post("absent", images=[{"path": "none.jpg"}]), Reason.IMAGE_UNAVAILABLE),
        *files,
    ]


def outcomes(records: Iterable[Record], root: Path | None) -> list[Prepared | DeadLettered]:
    preparer = Preparer(
        LocalLoader(root, ImageLimits().max_bytes),
        image_size=32,
        resize_mode="center-crop",
        limits=ImageLimits(),
        fits=lambda text, explanation: len(text) <= 200,
    )
    results: list[Prepared | DeadLettered] = []
    for record in records:
        try:
            results.append(preparer.prepare(Gathered(record, decode_post(record), {}, Explanation())))
        except InvalidPost as error:
            results.append(DeadLettered(record, error.reason, error.detail, "decode"))
    return results


@pytest.fixture
def results(tmp_path: Path) -> list[Prepared | DeadLettered]:
    """Good and bad lines in turn, as far as there are any of either."""
    good, bad = good_lines(), [line for line, _ in bad_lines()]
    lines = [line for pair in zip(good, bad, strict=False) for line in pair]
    lines += good[len(bad) :] + bad[len(good) :]
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    source = FileSource(str(path), None, RECORD_BYTES)
    records: list[Record] = []
    while not source.exhausted():
        records += source.poll(1.0)
    source.close()
    assert [record.offset for record in records] == list(range(len(lines)))
    return outcomes(records, source.media_root)


def test_every_good_post_is_prepared(results: list[Prepared | DeadLettered]) -> None:
    prepared = [result.post.id for result in results if isinstance(result, Prepared)]
    assert prepared == [json.loads(line)["id"] for line in good_lines()]


def test_each_bad_post_is_one_dead_letter_with_its_bytes(
    results: list[Prepared | DeadLettered], tmp_path: Path
) -> None:
    dead = tmp_path / "dead.jsonl"
    sink = open_dead_letter_file(dead)
    letters = [result for result in results if isinstance(result, DeadLettered)]
    sink.write([dead_letter_message(letter) for letter in letters])
    sink.close()
    found, expected = list(read_dead_letters(dead)), bad_lines()
    assert [letter.reason for letter in found] == [reason.value for _, reason in expected]
    # a line over the cap is delivered, and so kept, cut to one byte more
    changed = [
        letter.key
        for letter, (line, _) in zip(found, expected, strict=True)
        if letter.raw() != line[: RECORD_BYTES + 1]
    ]
    assert changed == []
