"""Preparing a post: images are loaded from where they may be, and one bad image is one dead letter."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.pictures.decode import ImageLimits, ImageReason, ResizeMode
from tests import hostile
from worker.errors import ConfigError, Reason, TransientError
from worker.media import MediaStore
from worker.stages.prepare import LocalLoader, Preparer
from worker.transport.base import Partition, Record
from worker.types import (
    DeadLettered,
    Explanation,
    ExplanationStatus,
    Gathered,
    ImageRef,
    Post,
    Prepared,
)

RECORD = Record(Partition("posts.jsonl", 0), 7, None, b"{}")
EXPLANATION = Explanation("A red cross.", ExplanationStatus.GENERATED)
MAX_BYTES = 100_000


def preparer(root: Path | None = None, media: MediaStore | None = None) -> Preparer:
    return Preparer(
        LocalLoader(root, MAX_BYTES),
        image_size=32,
        resize_mode="center-crop",
        limits=ImageLimits(max_bytes=MAX_BYTES),
        fits=lambda text, explanation: len(text.split()) <= 4,
        media=media,
    )


def gathered(post: Post) -> Gathered:
    return Gathered(RECORD, post, {}, EXPLANATION)


def prepared(post: Post, root: Path | None = None, media: MediaStore | None = None) -> Prepared:
    result = preparer(root, media).prepare(gathered(post))
    assert isinstance(result, Prepared)
    return result


def refused(post: Post, root: Path | None = None) -> DeadLettered:
    result = preparer(root).prepare(gathered(post))
    assert isinstance(result, DeadLettered)
    assert (result.record, result.stage) == (RECORD, "prepare")
    return result


def test_a_post_becomes_pixels_and_windows() -> None:
    data = hostile.jpeg()
    post = Post("p", "Rain in Oslo. It is cold.", (ImageRef("0", data=data), ImageRef("b", data=data)))
    result = prepared(post)
    assert [image.id for image in result.images] == ["0", "b"]
    assert result.images[0].pixels.shape == (32, 32, 3)
    assert result.images[0].pixels.dtype == np.uint8
    assert result.images[0].content_hash == hashlib.sha256(data).hexdigest()
    assert result.windows == ("Rain in Oslo.", "It is cold.")
    assert (result.record, result.post) == (RECORD, post)


def test_a_post_without_images_and_one_without_text_are_normal() -> None:
    assert prepared(Post("p", "Oslo")).images == ()
    assert prepared(Post("p", images=(ImageRef("0", data=hostile.jpeg()),))).windows == ()


def test_a_text_that_the_tokenizer_does_not_see_is_no_post() -> None:
    assert refused(Post("p", "&nbsp;")).reason is Reason.EMPTY_POST


def test_the_explanation_is_carried_on() -> None:
    assert prepared(Post("p", "Oslo")).explanation == EXPLANATION


HOSTILE = hostile.refused()


@pytest.mark.parametrize("name", [name for name in HOSTILE if len(HOSTILE[name][0]) <= MAX_BYTES])
def test_a_bad_image_is_a_dead_letter_of_its_reason(name: str) -> None:
    data, reason = HOSTILE[name]
    images = (ImageRef("good", data=hostile.jpeg()), ImageRef("bad", data=data))
    letter = refused(Post("p", "Oslo", images))
    assert letter.reason.value == reason.value
    assert "'bad'" in letter.detail


def test_an_address_is_refused_by_a_worker_that_does_not_fetch() -> None:
    letter = refused(Post("p", images=(ImageRef("0", url="http://169.254.169.254/latest"),)))
    assert letter.reason is Reason.IMAGE_REFUSED


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A media root with good and bad neighbours."""
    folder = tmp_path / "media"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "good.jpg").write_bytes(hostile.jpeg())
    (folder / "large.jpg").write_bytes(hostile.jpeg() + bytes(MAX_BYTES))
    (tmp_path / "secret.jpg").write_bytes(hostile.jpeg())
    (tmp_path / "media-2").mkdir()
    (tmp_path / "media-2" / "secret.jpg").write_bytes(hostile.jpeg())
    (folder / "inside.jpg").symlink_to(folder / "sub" / "good.jpg")
    (folder / "outside.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "out").symlink_to(tmp_path)
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    os.mkfifo(folder / "pipe.jpg")
    return folder


@pytest.mark.parametrize("path", ["sub/good.jpg", "./sub/../sub/good.jpg", "inside.jpg"])
def test_a_file_below_the_media_root_is_loaded(root: Path, path: str) -> None:
    assert len(prepared(Post("p", images=(ImageRef("0", path=path),)), root).images) == 1


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret.jpg", Reason.IMAGE_REFUSED),
        ("../media-2/secret.jpg", Reason.IMAGE_REFUSED),
        ("sub/../../secret.jpg", Reason.IMAGE_REFUSED),
        ("/etc/passwd", Reason.IMAGE_REFUSED),
        ("outside.jpg", Reason.IMAGE_REFUSED),
        ("out/secret.jpg", Reason.IMAGE_REFUSED),
        ("missing.jpg", Reason.IMAGE_UNAVAILABLE),
        ("sub", Reason.IMAGE_UNAVAILABLE),
        ("", Reason.IMAGE_UNAVAILABLE),
        ("sub/good.jpg/more", Reason.IMAGE_UNAVAILABLE),
        ("loop.jpg", Reason.IMAGE_UNAVAILABLE),
        ("pipe.jpg", Reason.IMAGE_UNAVAILABLE),
        ("nul\0.jpg", Reason.IMAGE_UNAVAILABLE),
        ("lone\udc80\ud800.jpg", Reason.IMAGE_UNAVAILABLE),
        ("n" * 5000, Reason.IMAGE_UNAVAILABLE),
        ("large.jpg", Reason.IMAGE_TOO_LARGE),
    ],
)
def test_any_other_path_is_a_dead_letter(root: Path, path: str, reason: Reason) -> None:
    letter = refused(Post("p", "Oslo", (ImageRef("0", path=path),)), root)
    assert letter.reason is reason
    assert len(letter.detail) < 500
    assert str(root.parent) not in letter.detail


