"""What the brokers say about a topic. Asked anew each time, over a client of its own."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import CorruptRecordError, KafkaError, UnknownTopicOrPartitionError

from pipeline.errors import EnvironmentFault, UsageError
from pipeline.ingest.kafka_client import make_client
from pipeline.ingest.kafka_errors import answer_to
from pipeline.ingest.kafka_options import KafkaOptions
from pipeline.ingest.kafka_record import to_record
from pipeline.records import Bounds, LogRetention, Partition, Record

_UNKNOWN_TOPIC = 3  # error code of a topic's metadata
_READ_COMMITTED = "read_committed"
_READ_PATIENCE_MS = 10_000


class KafkaTopic:
    """One topic by its name; notices when it was deleted and made anew. Used by one thread at a time."""

    def __init__(self, options: KafkaOptions, *, timeout_s: float = 10.0) -> None:
        self._options = options
        self._timeout_s = timeout_s
        self._client: Any = None
        self._existed = False

    @property
    def name(self) -> str:
        """The topic's name."""
        return self._options.topic

    def topic_id(self) -> str:
        """The present incarnation's id.

        Raises UsageError where there never was such a topic, EnvironmentFault where it is gone or no
        broker answers.
        """
        return str(self._described()["topic_id"])

    def bounds(self, partitions: Collection[int] | None = None) -> list[Bounds]:
        """First offset, and the one behind the last that a reader of committed records can reach."""
        while True:
            described = self._described()
            topic_id = str(described["topic_id"])
            numbers = sorted(partition["partition_index"] for partition in described["partitions"])
            if partitions is not None:
                if missing := set(partitions) - set(numbers):
                    raise EnvironmentFault(f"{self._options.address}: has no partition {min(missing)}")
                numbers = sorted(partitions)
            begins = self._offsets(dict.fromkeys(numbers, OffsetSpec.EARLIEST))
            ends = self._offsets(dict.fromkeys(numbers, OffsetSpec.LATEST))
            if self.topic_id() == topic_id:  # else it was made anew in between, and the offsets are not its own
                return [Bounds(Partition(self.name, topic_id, n), begins[n], ends[n]) for n in numbers]

    def offset_at(self, partition: int, timestamp_us: int) -> int:
        """The first offset whose record is not older than the time, else the end."""
        at_ms = -(-timestamp_us // 1000)
        found = self._offsets({partition: at_ms})[partition]
        return found if found >= 0 else self._offsets({partition: OffsetSpec.LATEST})[partition]

    def first_readable(self, partition: int, offset: int) -> int:
        """The first offset from here on at which the client does not stumble over damaged bytes.

        In steps of one, because only the damaged batch itself knows where it ends.
        """
        (bounds,) = self.bounds([partition])
        place = TopicPartition(self.name, partition)
        with self._answered():
            reader = make_client(KafkaConsumer, **self._options.for_reader(timeout_s=self._timeout_s))
            try:
                reader.assign([place])
                while offset < bounds.end:
                    reader.seek(place, offset)
                    try:
                        if reader.poll(timeout_ms=_READ_PATIENCE_MS) or reader.position(place, timeout_ms=0) > offset:
                            return offset
                    except CorruptRecordError:
                        offset += 1  # never the same offset again: the client would spin on it
                        continue
                    raise EnvironmentFault(f"{self._options.address}: nothing came from partition {partition}")
                return offset
            finally:
                reader.close(autocommit=False, timeout_ms=1000)

    def records_at(self, partition: int, offsets: Collection[int]) -> Iterator[Record]:
        """The records at these offsets, ascending; those that are gone, or damaged, are left out."""
        (bounds,) = self.bounds([partition])
        place = TopicPartition(self.name, partition)
        with self._answered():
            reader = make_client(KafkaConsumer, **self._options.for_reader(timeout_s=self._timeout_s))
            try:
                reader.assign([place])
                for offset in sorted(at for at in offsets if bounds.beginning <= at < bounds.end):
                    reader.seek(place, offset)
                    with suppress(CorruptRecordError):
                        for message in reader.poll(timeout_ms=_READ_PATIENCE_MS).get(place, []):
                            if message.offset == offset:  # else it was a hole
                                yield to_record(bounds.partition, message)
            finally:
                reader.close(autocommit=False, timeout_ms=1000)

    def max_record_bytes(self) -> int | None:
        """The largest batch, and so the largest record, that the brokers take; None where they do not say."""
        return _limit(self._configs(), "max.message.bytes")

    def retention(self) -> LogRetention:
        """How much the brokers keep; nothing is known where they do not let this user describe configurations."""
        configs = self._configs()
        if "delete" not in configs.get("cleanup.policy", ""):
            return LogRetention()
        time_ms, size = _limit(configs, "retention.ms"), _limit(configs, "retention.bytes")
        return LogRetention(None if time_ms is None else timedelta(milliseconds=time_ms), size)

    def close(self) -> None:
        """Let go of connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _configs(self) -> Mapping[str, str]:
        """The topic's settings; none where the brokers do not say."""
        resource = ConfigResource(ConfigResourceType.TOPIC, self.name)
        with self._answered():
            described = self._admin().describe_configs([resource], config_filter="all")
        return {name: found["value"] for name, found in described.get("topic", {}).get(self.name, {}).items()}

    def _described(self) -> Mapping[str, Any]:
        with self._answered():
            (topic,) = self._admin().describe_topics([self.name])
        if topic["error_code"] == _UNKNOWN_TOPIC:
            raise self._unknown()
        if topic["error_code"] or not topic["partitions"]:
            raise EnvironmentFault(f"{self._options.address}: the brokers are not ready (code {topic['error_code']})")
        self._existed = True
        return dict(topic)

    def _offsets(self, specs: Mapping[int, OffsetSpec | int]) -> dict[int, int]:
        places = {TopicPartition(self.name, number): spec for number, spec in specs.items()}
        with self._answered():
            found = self._admin().list_partition_offsets(places, isolation_level=_READ_COMMITTED)
        return {place.partition: int(at.offset) for place, at in found.items()}

    def _admin(self) -> Any:
        if self._client is None:
            self._client = make_client(KafkaAdminClient, **self._options.for_admin(timeout_s=self._timeout_s))
        return self._client

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Whatever the client raises as one line. A client that has failed is made anew."""
        try:
            yield
        except (EnvironmentFault, UsageError):
            raise
        except UnknownTopicOrPartitionError as error:
            raise self._unknown() from error
        except (KafkaError, OSError, RuntimeError, ValueError) as error:
            self.close()
            raise answer_to(error, self._options) from error

    def _unknown(self) -> EnvironmentFault | UsageError:
        where = self._options.address
        if self._existed:
            return EnvironmentFault(f"{where}: the topic has been deleted; waiting until it exists again")
        return UsageError(f"{where}: there is no such topic; make it with `oodwatch topics ensure --source {where}`")


def _limit(configs: Mapping[str, str], name: str) -> int | None:
    """A setting in which -1 means that there is no limit."""
    value = int(configs.get(name, -1))
    return None if value < 0 else value
