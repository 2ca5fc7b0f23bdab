"""File locks and atomic files of an embedded store's folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from worker.store.files import FileLock, StoreFiles, replace_json


def test_many_may_share_a_lock_and_none_may_own_it_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock(path) as one, FileLock(path) as two, FileLock(path) as owner:
        assert one.try_shared()
        assert two.try_shared()
        assert not owner.try_exclusive()
        one.release()
        two.release()
        assert owner.try_exclusive()
        assert not one.try_shared()


def test_closing_releases_the_lock_and_may_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    owner = FileLock(path)
    assert owner.try_exclusive()
    owner.close()
    owner.close()
    with FileLock(path) as other:
        assert other.wait_exclusive(0.0)


def test_waiting_ends_with_the_timeout(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock(path) as owner, FileLock(path) as other:
        assert owner.try_exclusive()
        assert not other.wait_shared(0.05)


def test_a_crash_before_the_rename_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "aliases.json"
    replace_json(path, {"a": "old"})

    def crash(source: object, target: object) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="power cut"):
        replace_json(path, {"a": "new"})
    assert json.loads(path.read_text()) == {"a": "old"}


def test_a_folder_is_a_store_from_its_first_client_on(tmp_path: Path) -> None:
    files = StoreFiles(tmp_path)
    assert not files.is_store()
    FileLock(files.clients_lock).close()
    assert files.is_store()
