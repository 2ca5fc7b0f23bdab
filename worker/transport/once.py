"""A sink that remembers what was acknowledged, for all workers together."""

from __future__ import annotations

from collections.abc import Sequence

from worker.coordination.emitted import EmittedPairs
from worker.transport.base import Message, Sink


class OnceSink:
    """A `Sink` in front of another one that remembers the keys of what that acknowledged. One thread only.

    It writes whatever it is given: whoever does not want to write twice asks `known` first. A worker that
    dies between acknowledgement and record writes again, under the same key.
    """

    def __init__(self, sink: Sink, emitted: EmittedPairs) -> None:
        self._sink = sink
        self._emitted = emitted

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the keys that were acknowledged, in this process or another one. May block for Redis."""
        return self._emitted.known(keys)

    def write(self, messages: Sequence[Message]) -> None:
        """Write all, then remember them; blocks until they are acknowledged.

        Raises:
            TransientError: as the sink; nothing was remembered.
        """
        self._sink.write(messages)
        self._emitted.record([message.key for message in messages])

    def close(self) -> None:
        """Close the sink; not Redis, which others share."""
        self._sink.close()
