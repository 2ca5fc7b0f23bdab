"""The life of the process that owns an embedded store's folder: started, shared, killed, left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import worker
from worker.errors import ConfigError, FatalError, TransientError
from worker.index import Point, Search, VectorIndex
from worker.store.client import Store, open_store
from worker.store.files import FileLock, StoreFiles
from worker.store.process import read_address

DIM = 8
PATIENCE_S = 30.0

# A worker as another process: stores points until told otherwise, saying which are acknowledged.
# SIGINT may be ignored where the tests run (a shell's background job), and that is inherited.
CLIENT = """
import signal, sys, time, uuid
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np
from worker.index import Point, VectorIndex
from worker.store.client import open_store
folder, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open_store(folder) as store:
    index = VectorIndex(store, "news", "model1", 8)
    index.open_or_create()
    for number in range(first, first + count):
        vector = np.random.default_rng(number).standard_normal(8).astype(np.float32)
        id_ = str(uuid.uuid5(uuid.NAMESPACE_URL, str(number)))
        index.upsert([Point(id_, {"text": vector}, {"post_id": str(number), "kind": "text"})])
        print(number, flush=True)
    print("done", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "store"
    assert eventually(lambda: not child_runs(tmp_path / "store")), "a store's process outlived its clients"


@pytest.fixture
def clients() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for client in started:
        client.kill()
        client.communicate()


def start_client(
    clients: list[subprocess.Popen[str]], folder: Path, first: int = 0, count: int = 1
) -> subprocess.Popen[str]:
    root = str(Path(str(worker.__file__)).parents[1])
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(folder), str(first), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
        start_new_session=True,  # a process group of its own, as a terminal gives a command
    )
    clients.append(client)
    return client


def read_until(client: subprocess.Popen[str], line: str) -> list[str]:
    assert client.stdout is not None
    lines: list[str] = []
    for found in client.stdout:
        lines.append(found.strip())
        if found.strip() == line:
            return lines
    pytest.fail(f"the client ended after {lines}: {client.communicate()[1]}")


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def child_runs(folder: Path) -> bool:
    """Whether any process holds the folder: its lock goes with it, however it ends."""
    files = StoreFiles(folder)
    if not files.store_lock.exists():
        return False
    with FileLock(files.store_lock) as lock:
        return not lock.try_shared()


def child_pid(folder: Path) -> int:
    address = read_address(StoreFiles(folder))
    assert address is not None
    return address.pid


def point(number: int) -> Point:
    vector = np.random.default_rng(number).standard_normal(DIM).astype(np.float32)
    id_ = str(uuid.uuid5(uuid.NAMESPACE_URL, str(number)))
    return Point(id_, {"text": vector}, {"post_id": str(number), "kind": "text"})


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[VectorIndex]:
    with open_store(str(folder)) as store:
        index = VectorIndex(store, "news", "model1", DIM)
        index.open_or_create()
        yield index


def stored(folder: Path) -> set[str]:
    with opened(folder) as index:
        return {str(found.payload["post_id"]) for found in index.scroll()}


def test_the_process_leaves_with_its_last_client_and_the_data_stays(folder: Path) -> None:
    with opened(folder) as index:
        index.upsert([point(1)])
        assert child_runs(folder)
    assert not child_runs(folder)
    assert stored(folder) == {"1"}


def test_two_processes_share_one_store(folder: Path, clients: list[subprocess.Popen[str]]) -> None:
    other = start_client(clients, folder, first=0, count=5)
    read_until(other, "done")
    with opened(folder) as index:
        pid = child_pid(folder)
        (hits,) = index.search([Search("text", point(3).vectors["text"], limit=1)])
        assert hits[0].payload["post_id"] == "3"
        assert other.communicate("\n")[1] == ""
        index.upsert([point(9)])  # the first client has gone; the process stays for us
        assert child_pid(folder) == pid
        assert index.count() == 6


def test_clients_that_start_together_start_one_process(
    folder: Path, clients: list[subprocess.Popen[str]]
) -> None:
    started = [start_client(clients, folder, first=10 * number, count=3) for number in range(3)]
    for client in started:
        read_until(client, "done")
    assert len(stored(folder)) == 9
    log = StoreFiles(folder).log.read_text()
    assert "another process holds" not in log
    assert [client.communicate("\n")[1] for client in started] == ["", "", ""]


def test_interrupt_from_the_terminal_ends_the_client_and_leaves_no_process(
    folder: Path, clients: list[subprocess.Popen[str]]
) -> None:
    client = start_client(clients, folder, count=2)
    read_until(client, "done")
    pid = child_pid(folder)
    assert os.getpgid(pid) != client.pid
    os.killpg(client.pid, signal.SIGINT)
    client.wait(PATIENCE_S)
    assert eventually(lambda: not child_runs(folder))
    assert stored(folder) == {"0", "1"}


