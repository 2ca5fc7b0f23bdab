"""A real Apache Kafka on this machine: one process, broker and controller at once, loopback only.

    with Broker(folder) as broker:
        KafkaConfig(bootstrap_servers=broker.bootstrap)

The jars come from Maven Central once, into `~/.cache/entityclip-tests` (or `ENTITYCLIP_TEST_CACHE`). Needs
`java` (17 or newer) and `mvn`: on Debian `apt-get install default-jre-headless maven`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tests.ports import free_ports

CACHE_VARIABLE = "ENTITYCLIP_TEST_CACHE"
HEAP = "512m"
STORE_PASSWORD = "of-the-tests"  # of a key that is made anew for each run and is trusted by nobody else
USERS = {"worker": "worker-secret", "stranger": "stranger-secret"}
_POM = Path(__file__).with_name("pom.xml")


class BrokerUnavailable(Exception):
    """A real broker cannot be run here; the message says what is missing and how to get it."""


class Broker:
    """One Kafka broker as a child process. Not thread-safe.

    It dies with the thread that started it, so that a killed test run leaves none behind.

    Args:
        folder: of its data, its settings and its log (`broker.log`); kept over restarts.
        secure: also listen with TLS (`tls_bootstrap`, trusted through `ca_file`) and with SASL
            (`sasl_bootstrap`; PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 for `USERS`), with ACLs enforced
            for topics that have any.
        settings: further lines of server.properties.
    """

    def __init__(self, folder: Path, *, secure: bool = False, settings: dict[str, str] | None = None) -> None:
        self.folder = folder
        self._secure = secure
        self._settings = dict(settings or {})
        self._ports = free_ports(4)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def bootstrap(self) -> str:
        """Where clients connect in the clear, as `host:port`; the same over restarts."""
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def tls_bootstrap(self) -> str:
        """The same with TLS."""
        return f"localhost:{self._ports[2]}"

    @property
    def sasl_bootstrap(self) -> str:
        """The same with SASL, in the clear."""
        return f"localhost:{self._ports[3]}"

    @property
    def ca_file(self) -> Path:
        """What a client of `tls_bootstrap` must trust."""
        return self.folder / "ca.pem"

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self, timeout_s: float = 60.0) -> None:
        """Start it and wait until it takes connections; data of an earlier run are kept.

        Raises:
            BrokerUnavailable: java, mvn or the jars are missing.
            RuntimeError: it ended, or did not come up in time; with the end of its log.
        """
        jars = jars_folder()
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(jars)
        with self._log_file.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [*_die_with_us(), *_java(jars), "kafka.Kafka", str(self._properties_file)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_up(time.monotonic() + timeout_s)

    def stop(self, timeout_s: float = 30.0) -> None:
        """SIGTERM, and wait for its end."""
        self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self._end(signal.SIGKILL, 30.0)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()  # nobody reads its data again, and a clean end takes seconds

    @property
    def _log_file(self) -> Path:
        return self.folder / "broker.log"

    @property
    def _properties_file(self) -> Path:
        return self.folder / "server.properties"

    def _format(self, jars: Path) -> None:
        if self._secure:
            self._make_certificate()
        lines = (f"{name}={value}" for name, value in self._properties().items())
        self._properties_file.write_text("\n".join(lines) + "\n")
        tool = [*_java(jars), "kafka.tools.StorageTool"]
        cluster = _output([*tool, "random-uuid"]).split()[-1]
        scram = [
            f"--add-scram={mechanism}=[name={user},password={password}]"
            for user, password in USERS.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        ]
        _output([*tool, "format", "-t", cluster, "-c", str(self._properties_file), *scram])

    def _make_certificate(self) -> None:
        store = self.folder / "broker.p12"
        common = ["-alias", "broker", "-keystore", str(store), "-storepass", STORE_PASSWORD]
        names = ["-dname", "CN=localhost", "-ext", "SAN=dns:localhost,ip:127.0.0.1"]
        _output(["keytool", "-genkeypair", "-keyalg", "EC", "-validity", "30", *names, *common])
        self.ca_file.write_text(_output(["keytool", "-exportcert", "-rfc", *common]))

    def _properties(self) -> dict[str, str]:
        clear, controller, tls, sasl = self._ports
        listeners = {"CLEAR": f"127.0.0.1:{clear}", "CONTROLLER": f"127.0.0.1:{controller}"}
        if self._secure:
            listeners |= {"TLS": f"localhost:{tls}", "SASL": f"localhost:{sasl}"}
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "CLEAR",
            "listeners": _listeners(listeners),
            "advertised.listeners": _listeners(
                {name: at for name, at in listeners.items() if name != "CONTROLLER"}
            ),
            "listener.security.protocol.map": (
                "CLEAR:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,SASL:SASL_PLAINTEXT"
            ),
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "broker.heartbeat.interval.ms": "500",
            "broker.session.timeout.ms": "2000",  # what a restart after a crash waits for
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "num.network.threads": "2",
            "num.io.threads": "4",
            **(self._security() if self._secure else {}),
            **self._settings,
        }

    def _security(self) -> dict[str, str]:
        plain = " ".join(f'user_{user}="{password}"' for user, password in USERS.items())
        module = "org.apache.kafka.common.security"
        mechanisms = ("plain", "scram-sha-256", "scram-sha-512")
        jaas = {
            f"listener.name.sasl.{name}.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;"
            for name in mechanisms[1:]
        }
        return {
            "ssl.keystore.type": "PKCS12",
            "ssl.keystore.location": str(self.folder / "broker.p12"),
            "ssl.keystore.password": STORE_PASSWORD,
            "ssl.key.password": STORE_PASSWORD,
            "sasl.enabled.mechanisms": ",".join(mechanisms).upper(),
            "listener.name.sasl.plain.sasl.jaas.config": f"{module}.plain.PlainLoginModule required {plain};",
            **jaas,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
            "super.users": "User:ANONYMOUS",
        }

    def _wait_until_up(self, deadline: float) -> None:
        assert self._process is not None
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the broker ended with {self._process.returncode}: {self._log()[-2000:]}")
            if "Kafka Server started" in self._log():  # after that it is registered and not fenced
                return
            time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"the broker did not come up: {self._log()[-2000:]}")

    def _log(self) -> str:
        """What it said since it was last started."""
        with self._log_file.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _end(self, how: signal.Signals, timeout_s: float) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def kafka_version() -> str:
    """The version that the pom names."""
    found = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([^<]+)<", _POM.read_text())
    assert found, "tests/kafka/pom.xml names no kafka_2.13"
    return found[1]


def cache_folder() -> Path:
    """Where tests keep what they fetched or built once."""
    return Path(os.environ.get(CACHE_VARIABLE, Path.home() / ".cache" / "entityclip-tests"))


def jars_folder() -> Path:
    """The folder with Kafka's jars, fetched if need be (45 MB, once; several processes may ask at once).

    Raises:
        BrokerUnavailable: java, mvn or the way to Maven Central is missing.
    """
    if shutil.which("java") is None:
        raise BrokerUnavailable("no java: install a JRE 17 or newer (apt-get install default-jre-headless)")
    cache = cache_folder()
    folder = cache / f"kafka-{kafka_version()}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "kafka.lock"):
        if not folder.is_dir():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    if shutil.which("mvn") is None:
        raise BrokerUnavailable(
            f"no mvn to fetch Kafka with (apt-get install maven), and no jars in {folder}"
        )
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = ["mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies"]
    try:
        _output([*command, f"-DoutputDirectory={partial}"], timeout_s=600)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        raise BrokerUnavailable(f"Maven Central gave no Kafka jars: {error}") from error
    partial.rename(folder)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _java(jars: Path) -> list[str]:
    option = "-Dorg.slf4j.simpleLogger."
    logging = [f"{option}showDateTime=true", f"{option}dateTimeFormat=HH:mm:ss.SSS"]
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"] if (os.cpu_count() or 1) <= 2 else []
    return ["java", f"-Xmx{HEAP}", *quick, *logging, "-cp", f"{jars}/*"]


def _die_with_us() -> list[str]:
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def _output(command: list[str], timeout_s: float = 120) -> str:
    """Standard output of a command; a failure's message ends with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-800:]}")
    return done.stdout


def _listeners(addresses: dict[str, str]) -> str:
    return ",".join(f"{name}://{at}" for name, at in addresses.items())
