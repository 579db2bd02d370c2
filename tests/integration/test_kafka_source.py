"""The whole path on a real broker: Kafka, worker, SQLite."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from sqlalchemy import create_engine, text

from dashboard.originals import Expired, Original
from pipeline.assembly.originals import LogOriginals
from pipeline.assembly.working import run_worker
from pipeline.errors import EnvironmentFault, InconsistentLog, UsageError
from pipeline.ingest.kafka_options import read_options
from pipeline.ingest.kafka_producer import KafkaAppender
from pipeline.ingest.kafka_subscription import KafkaSubscription
from pipeline.ingest.kafka_topic import KafkaTopic
from pipeline.ingest.source import NewRecord
from pipeline.records import Partition
from pipeline.settings import Settings, SourceSettings, load_settings
from pipeline.stages.flow import Progress
from tests.services.kafka import KafkaBroker, MakeTopic, NamedBroker
from tests.services.processes import wait_until
from tests.tiny import Deployment, make_deployment, png

pytestmark = pytest.mark.integration

Broker = KafkaBroker | NamedBroker
#: Quick to notice what changes; the broker of these tests allows short sessions.
QUICK: dict[str, str | int | float | bool] = {
    "metadata_max_age_ms": 500,
    "session_timeout_ms": 6_000,
    "heartbeat_interval_ms": 300,
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return make_deployment(tmp_path_factory.mktemp("template"))


@dataclass(frozen=True)
class Site:
    """One deployment on one topic."""

    bootstrap: str
    topic: str
    home: Path
    model: Path

    @property
    def url(self) -> str:
        return f"kafka://{self.bootstrap}/{self.topic}"

    @property
    def database(self) -> str:
        return f"sqlite:///{self.home / 'oodwatch.db'}"

    def settings(self, **kafka: str | int | float | bool) -> Settings:
        return load_settings(
            database=self.database,
            source=SourceSettings(url=self.url, kafka={**QUICK, **kafka}),
            model=self.model,
            deployment=self.topic,
            worker={"max_batch": 16},
        )

    def produce(self, values: list[bytes | None], *, partitions: int = 1) -> list[tuple[int, int] | None]:
        appender = KafkaAppender(read_options(self.url, {}))
        places = appender.append(
            [NewRecord(value, key=b"k", partition=i % partitions) for i, value in enumerate(values)]
        )
        appender.close()
        return places

    def drain(self, **kafka: str | int | float | bool) -> Progress:
        return run_worker(self.settings(**kafka), start_at="earliest", drain=True, stop=threading.Event())

    def query(self, statement: str) -> list[tuple[object, ...]]:
        engine = create_engine(self.database)
        with engine.connect() as conn:
            rows = [tuple(row) for row in conn.execute(text(statement))]
        engine.dispose()
        return rows

    def stored(self) -> int:
        return int(str(self.query("SELECT coalesce(sum(scored + dead), 0) FROM stream")[0][0]))

    def account(self) -> list[tuple[object, ...]]:
        """Per stream: produced, scored, dead, expired, skipped, holes; closed, or an assertion fails."""
        rows = self.query(
            "SELECT log_end - start_offset, scored, dead, expired, skipped, holes, log_end - next_offset"
            " FROM stream ORDER BY id"
        )
        assert all(row[0] == sum(map(int, row[1:])) for row in rows), rows  # type: ignore[arg-type]
        return [row[:6] for row in rows]

    @contextmanager
    def working(self, **kafka: str | int | float | bool) -> Iterator[None]:
        """A worker in a thread of its own; what ended it before its time is raised."""
        stop = threading.Event()
        failure: list[BaseException] = []

        def work() -> None:
            try:
                run_worker(self.settings(**kafka), start_at="earliest", drain=False, stop=stop)
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(60)
            if failure:
                raise failure[0]


@pytest.fixture
def site(kafka: Broker, kafka_topic: MakeTopic, template: Deployment, tmp_path: Path) -> Site:
    (tmp_path / "oodwatch.db").write_bytes((template.home / "oodwatch.db").read_bytes())
    return Site(kafka.bootstrap, kafka_topic(partitions=4), tmp_path, template.model)


def test_every_record_of_a_topic_is_stored_once(site: Site) -> None:
    values: list[bytes | None] = [png(i) for i in range(200)]
    values[7], values[8] = b"not an image", None
    site.produce(values, partitions=4)
    progress = site.drain()
    assert (progress.scored, progress.dead) == (198, 2)
    assert sum(int(str(row[0])) for row in site.account()) == 200
    hashes = Counter(row[0] for row in site.query("SELECT hex(value_sha256) FROM score"))
    sent = [value for i, value in enumerate(values) if i not in {7, 8}]
    assert hashes == Counter(hashlib.sha256(value or b"").hexdigest().upper() for value in sent)
    assert site.drain().scored == 0


def test_a_drain_ends_behind_aborted_transactions_and_the_account_closes(site: Site) -> None:
    producer = KafkaProducer(bootstrap_servers=site.bootstrap, transactional_id=site.topic)
    producer.init_transactions()
    for turn in range(6):
        producer.begin_transaction()
        for i in range(5):
            producer.send(site.topic, png(turn * 10 + i), partition=i % 2)
        producer.flush()
        (producer.abort_transaction if turn in {1, 4, 5} else producer.commit_transaction)()
    producer.close()
    progress = site.drain()
    assert progress.scored == 15
    # 6 transactions leave a marker each in both partitions; three of them hold 5 records that never were
    assert [sum(int(str(row[i])) for row in site.account()) for i in (0, 1, 5)] == [42, 15, 27]


def test_two_members_share_the_partitions_and_one_goes_on_alone(site: Site) -> None:
    site.produce([png(i) for i in range(80)], partitions=4)
    with site.working():
        wait_until(lambda: site.stored() == 80, "the first worker's rows")
        with site.working():
            wait_until(lambda: len(owners(site)) == 2, "a member for each half")
            site.produce([png(100 + i) for i in range(80)], partitions=4)
            wait_until(lambda: site.stored() == 160, "both workers' rows")
        site.produce([png(200 + i) for i in range(80)], partitions=4)
        wait_until(lambda: site.stored() == 240, "the rows of the one that is left")
        wait_until(lambda: committed(site) == 240, "the advisory commits, for lag tools")
    assert [row[:2] for row in site.account()] == [(60, 60)] * 4
    assert site.query("SELECT count(DISTINCT stream_id || '/' || offset) FROM score") == [(240,)]


def committed(site: Site) -> int:
    with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        offsets = admin.list_group_offsets({site.topic: None})[site.topic]
    return sum(at.offset for at in offsets.values())


def owners(site: Site) -> set[object]:
    """Members of the deployment's group that hold partitions."""
    with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        ((_, group),) = admin.describe_groups([site.topic]).items()
    assigned = {member["member_id"]: member["member_assignment"] for member in group["members"]}
    return {name for name, part in assigned.items() if part and part["assigned_partitions"]}


