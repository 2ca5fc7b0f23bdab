"""A group member as a process, to be killed: `python -m tests.kafka.member SERVERS GROUP TOPIC NOTE`.

It leaves the note with every partition that it gets a record of, says so, and goes on polling.
"""

from __future__ import annotations

import sys

from worker.observe.logs import configure_logging
from worker.observe.metrics import Metrics
from worker.sections import KafkaConfig
from worker.transport.kafka.source import KafkaSource


def main(servers: str, group: str, topic: str, note: str) -> None:
    """Never returns."""
    configure_logging("warning")  # standard output is for what is read from it
    config = KafkaConfig(bootstrap_servers=servers, group=group, session_timeout_s=2.0)
    source = KafkaSource(config, topic, Metrics())
    while True:
        for record in source.poll(0.1):
            source.mark({record.partition: note})
            print("marked", record.partition.number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
