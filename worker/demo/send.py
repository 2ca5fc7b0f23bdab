"""The demo's stream into a topic, for a worker that is already there."""

from __future__ import annotations

import base64
import itertools
import json
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from worker.config import load_config
from worker.demo.stream import Stream, StreamConfig, write_stream
from worker.errors import ConfigError
from worker.observe.logs import configure_logging
from worker.observe.metrics import Metrics
from worker.signals import stop_on_signal
from worker.transport.base import Message
from worker.transport.kafka.sink import KafkaSink
from worker.transport.spec import parse_spec

_NAP_S = 0.1  # how late a stop may be noticed between two posts


@dataclass(frozen=True, slots=True)
class SendOptions:
    """Where the posts go, and how many.

    Args:
        to: `kafka:TOPIC`; the brokers are those of the configuration.
        seed: of the first round; each further one has the next.
        rate: posts a second; None for as fast as they are taken.
        rounds: how often a stream is drawn and sent; 0 for ever.
        config: a TOML file.
    """

    to: str
    seed: int = 0
    rate: float | None = None
    rounds: int = 1
    config: Path | None = None


class Sender:
    """Sends rounds until they are done or it is stopped. For one thread; `stop` is for a signal's handler.

    Args:
        sink: where the messages go; it returns once they are acknowledged.
        rate: messages a second; None for no pause.
    """

    def __init__(self, sink: KafkaSink, rate: float | None) -> None:
        self._sink = sink
        self._rate = rate
        self._stopped = False

    def stop(self) -> None:
        """Send nothing more but what is under way."""
        self._stopped = True

    def send(self, messages: Sequence[Message]) -> int:
        """Send all, unless it is stopped; blocks for as long as the rate says.

        Returns:
            How many were sent.

        Raises:
            TransientError, ConfigError, TooLarge: as `KafkaSink.write`.
        """
        started, sent = time.monotonic(), 0
        while sent < len(messages) and not self._stopped:
            wanted = due(len(messages), self._rate, time.monotonic() - started)
            if wanted > sent:
                self._sink.write(messages[sent:wanted])
                sent = wanted
            else:
                time.sleep(min(_NAP_S, 1 / (self._rate or 1)))
        return sent


def due(count: int, rate: float | None, seconds: float) -> int:
    """How many of so many messages must be out after that time; the first at once."""
    return count if rate is None else min(count, 1 + int(seconds * rate))


def send(options: SendOptions) -> bool:
    """Draw streams and send them, one line printed for each; until SIGTERM or Ctrl-C at most.

    Returns:
        Whether it was Ctrl-C.

    Raises:
        ConfigError: `to` is no topic, or the configuration is wrong.
        TransientError: no broker answered, or some posts may be unwritten.
    """
    config = load_config(options.config)
    spec = parse_spec(options.to, "receiver")
    if spec.kind != "kafka":
        raise ConfigError(f"posts are sent to a topic: write kafka:TOPIC, not {options.to!r}")
    configure_logging(config.log_level, config.log_format)
    sink = KafkaSink(config.kafka, spec.name, Metrics())
    try:
        sender = Sender(sink, options.rate)
        with stop_on_signal(sender) as received:
            for seed in _seeds(options):
                if received:
                    break
                _send_round(sender, seed, f"{options.to} at {config.kafka.bootstrap_servers}")
            return signal.SIGINT in received
    finally:
        sink.close()


def _seeds(options: SendOptions) -> Iterator[int]:
    seeds = itertools.count(options.seed)
    return itertools.islice(seeds, options.rounds) if options.rounds else seeds


def _send_round(sender: Sender, seed: int, where: str) -> None:
    with TemporaryDirectory(prefix="entityclip-send-") as folder:
        stream = write_stream(Path(folder), StreamConfig(seed=seed))
        messages = list(_messages(stream, seed))
    sent = sender.send(messages)
    of_all = "" if sent == len(messages) else f" of {len(messages)}"
    print(
        f"{sent}{of_all} posts of seed {seed} sent to {where}, {stream.broken} broken on purpose", flush=True
    )


def _messages(stream: Stream, seed: int) -> Iterator[Message]:
    """Each line of the stream as a record whose key is the post's id."""
    for number, line in enumerate(stream.path.read_bytes().splitlines()):
        try:
            post = json.loads(line)
        except ValueError:  # one of the broken posts
            post = {}
        key = str(post.get("id", f"demo-{seed}-line-{number}")).encode()
        yield Message(key, _with_pictures(line, post, stream.path.parent))


def _with_pictures(line: bytes, post: dict[str, object], folder: Path) -> bytes:
    """The line with its pictures' files embedded: the receiver may be on another machine."""
    images = post.get("images")
    paths = [image["path"] for image in images if "path" in image] if isinstance(images, list) else []
    if not paths:
        return line
    embedded = [{"data": base64.b64encode((folder / path).read_bytes()).decode("ascii")} for path in paths]
    return json.dumps({**post, "images": embedded}, ensure_ascii=False).encode()
