"""What the Kafka client's errors mean to the worker.

ConfigError      credentials, permissions, names and settings that no repetition makes right
FatalError       records that cannot be read
TooLarge         records that cannot be written (a FatalError)
TransientError   everything else: a broker that is away, a group that rebalances, a client that broke
"""

from __future__ import annotations

from collections.abc import Sequence

from kafka import errors as kafka_errors

from worker.errors import ConfigError, FatalError, TransientError, WorkerError

_CONFIGURATION = (
    kafka_errors.AuthorizationError,
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
    kafka_errors.SecurityDisabledError,
    kafka_errors.UnacceptableCredentialError,
    kafka_errors.KafkaConfigurationError,
    kafka_errors.UnsupportedVersionError,
    kafka_errors.UnrecognizedBrokerVersion,
    kafka_errors.UnsupportedCompressionTypeError,
    kafka_errors.UnsupportedForMessageFormatError,
    kafka_errors.InvalidTopicError,
    kafka_errors.InvalidPartitionsError,
    kafka_errors.InvalidReplicationFactorError,
    kafka_errors.InvalidReplicationAssignmentError,
    kafka_errors.InvalidConfigurationError,
    kafka_errors.InvalidGroupIdError,
    kafka_errors.InvalidSessionTimeoutError,
    kafka_errors.InvalidRequiredAcksError,
    kafka_errors.InconsistentGroupProtocolError,  # members of another assignor are in the group
    kafka_errors.PolicyViolationError,
)
_UNREADABLE = (kafka_errors.CorruptRecordError, kafka_errors.UnsupportedCodecError)
_TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)


class TooLarge(FatalError):
    """Messages are larger than the topic takes; the others of the batch were written.

    Args:
        indices: of these messages in the batch.
    """

    def __init__(self, topic: str, indices: Sequence[int], sizes: Sequence[int]) -> None:
        largest = max(sizes, default=0)
        super().__init__(f"{len(indices)} messages are too large for topic {topic}: up to {largest} bytes")
        self.indices = tuple(indices)


def mapped(error: Exception, doing: str) -> WorkerError:
    """The worker's error for one of the client's.

    Args:
        doing: what was being done, to begin the message with.
    """
    message = f"Kafka: {doing}: {describe(error)}"
    if isinstance(error, _CONFIGURATION):
        return ConfigError(message)
    if isinstance(error, _UNREADABLE + _TOO_LARGE):
        return FatalError(message)
    return TransientError(message)


def is_too_large(error: BaseException) -> bool:
    """Whether a message was refused for its size."""
    return isinstance(error, _TOO_LARGE)


def is_unreadable(error: Exception) -> bool:
    """Whether it came from the bytes of a record: a bad checksum, or anything that is no Kafka error."""
    return isinstance(error, _UNREADABLE) or not isinstance(error, kafka_errors.KafkaError)


def asks_for_poll(error: BaseException) -> bool:
    """Whether a commit failed for a change in the group: a poll brings that on, and tells what is ours."""
    return isinstance(error, kafka_errors.CommitFailedError | kafka_errors.RebalanceInProgressError)


def describe(error: Exception) -> str:
    """One line: the error's name and what it says."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return text if name in text else f"{name}: {text}" if text else name
