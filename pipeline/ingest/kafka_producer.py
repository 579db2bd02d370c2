"""Appending to a Kafka topic: every record is acknowledged by all in-sync brokers, once, or reported."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from kafka import KafkaProducer
from kafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from pipeline.errors import EnvironmentFault, UsageError
from pipeline.ingest.kafka_errors import answer_to
from pipeline.ingest.kafka_options import KafkaOptions
from pipeline.ingest.kafka_topic import KafkaTopic
from pipeline.ingest.spool import NewRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: One record's own fault; the others of its batch are unaffected.
_REFUSALS = (
    InvalidRecordError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TypeError,
    ValueError,
)
_FLUSH_S = 5.0

Place = tuple[int, int]  # partition, offset


class KafkaAppender:
    """Appends with an idempotent producer. Keys choose partitions as in every Kafka client (murmur2)."""

    def __init__(
        self,
        options: KafkaOptions,
        *,
        timeout_s: float = 10.0,
        on_refused: Callable[[NewRecord, str], None] | None = None,
        make_producer: Callable[..., Any] = KafkaProducer,
    ) -> None:
        """Raises UsageError where there is no such topic, EnvironmentFault where no broker answers."""
        self._options = options
        self._timeout_s = timeout_s
        self._on_refused = on_refused
        topic = KafkaTopic(options, timeout_s=timeout_s)
        try:
            topic.topic_id()
        finally:
            topic.close()
        try:
            self._producer = make_producer(**options.for_producer(timeout_s=timeout_s))
        except (KafkaError, OSError, RuntimeError, ValueError) as error:
            raise answer_to(error, options) from error

    def append(self, records: Sequence[NewRecord]) -> list[Place | None]:
        """Append and wait for every acknowledgement; (partition, offset) of each, None where refused.

        Raises UsageError at a refused record unless `on_refused` takes it, EnvironmentFault where the
        brokers did not answer in time; both say how many records are known to be on the log.
        """
        waiting = [self._sent(record) for record in records]
        places: list[Place | None] = []
        refused: list[tuple[NewRecord, str]] = []
        failure: Exception | None = None
        for record, outcome in zip(records, waiting, strict=True):
            answer = self._awaited(outcome)
            places.append(answer if isinstance(answer, tuple) else None)
            if isinstance(answer, _REFUSALS):
                refused.append((record, str(answer) or type(answer).__name__))
            elif isinstance(answer, Exception):
                failure = failure or answer
        known = f"{sum(place is not None for place in places)} of these {len(records)} records are on the log"
        if failure is not None:
            fault = answer_to(failure, self._options)
            raise type(fault)(f"{fault}; {known}")
        for record, why in refused:
            if self._on_refused is None:
                raise UsageError(f"{self._options.address} refused a record: {why}; {known}")
            self._on_refused(record, why)
        return places

    def close(self) -> None:
        """Let go of connections; nothing is waiting."""
        self._producer.close(timeout=_FLUSH_S)

    def _sent(self, record: NewRecord) -> Any:
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
        except (*_REFUSALS, KafkaError) as error:
            return error

    def _awaited(self, outcome: Any) -> Place | Exception:
        if isinstance(outcome, Exception):
            return outcome
        try:
            sent = outcome.get(timeout=2 * self._timeout_s)
        except (*_REFUSALS, KafkaError) as error:
            return error
        if sent.offset < 0:
            return EnvironmentFault("acknowledged without an offset")
        return int(sent.partition), int(sent.offset)