def test_without_a_media_root_every_path_is_refused() -> None:
    assert refused(Post("p", images=(ImageRef("0", path="a.jpg"),))).reason is Reason.IMAGE_REFUSED


def test_what_is_not_the_posts_fault_is_tried_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(TransientError, match="Too many open files"):
        preparer(root).prepare(gathered(Post("p", images=(ImageRef("0", path="sub/good.jpg"),))))


@pytest.mark.parametrize(("data", "kind"), [(hostile.jpeg(), Prepared), (b"<html>", DeadLettered)])
def test_what_was_fetched_is_decoded_and_its_memory_given_back(data: bytes, kind: type) -> None:
    released: list[str] = []
    post = Post("p", images=(ImageRef("0", url="https://example.org/a.jpg"),))
    result = preparer().prepare(
        Gathered(RECORD, post, {"0": data}, EXPLANATION, lambda: released.append("0"))
    )
    assert isinstance(result, kind)
    assert released == ["0"]


@pytest.mark.parametrize(
    ("next_input", "shape"),
    [((48, "center-crop"), (48, 48, 3)), ((32, "squash"), (32, 32, 3)), ((32, "center-crop"), None)],
)
def test_the_next_model_gets_pixels_of_its_own_only_where_its_input_differs(
    next_input: tuple[int, ResizeMode], shape: tuple[int, ...] | None
) -> None:
    made = Preparer(
        LocalLoader(None, MAX_BYTES),
        image_size=32,
        resize_mode="center-crop",
        limits=ImageLimits(max_bytes=MAX_BYTES),
        fits=lambda text, explanation: True,
        next_input=next_input,
    ).prepare(gathered(Post("p", images=(ImageRef("0", data=hostile.jpeg(hostile.quadrants(60, 80))),))))
    assert isinstance(made, Prepared)
    beside = made.images[0].next_pixels
    assert (None if beside is None else beside.shape) == shape


def test_a_thumbnail_is_kept_under_the_content_hash(tmp_path: Path) -> None:
    media = MediaStore(tmp_path / "media")
    data = hostile.jpeg(hostile.quadrants(600, 800))
    image = prepared(Post("p", images=(ImageRef("0", data=data),)), media=media).images[0]
    kept = media.get(image.content_hash)
    assert kept is not None
    with Image.open(io.BytesIO(kept)) as small:
        assert (small.format, small.size) == ("JPEG", (384, 288))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{image.content_hash}.jpg"]


HASH = "ab" + "0" * 62


def test_the_media_store_keeps_the_first_and_mends_an_empty_one(tmp_path: Path) -> None:
    media = MediaStore(tmp_path)
    assert media.get(HASH) is None
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / f"{HASH}.jpg").touch()
    assert media.get(HASH) is None
    media.put(HASH, b"first")
    media.put(HASH, b"second")
    assert media.get(HASH) == b"first"


@pytest.mark.parametrize("content_hash", ["", "../../etc/passwd", "AB" * 32, HASH + "/x"])
def test_what_is_no_hash_is_no_file_name(tmp_path: Path, content_hash: str) -> None:
    with pytest.raises(ValueError, match="no content hash"):
        MediaStore(tmp_path).put(content_hash, b"")


def test_threads_may_keep_the_same_picture_at_once(tmp_path: Path) -> None:
    media = MediaStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: media.put(HASH, b"x" * 10_000), range(64)))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{HASH}.jpg"]
    assert media.get(HASH) == b"x" * 10_000


@pytest.mark.parametrize("call", [lambda media: media.put(HASH, b"x"), lambda media: media.get(HASH)])
def test_a_media_store_that_is_away_is_transient(
    tmp_path: Path, call: Callable[[MediaStore], object]
) -> None:
    media = MediaStore(tmp_path / "media")
    (tmp_path / "media").rmdir()
    (tmp_path / "media").write_bytes(b"a file where the folder was")
    with pytest.raises(TransientError, match="media store"):
        call(media)


def test_a_media_store_that_cannot_be_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="media store"):
        MediaStore(tmp_path / "file")


def test_image_reasons_map_to_dead_letter_reasons() -> None:
    assert [Reason(reason.value).value for reason in ImageReason] == [reason.value for reason in ImageReason]
