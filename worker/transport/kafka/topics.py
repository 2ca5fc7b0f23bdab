"""Topics: there before they are used, and how much a record of theirs may hold."""

from __future__ import annotations

from typing import Any

import structlog
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from kafka.errors import UnknownTopicOrPartitionError as UnknownTopic

from worker.errors import ConfigError
from worker.sections import KafkaConfig
from worker.transport.kafka.connection import admin

log = structlog.stdlib.get_logger("worker.kafka")


def ensure_topic(config: KafkaConfig, topic: str) -> None:
    """See that the topic is there, creating it where `create_topics` allows; blocks for at most about 30 s.

    Raises:
        ConfigError: it is missing and must not be made, or cannot be made, or must not be seen.
        TransientError: no broker answered.
    """
    with admin(config, f"looking for topic {topic}") as client:
        if _describe(client, topic) is not None:
            return
        if not config.create_topics:
            raise ConfigError(f"Kafka has no topic {topic} and kafka.create_topics is off")
        _create(client, config, topic)


def partition_numbers(config: KafkaConfig, topic: str) -> list[int]:
    """The topic's partitions; empty if it is not there. Errors as `ensure_topic`."""
    with admin(config, f"looking for topic {topic}") as client:
        description = _describe(client, topic)
    return sorted(each["partition_index"] for each in (description or {}).get("partitions", ()))


def max_request_bytes(config: KafkaConfig, topic: str) -> int:
    """How large a record of this topic may be, with its key, headers and some 100 bytes of framing.

    The configured size, or the topic's own where that is smaller and may be read. Blocks for a request.
    """
    with admin(config, f"reading the settings of topic {topic}") as client:
        try:
            found = client.describe_configs(
                [ConfigResource(ConfigResourceType.TOPIC, topic, ["max.message.bytes"])], config_filter="all"
            )
        except KafkaError as error:
            log.warning("size limit of a topic not readable", topic=topic, error=type(error).__name__)
            return config.request_bytes
    value = found.get("topic", {}).get(topic, {}).get("max.message.bytes", {}).get("value")
    return min(config.request_bytes, int(value)) if value else config.request_bytes


def _describe(client: KafkaAdminClient, topic: str) -> dict[str, Any] | None:
    """What the cluster says of the topic; None if it is not there."""
    (description,) = client.describe_topics([topic])
    error = for_code(description["error_code"])
    if error is UnknownTopic:
        return None
    if description["error_code"]:
        raise error(topic)
    found: dict[str, Any] = description
    return found


def _create(client: KafkaAdminClient, config: KafkaConfig, topic: str) -> None:
    options = {"num_partitions": config.partitions, "replication_factor": config.replication_factor}
    try:
        client.create_topics({topic: options}, timeout_ms=10_000)
        log.warning("topic created", topic=topic, **options)
    except TopicAlreadyExistsError:
        pass  # another worker was quicker
    client.wait_for_topics([topic], timeout_ms=10_000)
