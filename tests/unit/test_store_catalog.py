"""Collections and aliases on disk: whole after a crash, searchable before and after optimising."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from qdrant_client.http import models as m

from worker.errors import ConfigError
from worker.store.catalog import AlreadyExists, Catalog, NotFound
from worker.store.files import StoreFiles
from worker.store.server import LOG_BYTES, bound_log, socket_path
from worker.store.shard import EngineError
from worker.store.translate import BadRequest
from worker.store.upkeep import optimize_when_due

DIM = 1024  # wide, so that few points already are worth a search graph to the engine


def wanted(dim: int = 4) -> m.CreateCollection:
    return m.CreateCollection(vectors={"text": m.VectorParams(size=dim, distance=m.Distance.COSINE)})


def alias(name: str, target: str) -> m.ChangeAliasesOperation:
    create = m.CreateAlias(collection_name=target, alias_name=name)
    return m.ChangeAliasesOperation(actions=[m.CreateAliasOperation(create_alias=create)])


@pytest.fixture
def files(tmp_path: Path) -> StoreFiles:
    return StoreFiles(tmp_path)


@pytest.fixture
def catalog(files: StoreFiles) -> Iterator[Catalog]:
    opened = Catalog.open(files)
    yield opened
    opened.close()


def test_collections_and_aliases_are_there_after_reopening(files: StoreFiles, catalog: Catalog) -> None:
    catalog.create("a", wanted())
    catalog.change_aliases(alias("current", "a"))
    catalog.get("current").upsert([m.PointStruct(id=1, vector={"text": [1.0] * 4})], only_if=None, mode=None)
    catalog.close()
    again = Catalog.open(files)
    assert again.aliases() == {"current": "a"}
    assert again.get("current").count(m.CountRequest()) == 1
    again.close()


def test_a_collection_half_made_or_half_deleted_is_swept(files: StoreFiles, catalog: Catalog) -> None:
    catalog.create("a", wanted())
    catalog.close()
    (files.collections / ".new-b" / "shard").mkdir(parents=True)
    (files.collections / ".gone-c").mkdir()
    again = Catalog.open(files)
    assert again.names() == ["a"]
    assert [folder.name for folder in files.collections.iterdir()] == ["a"]
    again.close()


def test_a_failed_change_of_aliases_changes_nothing(
    files: StoreFiles, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.create("a", wanted())
    catalog.change_aliases(alias("current", "a"))

    def crash(source: object, target: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", crash)
        with pytest.raises(OSError, match="disk full"):
            catalog.change_aliases(alias("more", "a"))
    assert catalog.aliases() == {"current": "a"}
    assert json.loads(files.aliases.read_text()) == {"current": "a"}


def test_aliases_are_renamed_and_deleted(catalog: Catalog) -> None:
    catalog.create("a", wanted())
    catalog.change_aliases(alias("old", "a"))
    rename = m.RenameAliasOperation(rename_alias=m.RenameAlias(old_alias_name="old", new_alias_name="new"))
    catalog.change_aliases(m.ChangeAliasesOperation(actions=[rename]))
    assert catalog.aliases() == {"new": "a"}
    with pytest.raises(NotFound):
        catalog.change_aliases(m.ChangeAliasesOperation(actions=[rename]))
    delete = m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name="new"))
    catalog.change_aliases(m.ChangeAliasesOperation(actions=[delete]))
    assert catalog.aliases() == {}


def test_names_of_collections_and_aliases_do_not_meet(catalog: Catalog) -> None:
    catalog.create("a", wanted())
    catalog.create("b", wanted())
    catalog.change_aliases(alias("current", "a"))
    with pytest.raises(AlreadyExists):
        catalog.create("a", wanted())
    with pytest.raises(BadRequest, match="Alias with the same name"):
        catalog.create("current", wanted())
    with pytest.raises(BadRequest, match="already exists"):
        catalog.change_aliases(alias("b", "a"))


@pytest.mark.parametrize("content", ["[]", "{", '"x"'])
def test_a_damaged_alias_file_is_a_configuration_error(files: StoreFiles, content: str) -> None:
    Catalog.open(files).close()
    files.aliases.write_text(content)
    with pytest.raises(ConfigError, match=str(files.root)):
        Catalog.open(files)


def test_using_a_deleted_collection_is_an_engine_error_and_not_a_crash(catalog: Catalog) -> None:
    catalog.create("a", wanted())
    held = catalog.get("a")
    assert catalog.delete("a")
    assert not catalog.delete("a")
    with pytest.raises(EngineError):
        held.count(m.CountRequest())


def test_optimising_waits_until_it_is_due_and_keeps_the_answers(catalog: Catalog) -> None:
    catalog.create("a", wanted(DIM))
    collection = catalog.get("a")
    vectors = np.random.default_rng(0).standard_normal((300, DIM)).astype(np.float32)
    rows = [
        m.PointStruct.model_construct(id=row, vector={"text": vector.tolist()}, payload={})
        for row, vector in enumerate(vectors)
    ]
    collection.upsert(rows, only_if=None, mode=None)
    request = m.QueryRequest(query=vectors[7].tolist(), using="text", limit=1)
    assert collection.unoptimized() == 300
    assert not optimize_when_due(collection, due=301)
    assert collection.query([request])[0][0]["id"] == 7
    assert optimize_when_due(collection, due=300)
    assert collection.unoptimized() == 0
    assert collection.query([request])[0][0]["id"] == 7


def test_a_long_log_is_cut_and_one_older_part_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "store.log"
    with open(log, "ab", buffering=0) as stream:
        stream.write(b"x" * (LOG_BYTES + 1))
        bound_log(log)
        stream.write(b"next\n")
    assert log.read_bytes() == b"next\n"
    assert (tmp_path / "store.log.1").stat().st_size == LOG_BYTES + 1


def test_a_socket_path_is_short_and_its_temporary_folder_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    deep = Path("/") / ("d" * 120)
    path = socket_path(deep)
    assert path == socket_path(deep)
    assert path != socket_path(Path("/") / ("e" * 120))
    assert path.parent.parent == temporary
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.chmod(0o755)
    with pytest.raises(ConfigError, match="not a private folder"):
        socket_path(deep)
