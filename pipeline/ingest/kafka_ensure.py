"""Make a topic, or say in what an existing one differs from what was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError

from pipeline.errors import UsageError
from pipeline.ingest.kafka_client import make_client
from pipeline.ingest.kafka_errors import answer_to
from pipeline.ingest.kafka_options import KafkaOptions

_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class TopicWish:
    """What a topic shall be; None = as it is, or as the brokers' own defaults make it."""

    partitions: int | None = None
    replication: int | None = None
    retention_hours: float | None = None


@dataclass(frozen=True, slots=True)
class TopicState:
    """What a topic is."""

    topic: str
    topic_id: str
    created: bool
    partitions: int
    replication: int
    retention_hours: float | None  # None keeps everything
    differences: tuple[str, ...]  # each with its cure


def ensure_topic(options: KafkaOptions, wish: TopicWish, *, timeout_s: float) -> TopicState:
    """Create the topic where there is none; never change one that exists."""
    try:
        with make_client(KafkaAdminClient, **options.for_admin(timeout_s=timeout_s)) as admin:
            created = _create(admin, options.topic, wish)
            admin.wait_for_topics([options.topic], timeout_ms=int(timeout_s * 1000))
            (described,) = admin.describe_topics([options.topic])
            resource = ConfigResource(ConfigResourceType.TOPIC, options.topic)
            configs = admin.describe_configs([resource], config_filter="all")
    except (KafkaError, OSError, RuntimeError, ValueError) as error:
        raise answer_to(error, options) from error
    return _state(described, _values(configs), created, wish)


def _create(admin: Any, topic: str, wish: TopicWish) -> bool:
    if topic in admin.list_topics():
        return False
    keep_ms = None if wish.retention_hours is None else int(wish.retention_hours * _HOUR_MS)
    wanted = {
        "num_partitions": wish.partitions or -1,
        "replication_factor": wish.replication or -1,
        "configs": {} if keep_ms is None else {"retention.ms": str(keep_ms)},
    }
    try:
        admin.create_topics({topic: wanted})
    except TopicAlreadyExistsError:
        return False  # somebody was quicker
    return True


def _state(topic: Mapping[str, Any], configs: Mapping[str, str], created: bool, wish: TopicWish) -> TopicState:
    partitions = len(topic["partitions"])
    replication = min(len(partition["replica_nodes"]) for partition in topic["partitions"])
    keep_ms = int(configs["retention.ms"])
    hours = None if keep_ms < 0 else keep_ms / _HOUR_MS
    differences = []
    if wish.partitions not in {None, partitions}:
        more = "raise it with Kafka's own tools (keys then map to other partitions)"
        cure = more if (wish.partitions or 0) > partitions else "it cannot be lowered: name another topic"
        differences.append(f"partitions: {partitions}, asked for {wish.partitions}; {cure}")
    if wish.replication not in {None, replication}:
        differences.append(
            f"replication: {replication}, asked for {wish.replication}; reassign its partitions with Kafka's own tools"
        )
    if wish.retention_hours is not None and wish.retention_hours != hours:
        asked = int(wish.retention_hours * _HOUR_MS)
        differences.append(f"retention.ms: {keep_ms}, asked for {asked}; alter the topic's configuration")
    if configs["cleanup.policy"] != "delete":
        differences.append(
            f"cleanup.policy: {configs['cleanup.policy']}; images that share a key would be dropped unread: use delete"
        )
    return TopicState(
        topic=str(topic["name"]),
        topic_id=str(topic["topic_id"]),
        created=created,
        partitions=partitions,
        replication=replication,
        retention_hours=hours,
        differences=tuple(differences),
    )


def _values(described: Any) -> dict[str, str]:
    """Name → value of the one topic that was asked about."""
    ((_, topics),) = described.items()
    ((topic, configs),) = topics.items()
    if not configs:
        raise UsageError(f"{topic}: its configuration may not be read; grant this user DescribeConfigs on it")
    return {name: str(config["value"]) for name, config in configs.items()}
