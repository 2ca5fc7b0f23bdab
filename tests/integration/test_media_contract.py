"""What the worker needs of a media store, held against a folder, `file://`, `memory://` and a URL of yours.

That URL, for example of a bucket, is the one in ENTITYCLIP_TEST_MEDIA_URL; without it its part is skipped.
"""

from __future__ import annotations

import os
import time
import uuid
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest
from fsspec.registry import known_implementations

from tests.ports import free_port
from worker.errors import ConfigError, TransientError
from worker.media import MediaStore, existing_media, folder_of

URL_VARIABLE = "ENTITYCLIP_TEST_MEDIA_URL"
HASH, OTHER, THIRD = "ab" + "0" * 62, "ab" + "1" * 62, "cd" + "0" * 62
_TICK_S = 0.02 if URL_VARIABLE not in os.environ else 1.1  # how finely a place keeps times: S3 whole seconds


@pytest.fixture(params=["folder", "file", "memory", "url"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    name = f"media-{uuid.uuid4().hex}"
    url = os.environ.get(URL_VARIABLE)
    if request.param == "url" and url is None:
        pytest.skip(f"set {URL_VARIABLE}, for example to s3://BUCKET, and install the package for such URLs")
    return {
        "folder": str(tmp_path / name),
        "file": f"file://{tmp_path}/{name}",
        "memory": f"memory://{name}/pictures",
        "url": f"{url}/{name}",
    }[request.param]


@pytest.fixture
def media(place: str) -> MediaStore:
    return MediaStore(place)


def moment_between() -> datetime:
    """Now, with nothing written just before or just after it."""
    time.sleep(_TICK_S)
    moment = datetime.now(UTC)
    time.sleep(_TICK_S)
    return moment


def far() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)


def test_what_is_put_is_got(media: MediaStore) -> None:
    media.put(HASH, b"\xff\xd8 jpeg")
    assert media.get(HASH) == b"\xff\xd8 jpeg"


def test_what_was_never_put_is_none(media: MediaStore) -> None:
    assert media.get(HASH) is None


def test_a_neighbour_in_the_same_folder_is_another_picture(media: MediaStore) -> None:
    media.put(HASH, b"one")
    assert media.get(OTHER) is None


def test_a_second_store_at_the_same_place_sees_it(media: MediaStore, place: str) -> None:
    media.put(HASH, b"jpeg")
    assert MediaStore(place).get(HASH) == b"jpeg"


def test_a_picture_may_be_put_again(media: MediaStore) -> None:
    media.put(HASH, b"jpeg")
    media.put(HASH, b"jpeg")
    assert media.get(HASH) == b"jpeg"


def test_an_empty_picture_counts_as_missing_and_is_mended(media: MediaStore) -> None:
    media.put(HASH, b"")
    assert media.get(HASH) is None
    media.put(HASH, b"jpeg")
    assert media.get(HASH) == b"jpeg"


def test_threads_may_put_and_get_at_once(media: MediaStore) -> None:
    def put_and_get(number: int) -> bytes | None:
        content_hash = (HASH, OTHER, THIRD)[number % 3]
        media.put(content_hash, b"x" * 10_000)
        return media.get(content_hash)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(put_and_get, range(48))) == {b"x" * 10_000}


def test_pruning_an_empty_store_deletes_nothing(media: MediaStore) -> None:
    assert media.prune(far()) == 0


def test_older_pictures_are_pruned_and_younger_ones_stay(media: MediaStore) -> None:
    media.put(HASH, b"old")
    media.put(THIRD, b"old too")
    moment = moment_between()
    media.put(OTHER, b"young")
    assert media.prune(moment) == 2
    assert [media.get(name) for name in (HASH, THIRD, OTHER)] == [None, None, b"young"]


def test_a_picture_that_is_put_again_is_young_again(media: MediaStore) -> None:
    media.put(HASH, b"jpeg")
    moment = moment_between()
    media.put(HASH, b"jpeg")
    assert media.prune(moment) == 0
    assert media.get(HASH) == b"jpeg"


def test_pruning_sees_what_another_store_has_put_since(media: MediaStore, place: str) -> None:
    media.put(HASH, b"jpeg")
    media.prune(datetime.fromtimestamp(0, UTC))  # lists, so that a listing could be remembered
    MediaStore(place).put(OTHER, b"jpeg")
    assert media.prune(far()) == 2


def test_files_of_others_are_not_pruned(media: MediaStore, place: str) -> None:
    media.put(HASH, b"jpeg")
    files, root = fsspec.core.url_to_fs(place)
    others = [f"{root}/{name}" for name in ("notes.txt", "ab/notes.txt", "letters/aa.jpg")]
    for path in others:
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        files.pipe_file(path, b"mine")
    assert media.prune(far()) == 1
    files.invalidate_cache()
    assert all(files.exists(path) for path in others)


@pytest.mark.parametrize("content_hash", ["", "../../etc/passwd", "AB" * 32, HASH + "/x"])
def test_what_is_no_hash_is_no_name(media: MediaStore, content_hash: str) -> None:
    with pytest.raises(ValueError, match="no content hash"):
        media.put(content_hash, b"jpeg")


def test_a_check_leaves_nothing_behind(media: MediaStore) -> None:
    media.check()
    assert media.prune(far()) == 0


def test_a_reader_finds_what_is_there(media: MediaStore, place: str) -> None:
    media.put(HASH, b"jpeg")
    existing = existing_media(place)
    assert existing is not None
    assert existing.get(HASH) == b"jpeg"


# -- what cannot work -------------------------------------------------------------------------------


def test_a_reader_makes_no_folder(tmp_path: Path) -> None:
    assert existing_media(tmp_path / "media") is None
    assert not (tmp_path / "media").exists()


@pytest.mark.parametrize(
    ("place", "folder"),
    [
        ("media", Path("media")),
        ("~/media", Path.home() / "media"),
        ("file:///var/my%20media", Path("/var/my media")),
        ("s3://bucket/media", None),
        ("memory://media", None),
    ],
)
def test_a_url_is_no_folder_unless_it_says_file(place: str, folder: Path | None) -> None:
    assert folder_of(place) == folder


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nonsense://bucket/media", "nonsense"),
        ("memory://", "no bucket or folder"),
        ("s3:///", "no bucket or folder"),
        ("file://media", "no absolute path"),
        ("ftp:///", "no bucket or folder"),
    ],
)
def test_a_url_that_cannot_be_is_a_configuration_error(place: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MediaStore(place)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        known_implementations,
        "lacking",
        {"class": "no_such_package.FileSystem", "err": "Install lackingfs to access Lacking"},
    )
    with pytest.raises(ConfigError, match="Install lackingfs"):
        MediaStore("lacking://bucket/media")


def test_a_server_that_is_away_is_transient_and_its_password_is_not_shown() -> None:
    with pytest.raises(TransientError, match="media store") as caught:
        MediaStore(f"ftp://reader:secret@127.0.0.1:{free_port()}/media")
    assert "secret" not in str(caught.value)


def test_a_place_that_only_reads_fails_the_check(tmp_path: Path) -> None:
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", b"an archive")
    with pytest.raises(ConfigError, match="media store"):
        MediaStore(f"zip://media::file://{archive}").check()


def test_a_folder_that_was_taken_away_fails_as_transient(tmp_path: Path) -> None:
    media = MediaStore(f"file://{tmp_path}/media")
    (tmp_path / "media").rmdir()
    with pytest.raises(TransientError, match="media store"):
        media.put(HASH, b"jpeg")
