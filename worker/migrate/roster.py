"""Which workers are alive, and which models each of them writes: the roster of an alias.

Each worker keeps one point in the collection `<alias>-control` of the same store and renews it every ten
seconds; what was not renewed for a minute counts as gone. `entityclip migrate` reads it: the alias may only
move while everybody writes both collections. Clocks may differ by less than that minute.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog
from qdrant_client.http import models as m

from worker.errors import FatalError, TransientError
from worker.index import alias_target, collection_name
from worker.store.client import Refused, Store

_BEAT_S = 10.0
GONE_S = 60.0
_LEAVE_S = 5.0
_CONFLICT = 409
_PAGE = 1000
_VECTORS = {"beat": m.VectorParams(size=1, distance=m.Distance.DOT)}

log = structlog.stdlib.get_logger("worker.migrate.roster")


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker that was heard of within the last minute.

    Args:
        name: `HOST:PID`.
        models: ids of the models whose collections it writes.
        age_s: since it was last heard of.
    """

    name: str
    models: tuple[str, ...]
    age_s: float


def control_collection(alias: str) -> str:
    """Where the workers of an alias announce themselves."""
    return f"{alias}-control"


def live_workers(store: Store, alias: str, now: float | None = None) -> list[LiveWorker]:
    """The workers that were heard of within the last minute, by name.

    Args:
        now: seconds since 1970, in place of the clock.

    Raises:
        TransientError: the store is away.
        FatalError: the store refuses.
    """
    control = control_collection(alias)
    if not store.call(store.client.collection_exists, control):
        return []
    moment = time.time() if now is None else now
    rows, _ = store.call(store.client.scroll, control, limit=_PAGE, with_payload=True)
    found = [_worker(row.payload or {}, moment) for row in rows]
    return sorted((worker for worker in found if worker.age_s < GONE_S), key=lambda worker: worker.name)


class Announcement:
    """Keeps a worker on the roster for as long as the context is open, from a thread of its own.

    It also sees where the alias moves to a model that this worker does not write.

    Args:
        models: ids of the models that it writes.
        beat_s: between two renewals.
    """

    def __init__(self, store: Store, alias: str, models: Sequence[str], *, beat_s: float = _BEAT_S) -> None:
        self._store = store
        self._alias = alias
        self._models = tuple(models)
        self._beat_s = beat_s
        self._id = str(uuid.uuid4())
        self._control = control_collection(alias)
        self._leave = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="roster", daemon=True)

    def __enter__(self) -> Self:
        """Announce; blocks until the store has it.

        Raises:
            TransientError: the store is away.
            FatalError: the store refuses.
        """
        _make(self._store, self._control)
        self._forget_gone()
        self.beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it off; a store that is away finds out after a minute."""
        self._leave.set()
        self._thread.join(_LEAVE_S)  # its last call may take as long as the store's timeout
        if self._thread.is_alive():
            log.warning("still on the roster for a minute", error="the store does not answer")

    def check(self) -> None:
        """Any thread; does not block.

        Raises:
            FatalError: the alias names a model that this worker does not write, or the thread died.
        """
        if self._failure is not None:
            raise FatalError(f"roster: {self._failure}") from self._failure

    def beat(self) -> None:
        """Renew it once.

        Raises:
            FatalError: the alias names a model that this worker does not write; or the store refuses.
            TransientError: the store is away.
        """
        target = alias_target(self._store, self._alias)
        written = [collection_name(self._alias, model) for model in self._models]
        if target is not None and target not in written:
            raise FatalError(
                f"the alias {self._alias!r} moved to {target!r}, which this worker does not write "
                f"({', '.join(written)}): start it anew with that model"
            )
        payload = {
            "worker": f"{socket.gethostname()}:{os.getpid()}",
            "models": list(self._models),
            "seen_at": time.time(),
        }
        point = m.PointStruct(id=self._id, vector={"beat": [1.0]}, payload=payload)
        self._store.call(self._store.client.upsert, self._control, [point], wait=True)

    def _run(self) -> None:
        try:
            self._renew()
            self._leave.wait()  # also after a failure: the worker still writes until it has ended
            self._call_delete(m.PointIdsList(points=[self._id]))
        except BaseException as error:  # the thread's root; at the end the store may be closed under it
            log.warning("still on the roster for a minute", error=str(error))

    def _renew(self) -> None:
        while not self._leave.wait(self._beat_s):
            try:
                self.beat()
            except TransientError as error:
                log.warning("not renewed on the roster", error=str(error))
            except BaseException as error:
                if not self._leave.is_set():  # otherwise the store was closed under it
                    self._failure = error
                return

    def _forget_gone(self) -> None:
        """Workers that were killed leave their points behind."""
        old = m.FieldCondition(key="seen_at", range=m.Range(lt=time.time() - GONE_S))
        self._call_delete(m.FilterSelector(filter=m.Filter(must=[old])))

    def _call_delete(self, selector: m.PointIdsList | m.FilterSelector) -> None:
        self._store.call(self._store.client.delete, self._control, selector, wait=True)


def _make(store: Store, control: str) -> None:
    if store.call(store.client.collection_exists, control):
        return
    try:
        store.call(store.client.create_collection, control, _VECTORS)
    except Refused as error:
        if error.status != _CONFLICT:  # another worker was faster
            raise
    store.call(store.client.create_payload_index, control, "seen_at", m.PayloadSchemaType.FLOAT, wait=True)


def _worker(payload: dict[str, object], now: float) -> LiveWorker:
    models, seen_at = payload.get("models"), payload.get("seen_at")
    return LiveWorker(
        name=str(payload.get("worker", "?")),
        models=tuple(map(str, models)) if isinstance(models, list) else (),
        age_s=now - seen_at if isinstance(seen_at, int | float) else float("inf"),
    )
