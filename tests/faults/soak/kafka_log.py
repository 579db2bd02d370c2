"""A topic on a real broker, seen by librdkafka: the product uses another client."""

import base64
import contextlib
import random
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from tests.faults.soak.journal import Journal, Place
from tests.faults.soak.logs import Sender
from tests.faults.soak.records import content_of, segment_of, value_of
from tests.services.processes import wait_until

_PATIENCE_S = 60.0
_QUIET = {"log_level": 0}  # a broker that is being killed is no news


class KafkaLog:
    """A topic on a real broker."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, *, copies: int = 1) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        self.partitions = partitions
        self._copies = copies
        self._admin = AdminClient({"bootstrap.servers": bootstrap, **_QUIET})
        self.create()

    @property
    def url(self) -> str:
        return f"kafka://{self.bootstrap}/{self.topic}"

    def create(self) -> None:
        """Make the topic, and wait until it can be described."""

        def done() -> bool:
            wanted = NewTopic(self.topic, num_partitions=self.partitions, replication_factor=self._copies)
            try:
                self._admin.create_topics([wanted])[self.topic].result(_PATIENCE_S)
            except KafkaException as failure:
                # The former topic of this name is still being deleted.
                return bool(failure.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS and self._is_described())
            return True

        wait_until(done, f"topic {self.topic}")
        wait_until(self._is_described, f"topic {self.topic} described")

    def recreate(self, *, pause: Callable[[], None] = lambda: None) -> None:
        """Delete the topic and make it anew under its name."""
        former = self.topic_id()
        self._admin.delete_topics([self.topic])[self.topic].result(_PATIENCE_S)
        wait_until(lambda: not self._is_described(), f"topic {self.topic} deleted")
        pause()
        self.create()
        wait_until(lambda: self.topic_id() != former, f"topic {self.topic} made anew")

    def add_partitions(self, partitions: int) -> None:
        """Raise the number of partitions."""
        self._admin.create_partitions([NewPartitions(self.topic, partitions)])[self.topic].result(_PATIENCE_S)
        wait_until(lambda: len(self._describe().partitions) == partitions, f"{partitions} partitions")
        self.partitions = partitions

    def delete_records(self, before: Mapping[int, int]) -> None:
        """What retention does: nothing below these offsets is left."""
        places = [TopicPartition(self.topic, number, offset) for number, offset in before.items()]
        for future in self._admin.delete_records(places).values():
            future.result(_PATIENCE_S)

    def leader(self, partition: int) -> int:
        """The broker that serves a partition."""
        return int(self._describe().partitions[partition].leader.id)

    def topic_id(self) -> str:
        encoded = str(self._describe().topic_id)
        return str(uuid.UUID(bytes=base64.urlsafe_b64decode(encoded + "==")))

    def sender(self, journal: Journal) -> Sender:
        return _KafkaSender(self, journal)

    def transactional_sender(self, journal: Journal, rng: random.Random, aborted_share: float) -> Sender:
        """A producer whose transactions fail now and then."""
        return _TransactionalSender(self, journal, rng, aborted_share)

    def committed(self) -> dict[tuple[int, int], bytes]:
        found: dict[tuple[int, int], bytes] = {}
        with contextlib.closing(self._consumer()) as consumer:
            for number in range(self.partitions):
                consumer.assign([TopicPartition(self.topic, number, 0)])
                while True:
                    message = consumer.poll(_PATIENCE_S)
                    assert message is not None, f"{self.topic}/{number} cannot be read"
                    failure = message.error()
                    if failure is not None and failure.code() == KafkaError._PARTITION_EOF:
                        break
                    if failure is not None:
                        raise KafkaException(failure)
                    offset = message.offset()
                    assert offset is not None
                    found[number, offset] = content_of(message.value())
        return found

    def ends(self) -> dict[int, int]:
        with contextlib.closing(self._consumer()) as consumer:
            return {
                number: int(consumer.get_watermark_offsets(TopicPartition(self.topic, number), _PATIENCE_S)[1])
                for number in range(self.partitions)
            }

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                **_QUIET,
                "group.id": f"oracle-{uuid.uuid4().hex}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
            }
        )

    def _describe(self) -> Any:
        return self._admin.describe_topics(TopicCollection([self.topic]))[self.topic].result(_PATIENCE_S)

    def _is_described(self) -> bool:
        try:
            return len(self._describe().partitions) == self.partitions
        except KafkaException:
            return False


def _producer(log: KafkaLog, **more: object) -> Producer:
    return Producer(
        {
            "bootstrap.servers": log.bootstrap,
            **_QUIET,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "topic.metadata.refresh.interval.ms": 1_000,
            "message.timeout.ms": 600_000,  # outlives every fault: each record is acknowledged in the end
            **more,
        }
    )


class _KafkaSender:
    """Idempotent; each record goes to a partition that its number decides."""

    def __init__(self, log: KafkaLog, journal: Journal) -> None:
        self._log = log
        self._journal = journal
        self._topic_id = log.topic_id()
        self._producer = _producer(log)
        self._failure: Exception | None = None

    def send(self, number: int) -> None:
        _produce(self._producer, self._log, number, self._delivered(number))
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        unsent = self._producer.flush(_PATIENCE_S * 5)
        assert unsent == 0, f"{unsent} records were never acknowledged"
        if self._failure is not None:
            raise self._failure

    def _delivered(self, number: int) -> Callable[[KafkaError | None, Message], None]:
        def note(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failure = KafkaException(error)
                return
            self._journal.acknowledge(_place(self._topic_id, message), number)

        return note


class _TransactionalSender:
    """Fifty records a transaction, of which some are aborted and sent anew by nobody."""

    _SIZE = 50

    def __init__(self, log: KafkaLog, journal: Journal, rng: random.Random, aborted_share: float) -> None:
        self._log = log
        self._journal = journal
        self._rng = rng
        self._aborted_share = aborted_share
        self._topic_id = log.topic_id()
        patience = {"transaction.timeout.ms": 120_000, "message.timeout.ms": 120_000}
        self._producer = _producer(log, **{"transactional.id": f"soak-{uuid.uuid4().hex}", **patience})
        self._producer.init_transactions(_PATIENCE_S)
        self._open: dict[Place, int] = {}
        self._count = 0

    def send(self, number: int) -> None:
        if self._count == 0:
            self._producer.begin_transaction()
        _produce(self._producer, self._log, number, self._delivered(number))
        self._count += 1
        if self._count == self._SIZE:
            self._end()

    def finish(self) -> None:
        if self._count:
            self._end()

    def _end(self) -> None:
        self._producer.flush(_PATIENCE_S)
        assert len(self._open) == self._count, f"{self._count - len(self._open)} records were never acknowledged"
        if self._rng.random() < self._aborted_share:
            self._producer.abort_transaction(_PATIENCE_S)
            self._journal.abort(dict(self._open))
        else:
            self._producer.commit_transaction(_PATIENCE_S)
            for place, number in self._open.items():
                self._journal.acknowledge(place, number)
        self._open.clear()
        self._count = 0

    def _delivered(self, number: int) -> Callable[[KafkaError | None, Message], None]:
        def note(error: KafkaError | None, message: Message) -> None:
            if error is None:
                self._open[_place(self._topic_id, message)] = number

        return note


def _produce(
    producer: Producer, log: KafkaLog, number: int, delivered: Callable[[KafkaError | None, Message], None]
) -> None:
    while True:
        try:
            producer.produce(
                log.topic,
                value_of(number),
                partition=number % log.partitions,
                headers=[("segment", segment_of(number).encode())],
                on_delivery=delivered,
            )
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def _place(topic_id: str, message: Message) -> Place:
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return Place(topic_id, partition, offset)
