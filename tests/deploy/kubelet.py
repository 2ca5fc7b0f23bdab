"""What a kubelet does with one container: its probes, its restarts, and how it ends it.

    with Kubelet(container, log=tmp_path / "log", seconds_each=0.1) as kubelet:
        kubelet.wait_for("ready", 60)
        os.kill(kubelet.pid, signal.SIGSTOP)
        kubelet.wait_for("killed by liveness", 60)

The rules are Kubernetes' own. Liveness and readiness are not asked before the startup probe has succeeded.
A container whose startup or liveness probe has failed gets SIGTERM, its grace period and SIGKILL, and is
started anew; one that ended is started anew after a back-off. Readiness only takes it out of service. While
a pod is being deleted, only its readiness is still asked. A status of 200 to 399 in time is a success.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.deploy.pods import Container, Probe

REPOSITORY = Path(__file__).parents[2]
WORKER = (sys.executable, "-m", "worker.cli.main")
_FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S = 10.0, 300.0
_GOOD = range(200, 400)
_LOOK_S = 0.02

Kind = Literal["started", "ready", "unready", "killed by startup", "killed by liveness", "deleted", "ended"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the container.

    Args:
        at_s: since the first start.
        detail: the last answer of the probe, or how the process ended.
    """

    at_s: float
    kind: Kind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended.

    Args:
        status: its exit status; negative for the signal that killed it.
        sent: the last signal that it took.
        took_s: since the first of them.
    """

    status: int
    sent: Literal["nothing", "SIGTERM", "SIGKILL"]
    took_s: float = 0.0


@dataclass(slots=True)
class _Life:
    """One process of the container.

    Args:
        kill: why it is to be killed.
        over: set once it has ended.
    """

    process: subprocess.Popen[bytes]
    is_started: bool
    is_ready: bool = False
    kill: Kind | None = None
    over: threading.Event = field(default_factory=threading.Event)


class Kubelet:
    """Runs one container, restarts it and ends it, from threads of its own. Use it as a context manager.

    Args:
        log: file for what the processes write.
        seconds_each: how long a second of the probes and of the back-off takes here. What they time out
            after is never shortened: the worker does not become quicker.
        grace_each: the same for the grace period.
        entry: what stands for the image's `tini -- entityclip`.
    """

    def __init__(
        self,
        container: Container,
        log: Path,
        *,
        seconds_each: float = 1.0,
        grace_each: float = 1.0,
        entry: Sequence[str] = WORKER,
    ) -> None:
        self.container, self.log = container, log
        self.events: list[Event] = []
        self.ends: list[End] = []
        self._scale, self._grace_s = seconds_each, container.grace_s * grace_each
        self._command = [*entry, *container.command]
        self._environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | dict(container.environment)
        self._happened = threading.Condition()
        self._is_deleted = False
        self._leave = threading.Event()
        self._begun_s = time.monotonic()
        self._life = self._begin()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave.set()
        self._thread.join()

    # -- what tests ask -----------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Of the newest process."""
        return self._life.process.pid

    @property
    def kinds(self) -> list[Kind]:
        """What happened so far, without the details."""
        return [event.kind for event in self.events]

    def wait_for(self, kind: Kind, timeout_s: float, times: int = 1) -> Event:
        """Wait until it has happened so often; the last of them."""
        with self._happened:
            found = self._happened.wait_for(lambda: self.kinds.count(kind) >= times, timeout_s)
            assert found, f"not {times} × {kind!r} in {timeout_s} s but {self.events}: {self.tail()}"
            return [event for event in self.events if event.kind == kind][times - 1]

    def delete(self) -> None:
        """Begin to delete the pod, as a rollout or a drain of the node does."""
        self._is_deleted = True

    def stop(self) -> End:
        """Delete the pod and wait for its end, which comes with the grace period's at the latest."""
        self.delete()
        self.wait_for("ended", self._grace_s + 30, times=self.kinds.count("ended") + 1)
        return self.ends[-1]

    def tail(self) -> str:
        """The end of what the processes wrote."""
        return self.log.read_text(errors="replace")[-2000:]

    # -- the container's lives ----------------------------------------------------------------

    def _run(self) -> None:
        restarts = 0
        while not self._live(self._life):
            back_off_s = min(_FIRST_BACK_OFF_S * 2 ** (restarts - 1), _LONGEST_BACK_OFF_S) if restarts else 0
            if self._leave.wait(back_off_s * self._scale) or self._is_deleted:
                return
            restarts += 1
            self._life = self._begin()

    def _begin(self) -> _Life:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self._command, cwd=REPOSITORY, env=self._environment, stdout=log, stderr=log
            )
        self._note("started", f"process {process.pid}")
        return _Life(process, is_started="startup" not in self.container.probes)

    def _live(self, life: _Life) -> bool:
        """One process from its start to its end; whether it was the last one."""
        askers = [
            threading.Thread(target=self._ask_again_and_again, args=(life, name, probe), daemon=True)
            for name, probe in self.container.probes.items()
        ]
        for thread in askers:
            thread.start()
        while life.process.poll() is None and not (life.kill or self._is_deleted or self._leave.is_set()):
            time.sleep(_LOOK_S)
        if self._leave.is_set():
            life.process.kill()
        end = self._end(life)
        life.over.set()
        for thread in askers:
            thread.join()
        self._note("ended", f"status {end.status} after {end.sent}", end)
        return self._is_deleted or self._leave.is_set()

    def _end(self, life: _Life) -> End:
        """SIGTERM, the grace period, SIGKILL; nothing of it where the process has ended by itself."""
        process, begun_s = life.process, time.monotonic()
        if process.poll() is not None or self._leave.is_set():
            return End(process.wait(), "nothing")
        self._note(life.kill or "deleted")
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(self._grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return End(process.wait(), "SIGKILL", time.monotonic() - begun_s)
        return End(status, "SIGTERM", time.monotonic() - begun_s)

    # -- its probes ---------------------------------------------------------------------------

    def _ask_again_and_again(self, life: _Life, name: str, probe: Probe) -> None:
        said: tuple[bool, int] = (name == "liveness", 0)
        life.over.wait(probe.initial_delay_s * self._scale)
        next_s = time.monotonic()
        while not life.over.wait(max(0.0, next_s - time.monotonic())):
            next_s = max(next_s + probe.period_s * self._scale, time.monotonic())
            if name != "readiness" and (life.kill or self._is_deleted):
                return
            if life.is_started == (name == "startup"):
                continue
            is_good, detail = _ask(probe)
            said = (is_good, said[1] + 1 if said[0] == is_good else 1)
            if said[1] >= (probe.success_threshold if is_good else probe.failure_threshold):
                self._conclude(life, name, is_good, detail)

    def _conclude(self, life: _Life, name: str, is_good: bool, detail: str) -> None:
        if name == "readiness":
            if is_good != life.is_ready:
                life.is_ready = is_good
                self._note("ready" if is_good else "unready", detail)
        elif is_good:
            life.is_started = True
        elif life.kill is None:
            life.kill = "killed by startup" if name == "startup" else "killed by liveness"

    def _note(self, kind: Kind, detail: str = "", end: End | None = None) -> None:
        with self._happened:
            self.events.append(Event(time.monotonic() - self._begun_s, kind, detail))
            if end is not None:
                self.ends.append(end)
            self._happened.notify_all()


def _ask(probe: Probe) -> tuple[bool, str]:
    """Whether the answer is a good one, and what it was."""
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{probe.port}{probe.path}", timeout=probe.timeout_s
        ) as answer:
            return answer.status in _GOOD, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return False, f"{error.code}: {error.read().decode()}"
    except OSError as error:
        return False, str(error)