def test_a_topic_made_anew_gets_a_stream_of_its_own_while_the_worker_runs(site: Site) -> None:
    site.produce([png(i) for i in range(40)], partitions=4)
    with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin, site.working():
        wait_until(lambda: site.stored() == 40, "the old topic's rows")
        admin.delete_topics([site.topic])
        wait_until(lambda: site.topic not in admin.list_topics(), "the topic's end")
        admin.create_topics({site.topic: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True)
        site.produce([png(100 + i) for i in range(60)], partitions=2)
        wait_until(lambda: site.stored() == 100, "the new topic's rows")
    rows = site.query("SELECT topic_id, sum(scored), count(*) FROM stream GROUP BY topic_id ORDER BY min(id)")
    assert [row[1:] for row in rows] == [(40, 4), (60, 2)]
    assert len({row[0] for row in rows}) == 2


def test_what_retention_deleted_unread_is_accounted_for(site: Site) -> None:
    site.produce([png(i) for i in range(40)], partitions=2)
    site.drain()
    site.produce([png(100 + i) for i in range(40)], partitions=2)
    with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        admin.delete_records({TopicPartition(site.topic, 0): 35, TopicPartition(site.topic, 1): 40})
    progress = site.drain()
    assert (progress.scored, progress.expired) == (5, 35)
    assert [row[:4] for row in site.account()] == [(40, 25, 0, 15), (40, 20, 0, 20), (0, 0, 0, 0), (0, 0, 0, 0)]
    gaps = site.query("SELECT from_offset, to_offset, reason FROM stream_gap ORDER BY to_offset")
    assert gaps == [(20, 35, "expired"), (20, 40, "expired")]


def test_retention_that_overtakes_a_paused_reader_is_accounted_for(site: Site) -> None:
    """The client finds its position outside the log, in the middle of a life."""
    with site.working(), KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        site.produce([png(i) for i in range(20)])
        wait_until(lambda: site.stored() == 20, "the first rows")
        engine = create_engine(site.database)
        with engine.connect() as conn:
            conn.exec_driver_sql("BEGIN IMMEDIATE")  # nothing is stored from here on
            site.produce([png(100 + i) for i in range(400)])
            admin.delete_records({TopicPartition(site.topic, 0): 420})
            site.produce([png(600 + i) for i in range(20)])
        engine.dispose()
        wait_until(lambda: site.query("SELECT next_offset FROM stream WHERE partition = 0") == [(440,)], "the end")
        noted = "SELECT log_start, retention_ms, retention_bytes FROM stream WHERE partition = 0 AND record_time > 0"
        week_ms = 7 * 24 * 3_600_000  # the broker's own default
        wait_until(lambda: site.query(noted) == [(420, week_ms, None)], "what the log holds and keeps")
    ((produced, scored, dead, expired, skipped, holes),) = [row for row in site.account() if row[0]]
    assert (produced, dead, skipped, holes) == (440, 0, 0, 0)
    assert int(str(scored)) + int(str(expired)) == 440
    assert int(str(scored)) >= 40


def test_added_partitions_are_read_from_their_beginning(site: Site) -> None:
    with site.working(), KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        site.produce([png(i) for i in range(40)], partitions=4)
        wait_until(lambda: site.stored() == 40, "the rows of four partitions")
        admin.create_partitions({site.topic: 6})
        admin.wait_for_topics([site.topic])
        site.produce([png(100 + i) for i in range(60)], partitions=6)
        wait_until(lambda: site.stored() == 100, "the rows of six partitions")
    assert [row[:2] for row in site.account()] == [(20, 20)] * 4 + [(10, 10)] * 2


def test_what_compaction_removed_are_holes(
    kafka: Broker, kafka_topic: MakeTopic, template: Deployment, tmp_path: Path
) -> None:
    (tmp_path / "oodwatch.db").write_bytes((template.home / "oodwatch.db").read_bytes())
    configs = {"cleanup_policy": "compact", "segment_ms": 100, "min_cleanable_dirty_ratio": 0.01}
    site = Site(kafka.bootstrap, kafka_topic(**configs), tmp_path, template.model)
    options = read_options(site.url, {})
    appender = KafkaAppender(options)

    def compacted() -> bool:
        # An append rolls the segment, and only what is behind it is compacted.
        appender.append([NewRecord(png(1), key=b"last")])
        return readable(site) < 20

    appender.append([NewRecord(png(i), key=b"%d" % (i % 3)) for i in range(60)])
    wait_until(compacted, "compaction")
    appender.close()
    progress = site.drain()
    ((produced, scored, _, _, _, holes),) = site.account()
    assert (progress.scored, holes) == (scored, int(str(produced)) - progress.scored)
    assert int(str(holes)) >= 40


def readable(site: Site) -> int:
    """How many of the first 60 offsets still hold a record."""
    consumer = KafkaConsumer(bootstrap_servers=site.bootstrap, max_poll_records=1000)
    place = TopicPartition(site.topic, 0)
    consumer.assign([place])
    consumer.seek(place, 0)
    found: set[int] = set()
    while consumer.position(place) < 60:
        found |= {message.offset for message in consumer.poll(500).get(place, [])}
    consumer.close()
    return len([offset for offset in found if offset < 60])


def test_a_codec_that_is_not_installed_ends_the_worker_and_loses_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = KafkaProducer(bootstrap_servers=site.bootstrap, compression_type="lz4")
    for i in range(20):
        producer.send(site.topic, png(i) + bytes(2_000), partition=0)  # what does not shrink is sent as it is
    producer.close()
    with monkeypatch.context() as patch:
        patch.setattr("kafka.codec.has_lz4", lambda: False)
        with pytest.raises(UsageError, match=r"install kafka-python\[lz4"):
            site.drain()
    assert site.stored() == 0
    assert site.drain().scored == 20


def test_damaged_batches_are_passed_over_and_accounted_for(
    own_kafka: KafkaBroker, template: Deployment, tmp_path: Path
) -> None:
    """Bytes flip on the broker's disk; records around them, on both partitions, are stored."""
    site = on_own_broker(own_kafka, template, tmp_path, partitions=2)
    marks = [b"\x01" * 32, b"\x02" * 32]
    for batch in range(6):
        values: list[bytes | None] = [png(100 * batch + i) for i in range(9)]
        values.insert(4, marks[batch // 3] if batch in {1, 2, 4} else png(100 * batch + 50))
        site.produce(values)
    site.produce([png(1000 + i) for i in range(20)], partitions=2)
    segment = own_kafka.data / f"{site.topic}-0" / f"{0:020d}.log"
    content = segment.read_bytes()
    own_kafka.stop()
    segment.write_bytes(content.replace(marks[0], b"\x03" * 32).replace(marks[1], b"\x03" * 32))
    own_kafka.start()
    progress = site.drain()
    assert (progress.scored, progress.expired) == (50, 30)
    assert site.account() == [(70, 40, 0, 30, 0, 0), (10, 10, 0, 0, 0, 0)]
    gaps = site.query("SELECT from_offset, to_offset, reason FROM stream_gap ORDER BY from_offset")
    assert gaps == [(10, 30, "corrupt"), (40, 50, "corrupt")]


def test_a_join_that_outlasts_its_poll_is_finished(site: Site) -> None:
    """The leader is told of new partitions, and the coordinator's answer takes longer than a poll."""

    def slow_to_join(**config: object) -> KafkaConsumer:
        consumer = KafkaConsumer(**config)
        join = consumer._coordinator._do_join_and_sync_async

        async def slow() -> object:
            assignment = await join()
            await consumer._net.sleep(0.3)
            return assignment

        consumer._coordinator._do_join_and_sync_async = slow
        return consumer

    member = KafkaSubscription(
        read_options(site.url, QUICK), group="slow", max_records=10, max_bytes=1 << 20, make_consumer=slow_to_join
    )
    seen: set[int] = set()

    def assigned(numbers: set[int]) -> bool:
        change = member.poll(0.05)
        seen.difference_update(change.revoked)
        seen.update(change.assigned)
        return seen == numbers

    wait_until(lambda: assigned({0, 1, 2, 3}), "the first assignment")
    with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        admin.create_partitions({site.topic: 6})
    wait_until(lambda: assigned({0, 1, 2, 3, 4, 5}), "the assignment of all partitions", deadline_s=30)
    member.close()


def test_two_drains_share_the_work_and_both_end(site: Site) -> None:
    site.produce([png(i) for i in range(120)], partitions=4)
    scored: list[int] = []
    drains = [threading.Thread(target=lambda: scored.append(site.drain().scored)) for _ in range(2)]
    for drain in drains:
        drain.start()
    for drain in drains:
        drain.join(120)
    assert (len(scored), sum(scored)) == (2, 120)


def test_a_broker_that_dies_under_the_worker_is_waited_for(
    own_kafka: KafkaBroker, template: Deployment, tmp_path: Path
) -> None:
    site = on_own_broker(own_kafka, template, tmp_path, partitions=2)
    site.produce([png(i) for i in range(40)], partitions=2)
    with site.working():
        wait_until(lambda: site.stored() == 40, "the first rows")
        own_kafka.kill()
        own_kafka.start()
        site.produce([png(100 + i) for i in range(40)], partitions=2)
        wait_until(lambda: site.stored() == 80, "the rows after the broker's death")
    assert site.account() == [(40, 40, 0, 0, 0, 0)] * 2


def test_a_log_that_lost_its_end_stops_the_worker(own_kafka: KafkaBroker, template: Deployment, tmp_path: Path) -> None:
    site = on_own_broker(own_kafka, template, tmp_path)
    for batch in range(3):
        site.produce([png(10 * batch + i) for i in range(10)])
    site.drain()
    own_kafka.kill()
    segment = own_kafka.data / f"{site.topic}-0" / f"{0:020d}.log"
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size * 2 // 3)
    own_kafka.start()
    with pytest.raises(InconsistentLog, match="stored up to offset 30, but the log ends at"):
        site.drain()
    assert site.stored() == 30


def test_what_a_member_reads_unawares_from_a_topic_made_anew_is_said_to_be_of_the_old_one(site: Site) -> None:
    """So the writer's question after the fetch finds it out. The client itself would not: it fetches by name."""
    site.produce([png(i) for i in range(10)])
    options = read_options(site.url, {"metadata_max_age_ms": 300_000})
    topic = KafkaTopic(options)
    old = topic.topic_id()
    member = KafkaSubscription(options, group="unawares", max_records=100, max_bytes=1 << 20)
    found: list[tuple[str, int]] = []

    def read(at_least: int) -> bool:
        seen = member.poll(0.05)
        for number in seen.assigned:
            member.seek(Partition(site.topic, old, number), 0)
        if seen.assigned:
            member.resume()
        for part in (seen.fetched or {}).values():
            found.extend((part.topic_id, record.offset) for record in part.records)
        return len(found) >= at_least

    wait_until(lambda: read(10), "the old records")
    with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        admin.delete_topics([site.topic])
        wait_until(lambda: site.topic not in admin.list_topics(), "the topic's end")
        admin.create_topics({site.topic: {"num_partitions": 4, "replication_factor": 1}}, wait_for_metadata=True)
    site.produce([png(100 + i) for i in range(25)])
    wait_until(lambda: read(11), "records of the new topic, by mistake")
    assert {topic_id for topic_id, _ in found} == {old}
    assert topic.topic_id() != old
    member.seek(Partition(site.topic, topic.topic_id(), 0), 0)  # what the database says then
    assert member.poll(0.05).revoked == {0, 1, 2, 3}
    member.close()
    topic.close()


def test_of_two_processes_with_one_name_the_older_ends_and_names_it(site: Site) -> None:
    options = read_options(site.url, {**QUICK, "group_instance_id": "gpu-7"})
    older, younger = (KafkaSubscription(options, group="same", max_records=1, max_bytes=1 << 20) for _ in range(2))
    wait_until(lambda: bool(older.poll(0.05).assigned), "the older one's assignment")
    wait_until(lambda: bool(younger.poll(0.05).assigned), "the younger one's assignment")

    def acknowledge() -> bool:
        older.acknowledge({0: 1})
        older.poll(0.05)
        return False

    with pytest.raises(UsageError, match="joined as group_instance_id 'gpu-7' and this one was shut out"):
        wait_until(acknowledge, "the end of the older one")
    assert not younger.poll(0.05).revoked
    for member in (older, younger):
        member.close()


def on_own_broker(broker: KafkaBroker, template: Deployment, home: Path, *, partitions: int = 1) -> Site:
    """A deployment on a topic whose broker may be hurt."""
    (home / "oodwatch.db").write_bytes((template.home / "oodwatch.db").read_bytes())
    site = Site(broker.bootstrap, f"hurt-{home.name}", home, template.model)
    with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        wanted = {site.topic: {"num_partitions": partitions, "replication_factor": 1}}
        admin.create_topics(wanted, wait_for_metadata=True)
    return site


def test_single_records_are_read_again_by_their_offsets_and_those_that_are_gone_are_left_out(site: Site) -> None:
    values: list[bytes | None] = [png(i) for i in range(30)]
    site.produce(values)
    with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        admin.delete_records({TopicPartition(site.topic, 0): 5})
    topic = KafkaTopic(read_options(site.url, {}))
    found = list(topic.records_at(0, [29, 2, 5, 17, 30, 999]))
    assert [(record.offset, record.value, record.key) for record in found] == [
        (offset, values[offset], b"k") for offset in (5, 17, 29)
    ]
    assert {record.partition for record in found} == {Partition(site.topic, topic.topic_id(), 0)}
    topic.close()


def test_an_original_is_read_from_the_topic_without_a_group_and_says_when_retention_has_taken_it(site: Site) -> None:
    site.produce([png(i) for i in range(30)])
    site.drain()
    with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        admin.delete_records({TopicPartition(site.topic, 0): 5})
        engine = create_engine(site.database)
        originals = LogOriginals(site.settings(), site.url, engine)
        key = {int(str(offset)): int(str(key)) for offset, key in site.query('SELECT "offset", id FROM sample')}
        before = admin.list_groups()
        found = originals.read(max(key.values()))
        assert isinstance(found, Original)
        assert (found.width, found.height, found.format) == (8, 8, "png")
        early = next(offset for offset in sorted(key) if offset < 5)
        assert originals.read(key[early]) == Expired(5, 30)
        assert admin.list_groups() == before
        engine.dispose()
    away = LogOriginals(site.settings(), f"kafka://127.0.0.1:1/{site.topic}", create_engine(site.database))
    with pytest.raises(EnvironmentFault, match=r"no broker answers at 127\.0\.0\.1:1"):
        away.read(max(key.values()))
