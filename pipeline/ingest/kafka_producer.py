"""Appending to a Kafka topic: every record is acknowledged by all in-sync brokers, once, or reported."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError

from pipeline.errors import UsageError
from pipeline.ingest.kafka_client import make_client
from pipeline.ingest.kafka_errors import answer_to
from pipeline.ingest.kafka_options import KafkaOptions
from pipeline.ingest.kafka_topic import KafkaTopic
from pipeline.ingest.source import NewRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOSE_S = 5.0

Place = tuple[int, int]  # partition, offset


class KafkaAppender:
    """Appends with an idempotent producer. Keys choose partitions as in every Kafka client (murmur2)."""

    def __init__(
        self,
        options: KafkaOptions,
        *,
        timeout_s: float = 10.0,
        on_refused: Callable[[NewRecord, str], None] | None = None,
    ) -> None:
        """Raises UsageError where there is no such topic, EnvironmentFault where no broker answers."""
        self._options = options
        self._timeout_s = timeout_s
        self._on_refused = on_refused
        topic = KafkaTopic(options, timeout_s=timeout_s)
        try:
            topic.topic_id()
            self._config = options.for_producer(timeout_s=timeout_s, max_record_bytes=topic.max_record_bytes())
        finally:
            topic.close()
        self._producer: Any = None

    def append(self, records: Sequence[NewRecord]) -> list[Place | None]:
        """Append and wait for every acknowledgement; (partition, offset) of each, None where refused.

        A refused record (too large, no value and no key) is told to `on_refused`, or raises UsageError.
        Where the brokers fail a batch the error says how many of these records are known to be on the log.
        """
        if self._producer is None:
            self._producer = self._made()
        waiting = [self._sent(record) for record in records]
        answers = [None if outcome is None else self._awaited(outcome) for outcome in waiting]
        places = [None if isinstance(answer, KafkaError) else answer for answer in answers]
        failure = next((answer for answer in answers if isinstance(answer, KafkaError)), None)
        if failure is not None:
            # An idempotent producer may be of no use after a failed batch, and does not say so.
            self.close()
            fault = answer_to(failure, self._options)
            known = sum(place is not None for place in places)
            raise type(fault)(f"{fault}; {known} of these {len(records)} records are known to be on the log")
        return places

    def close(self) -> None:
        """Let go of connections; nothing is waiting."""
        if self._producer is not None:
            self._producer.close(timeout=_CLOSE_S)
            self._producer = None

    def _made(self) -> Any:
        try:
            return make_client(KafkaProducer, **self._config)
        except (KafkaError, OSError, RuntimeError, ValueError) as error:
            raise answer_to(error, self._options) from error

    def _sent(self, record: NewRecord) -> Any:
        """A future; None for a record that the client itself refuses."""
        timestamp = None if record.timestamp is None else (record.timestamp - _EPOCH) // timedelta(milliseconds=1)
        try:
            return self._producer.send(
                self._options.topic,
                value=record.value,
                key=record.key,
                headers=list(record.headers),
                partition=record.partition,
                timestamp_ms=timestamp,
            )
        except MessageSizeTooLargeError:
            limit = self._config.get("max_request_size", "?")
            self._refuse(record, f"over the topic's limit of {limit} bytes; raise its max.message.bytes")
            return None
        except (TypeError, ValueError) as error:
            self._refuse(record, str(error))
            return None
        except KafkaError as error:
            self.close()
            raise answer_to(error, self._options) from error

    def _refuse(self, record: NewRecord, why: str) -> None:
        if self._on_refused is None:
            raise UsageError(f"{self._options.address} refused a record: {why}")
        self._on_refused(record, why)

    def _awaited(self, outcome: Any) -> "Place | KafkaError":
        try:
            sent = outcome.get(timeout=2 * self._timeout_s)
        except KafkaError as error:
            return error
        return int(sent.partition), int(sent.offset)