def test_a_killed_client_leaves_no_process(folder: Path, clients: list[subprocess.Popen[str]]) -> None:
    client = start_client(clients, folder)
    read_until(client, "done")
    assert child_runs(folder)
    client.kill()
    assert eventually(lambda: not child_runs(folder))


def test_a_killed_process_is_a_transient_error_and_the_retry_starts_it_anew(folder: Path) -> None:
    with opened(folder) as index:
        index.upsert([point(1)])
        killed = child_pid(folder)
        os.kill(killed, signal.SIGKILL)
        assert eventually(lambda: not child_runs(folder))
        with pytest.raises(TransientError, match="vector store"):
            index.upsert([point(2)])
        index.upsert([point(2)])
        assert child_pid(folder) != killed
        assert index.count() == 2


def test_everything_acknowledged_survives_kills_in_the_middle_of_writing(
    folder: Path, clients: list[subprocess.Popen[str]]
) -> None:
    acknowledged: set[str] = set()
    for attempt in range(3):
        client = start_client(clients, folder, first=1000 * attempt, count=1000)
        acknowledged.update(read_until(client, str(1000 * attempt + 5 * (attempt + 1))))
        os.kill(child_pid(folder), signal.SIGKILL)
        rest = client.communicate()[0].split()
        assert "done" not in rest
        acknowledged.update(rest)
    assert len(acknowledged) >= 30
    assert acknowledged <= stored(folder)


def test_a_process_asked_to_stop_is_started_again_by_the_next_request(folder: Path) -> None:
    with opened(folder) as index:
        index.upsert([point(1)])
        os.kill(child_pid(folder), signal.SIGTERM)
        assert eventually(lambda: not child_runs(folder))
        with pytest.raises(TransientError):
            index.count()
        assert index.count() == 1


def test_nobody_loads_a_folder_that_another_process_holds(folder: Path) -> None:
    with opened(folder) as index:
        index.upsert([point(1)])
        root = str(Path(str(worker.__file__)).parents[1])
        second = subprocess.run(
            [sys.executable, "-m", "worker.store.server", str(folder)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": root},
            timeout=60,
            check=False,
        )
        assert second.returncode == 69
        assert "another process holds the store" in second.stderr
        index.upsert([point(2)])
        assert index.count() == 2


def test_the_socket_is_for_its_owner_only(folder: Path) -> None:
    with opened(folder):
        address = read_address(StoreFiles(folder))
        assert address is not None
        assert address.socket.stat().st_mode & 0o077 == 0


# -- folders that cannot be a store ---------------------------------------------------------------


def refused(target: Path, *, create: bool = True) -> str:
    with pytest.raises(ConfigError) as caught:
        open_store(str(target), create=create)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_reader_does_not_make_a_store(folder: Path) -> None:
    assert "there is no store" in refused(folder, create=False)
    assert not folder.exists()


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused(tmp_path / "file")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("x")
    assert "holds no store" in refused(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["letter.txt"]


def test_a_store_of_another_engine_is_named(folder: Path) -> None:
    open_store(str(folder)).close()
    content = json.loads(StoreFiles(folder).format.read_text())
    StoreFiles(folder).format.write_text(json.dumps(content | {"engine_version": "0.1.2"}))
    assert "written by qdrant-edge-py 0.1.2" in refused(folder)


def test_a_damaged_collection_is_named(folder: Path) -> None:
    with opened(folder) as index:
        name = index.collection
    (StoreFiles(folder).collections / name / "shard" / "edge_config.json").write_text("{")
    assert name in refused(folder)


def test_a_failing_write_makes_the_process_start_afresh(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(folder) as index:
        index.upsert([point(1)])
        shard = StoreFiles(folder).collections / index.collection / "shard" / "segments"
        first = child_pid(folder)
        moved = shard.with_name("moved")
        shard.rename(moved)  # flushing cannot work any more
        with pytest.raises((TransientError, FatalError)):
            index.upsert([point(2)])
        moved.rename(shard)
        assert eventually(lambda: not child_runs(folder))
        assert eventually(lambda: counts(index) >= 1)
        assert child_pid(folder) != first


def counts(index: VectorIndex) -> int:
    try:
        return index.count()
    except TransientError:
        return 0


def test_closing_twice_is_harmless(folder: Path) -> None:
    store: Store = open_store(str(folder))
    store.close()
    store.close()
