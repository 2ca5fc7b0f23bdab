"""Search graphs built beside the served shard: nobody waits for them, and nothing written is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from qdrant_client.http import models as m

import worker
from worker.errors import ConfigError
from worker.store import files as files_module
from worker.store import graphs, shard
from worker.store.catalog import Catalog
from worker.store.client import open_store
from worker.store.collection import Collection
from worker.store.files import FileLock, StoreFiles
from worker.store.graphs import BuildFailed
from worker.store.process import read_address
from worker.store.shard import EngineError, Stopped
from worker.store.upkeep import Upkeep, optimize_when_due

DIM = 1024  # wide, so that few points already are worth a search graph
COUNT = 300
PATIENCE_S = 60.0

# A server of its own that is killed at a seam of a build, after it has written one more point.
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.integration.test_store_graphs import COUNT, upsert
from worker.store import files, graphs, shard
from worker.store.catalog import Catalog
from worker.store.files import FileLock, StoreFiles
store, seam, when = StoreFiles(Path(sys.argv[1])), sys.argv[2], sys.argv[3]
lock = FileLock(store.store_lock)
assert lock.try_exclusive()
lock.share_with_children()
collection = Catalog.open(store).get("a")
module, name = {"files": files, "graphs": graphs, "shard": shard}[seam.split(".")[0]], seam.split(".")[1]
start = graphs._start
def write(*arguments):
    builder = start(*arguments)
    upsert(collection, COUNT)
    print("acknowledged", flush=True)
    return builder
graphs._start = write
real = getattr(module, name)
def kill(*arguments):
    if when == "after":
        real(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, name, kill)
collection.build_graphs()
"""


# The real server, which builds for fewer points than it does by default.
SERVER = """
import sys
from pathlib import Path
from worker.store.catalog import Catalog
from worker.store.files import FileLock, StoreFiles
from worker.store.server import StoreServer
files = StoreFiles(Path(sys.argv[1]))
with FileLock(files.store_lock) as lock:
    assert lock.try_exclusive()
    lock.share_with_children()
    catalog = Catalog.open(files)
    sound = StoreServer(files, catalog, optimize_after=100).run()
    catalog.close()
sys.exit(0 if sound else 1)
"""


def wanted() -> m.CreateCollection:
    return m.CreateCollection(vectors={"text": m.VectorParams(size=DIM, distance=m.Distance.COSINE)})


def vector(number: int) -> list[float]:
    values: list[float] = np.random.default_rng(number).standard_normal(DIM).astype(np.float32).tolist()
    return values


def upsert(collection: Collection, *numbers: int) -> None:
    rows = [
        m.PointStruct.model_construct(id=number, vector={"text": vector(number)}, payload={"n": number})
        for number in numbers
    ]
    collection.upsert(rows, only_if=None, mode=None)


def fill(collection: Collection) -> None:
    upsert(collection, *range(COUNT))


def nearest(collection: Collection, number: int) -> object:
    request = m.QueryRequest(query=vector(number), using="text", limit=1)
    return collection.query([request])[0][0]["id"]


def ids(collection: Collection) -> set[int]:
    page = collection.scroll(m.ScrollRequest(limit=10_000, with_payload=False))
    return {point["id"] for point in page["points"]}


def builders(parent: int) -> list[int]:
    """Processes that `parent` has started to build graphs."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if folder.name.isdigit() and int(status[1]) == parent and b"worker.store.optimize" in command:
            found.append(int(folder.name))
    return found


def eventually(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class Build:
    """A build on a thread of its own, whose process stands still from its start until `go_on`."""

    def __init__(self, collection: Collection) -> None:
        self.error: Exception | None = None
        self._collection = collection
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert eventually(lambda: builders(os.getpid()))
        (self.pid,) = builders(os.getpid())
        os.kill(self.pid, signal.SIGSTOP)

    def _run(self) -> None:
        try:
            self._collection.build_graphs()
        except (BuildFailed, Stopped, EngineError) as error:
            self.error = error

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self.join()

    def join(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


@pytest.fixture
def files(tmp_path: Path) -> StoreFiles:
    return StoreFiles(tmp_path)


@pytest.fixture
def catalog(files: StoreFiles) -> Iterator[Catalog]:
    with closing(Catalog.open(files)) as opened:
        opened.create("a", wanted())
        yield opened


@pytest.fixture
def collection(catalog: Catalog) -> Collection:
    found = catalog.get("a")
    fill(found)
    return found


@contextmanager
def reopened(files: StoreFiles, catalog: Catalog) -> Iterator[Collection]:
    catalog.close()
    with closing(Catalog.open(files)) as again:
        yield again.get("a")


def shards(files: StoreFiles) -> list[str]:
    return sorted(path.name for path in (files.collections / "a").glob("shard*") if path.is_dir())


def test_requests_are_answered_while_graphs_are_built(collection: Collection) -> None:
    building = Build(collection)
    assert nearest(collection, 7) == 7
    upsert(collection, COUNT)
    assert nearest(collection, COUNT) == COUNT
    building.go_on()
    assert building.error is None
    assert collection.info().indexed_vectors_count == COUNT
    assert ids(collection) == set(range(COUNT + 1))
    assert nearest(collection, 7) == 7
    assert nearest(collection, COUNT) == COUNT


def test_writes_of_every_kind_made_during_a_build_are_there_afterwards(
    files: StoreFiles, catalog: Catalog, collection: Collection
) -> None:
    building = Build(collection)
    write_in_every_way(collection)
    before = state(collection)
    building.go_on()
    assert building.error is None
    assert state(collection) == before
    with reopened(files, catalog) as again:
        assert state(again) == before
    assert shards(files) == ["shard-1"]


def write_in_every_way(collection: Collection) -> None:
    few = m.Filter(must=[m.FieldCondition(key="n", range=m.Range(lt=5))])
    collection.create_index(m.CreateFieldIndex(field_name="n", field_schema=m.PayloadSchemaType.INTEGER))
    collection.delete(m.FilterSelector(filter=few))
    collection.delete(m.PointIdsList(points=[10, 11]))
    upsert(collection, 2, 11, COUNT + 1)
    unseen = [
        m.PointStruct(id=number, vector={"text": vector(1)}, payload={"n": -1}) for number in (20, 9999)
    ]
    collection.upsert(unseen, only_if=None, mode=m.UpdateMode.INSERT_ONLY)
    rare = m.Filter(must=[m.FieldCondition(key="n", match=m.MatchValue(value=21))])
    changed = [m.PointStruct(id=id_, vector={"text": vector(3)}, payload={"n": -2}) for id_ in (21, 22)]
    collection.upsert(changed, only_if=rare, mode=m.UpdateMode.UPDATE_ONLY)
    collection.update_vectors([m.PointVectors(id=30, vector={"text": vector(4000)})], only_if=None)
    above = m.Filter(must=[m.FieldCondition(key="n", range=m.Range(gt=COUNT - 10))])
    collection.set_payload(m.SetPayload(payload={"late": True}, filter=above), overwrite=False)
    collection.set_payload(m.SetPayload(payload={"only": 1}, points=[40]), overwrite=True)
    collection.delete_payload(m.DeletePayload(keys=["n"], points=[41]))


def state(collection: Collection) -> list[object]:
    """Every point with its payload and vector, and what is indexed."""
    page = collection.scroll(m.ScrollRequest(limit=10_000, with_payload=True, with_vector=True))
    return [*page["points"], {key: index.points for key, index in collection.info().payload_schema.items()}]


def test_a_builder_that_is_killed_costs_a_line_and_a_later_try(
    collection: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    upkeep = Upkeep(optimize_after=COUNT)
    thread = threading.Thread(target=upkeep.run, args=(collection, 60.0))
    thread.start()
    assert eventually(lambda: builders(os.getpid()))
    os.kill(builders(os.getpid())[0], signal.SIGKILL)
    thread.join(PATIENCE_S)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "no search graphs built, next try in 60 s: the builder ended with -9: no message"
    ]
    upkeep.run(collection, 60.0)  # not yet
    assert collection.unoptimized() == COUNT
    upsert(collection, COUNT)
    assert optimize_when_due(collection, due=1)
    assert ids(collection) == set(range(COUNT + 1))


def test_a_failed_build_leaves_no_copy(files: StoreFiles, collection: Collection) -> None:
    building = Build(collection)
    os.kill(building.pid, signal.SIGKILL)
    building.join()
    assert isinstance(building.error, BuildFailed)
    assert shards(files) == ["shard"]


def test_without_room_for_a_copy_nothing_is_built(
    files: StoreFiles, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "_ROOM", 1 << 40)
    with pytest.raises(BuildFailed, match="MiB are free"):
        collection.build_graphs()
    assert shards(files) == ["shard"]


def test_more_writes_than_are_kept_end_the_build_and_are_not_lost(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "JOURNAL_BYTES", 1)
    building = Build(collection)
    upsert(collection, COUNT, COUNT + 1)
    building.join()
    assert isinstance(building.error, BuildFailed)
    assert ids(collection) == set(range(COUNT + 2))


def test_what_is_kept_while_graphs_are_built_is_counted_with_its_payloads(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "JOURNAL_BYTES", 1 << 20)
    building = Build(collection)
    collection.set_payload(m.SetPayload(payload={"article": "word " * 60_000}, points=[0]), overwrite=False)
    building.join()
    assert isinstance(building.error, BuildFailed)


def test_a_shard_that_cannot_be_opened_leaves_the_others_alone(
    files: StoreFiles, catalog: Catalog, collection: Collection
) -> None:
    catalog.close()
    (folder,) = files.collections.iterdir()
    (folder / "shard.json").write_text('{"shard": "shard-1"}')
    with pytest.raises(EngineError):
        shard.Shard.load(folder)
    assert shards(files) == ["shard"]


def test_points_that_were_replaced_call_for_new_graphs(catalog: Catalog) -> None:
    collection = catalog.get("a")
    fill(collection)
    assert optimize_when_due(collection, due=COUNT)
    fill(collection)
    assert optimize_when_due(collection, due=COUNT)
    assert not optimize_when_due(collection, due=COUNT)


def test_closing_gives_a_build_up(files: StoreFiles, catalog: Catalog, collection: Collection) -> None:
    building = Build(collection)
    catalog.close()
    building.join()
    assert isinstance(building.error, Stopped)
    assert shards(files) == ["shard"]
    assert builders(os.getpid()) == []


def test_a_collection_is_deleted_while_its_graphs_are_built(
    files: StoreFiles, catalog: Catalog, collection: Collection
) -> None:
    building = Build(collection)
    assert catalog.delete("a")
    building.join()
    assert isinstance(building.error, Stopped)
    assert list(files.collections.iterdir()) == []


def test_a_disk_that_fails_at_the_switch_keeps_the_old_shard(
    files: StoreFiles, catalog: Catalog, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: object, target: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(BuildFailed, match="disk full"):
            collection.build_graphs()
    upsert(collection, COUNT)
    with reopened(files, catalog) as again:
        assert ids(again) == set(range(COUNT + 1))


def test_a_switch_of_unknown_outcome_ends_the_process_and_loses_nothing(
    files: StoreFiles, catalog: Catalog, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files_module.replace_json

    def half(path: Path, content: object) -> None:
        real(path, content)
        raise OSError("the folder could not be flushed")

    with monkeypatch.context() as patched:
        patched.setattr(shard, "replace_json", half)
        with pytest.raises(EngineError) as raised:
            collection.build_graphs()
    assert raised.value.while_writing
    assert shards(files) == ["shard", "shard-1"]
    with pytest.raises(EngineError, match="unknown which shard"):
        upsert(collection, COUNT)  # it would be acknowledged in a shard that nobody opens again
    with reopened(files, catalog) as again:
        assert ids(again) == set(range(COUNT))


def test_graphs_are_built_again_on_top_of_graphs(files: StoreFiles, catalog: Catalog) -> None:
    collection = catalog.get("a")
    for turn in range(3):
        upsert(collection, *range(COUNT * turn, COUNT * (turn + 1)))
        assert optimize_when_due(collection, due=COUNT)
        assert collection.unoptimized() == 0
    assert shards(files) == ["shard-3"]
    with reopened(files, catalog) as again:
        assert ids(again) == set(range(3 * COUNT))


@pytest.mark.parametrize("content", ["[]", "{", '{"shard": "../b"}'])
def test_a_damaged_pointer_is_a_configuration_error(
    files: StoreFiles, catalog: Catalog, content: str
) -> None:
    catalog.close()
    (files.collections / "a" / "shard.json").write_text(content)
    with pytest.raises(ConfigError, match="cannot open the collection"):
        Catalog.open(files)


@pytest.mark.parametrize(
    ("seam", "when", "current"),
    [
        pytest.param("files._copy_file", "after", "shard", marks=pytest.mark.slow),
        ("graphs._start", "after", "shard"),
        pytest.param("shard._load", "after", "shard", marks=pytest.mark.slow),
        ("shard.replace_json", "before", "shard"),
        ("shard.replace_json", "after", "shard-1"),
        pytest.param("shard._delete", "before", "shard-1", marks=pytest.mark.slow),
    ],
)
def test_a_server_killed_at_any_moment_of_a_build_loses_nothing(
    files: StoreFiles, catalog: Catalog, collection: Collection, seam: str, when: str, current: str
) -> None:
    catalog.close()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(files.root), seam, when],
        capture_output=True,
        text=True,
        cwd=Path(str(worker.__file__)).parents[1],
        timeout=PATIENCE_S,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with FileLock(files.store_lock) as lock:
        assert lock.wait_exclusive(PATIENCE_S), "the builder outlived the server"
        with reopened(files, catalog) as again:
            survived = ids(again)
    assert survived == set(range(COUNT + ("acknowledged" in killed.stdout)))
    assert shards(files) == [current]


def test_a_server_leaves_with_its_last_client_though_it_is_building(
    files: StoreFiles, catalog: Catalog, collection: Collection
) -> None:
    catalog.close()
    with FileLock(files.clients_lock) as client:
        assert client.try_shared()
        root = Path(str(worker.__file__)).parents[1]
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(files.root)], cwd=root)
        try:
            assert eventually(lambda: read_address(files) and builders(server.pid))
            (builder,) = builders(server.pid)
            os.kill(builder, signal.SIGSTOP)
            with open_store(str(files.root)) as store:
                assert store.call(store.client.count, "a").count == COUNT
            client.close()
            assert server.wait(PATIENCE_S) == 0
        finally:
            server.kill()
            server.wait()
    assert not Path(f"/proc/{builder}").exists()
    assert shards(files) == ["shard"]
