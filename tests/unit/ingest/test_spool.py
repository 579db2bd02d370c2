import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import EnvironmentFault, UsageError
from pipeline.ingest.source import NewRecord
from pipeline.ingest.spool import Retention, Spool, SpoolTopic, parse_spool_url
from pipeline.ingest.spool_subscription import SpoolSubscription
from pipeline.records import Partition

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


def fill(home: Path, values: list[bytes], partitions: int | None = None, **fields: object) -> list[tuple[int, int]]:
    spool = Spool(home, "t", partitions=partitions)
    places = spool.append([NewRecord(value, **fields) for value in values])  # type: ignore[arg-type]
    spool.close()
    return places


def subscribe(home: Path, max_records: int = 100, max_bytes: int = 1 << 20) -> SpoolSubscription:
    return SpoolSubscription(home, "t", group="g", max_records=max_records, max_bytes=max_bytes)


def values(subscription: SpoolSubscription) -> dict[int, list[bytes | None]]:
    fetched = subscription.poll(0.0).fetched or {}
    return {number: [record.value for record in portion.records] for number, portion in fetched.items()}


def test_offsets_count_up_per_partition_and_survive_reopening(tmp_path: Path) -> None:
    assert fill(tmp_path, [b"a", b"b", b"c"], partitions=2) == [(0, 0), (1, 0), (0, 1)]
    assert fill(tmp_path, [b"d"]) == [(0, 2)]
    ends = [(bounds.beginning, bounds.end) for bounds in SpoolTopic(tmp_path, "t").bounds()]
    assert ends == [(0, 3), (0, 1)]


def test_records_come_back_as_they_were_sent(tmp_path: Path) -> None:
    headers = (("id", b"\xff\x00"), ("id", b"again"), ("none", None))
    fill(tmp_path, [b"value"], key=b"k", headers=headers, timestamp=NOW)
    (record,) = SpoolTopic(tmp_path, "t").records()
    assert (record.key, record.value, record.headers, record.timestamp) == (b"k", b"value", headers, NOW)


def test_a_key_always_goes_to_the_same_partition(tmp_path: Path) -> None:
    places = fill(tmp_path, [b"x"] * 9, partitions=4, key=b"camera-7")
    assert len({number for number, _ in places}) == 1


def test_another_number_of_partitions_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, [b"a"], partitions=2)
    with pytest.raises(UsageError, match="has 2 partitions, not 3"):
        Spool(tmp_path, "t", partitions=3)


@pytest.mark.parametrize("url", ["spool:topic", "file:/a/b", "spool:/a/", "spool:/a/b c", "spool:/a/.."])
def test_a_url_that_is_none_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(UsageError, match="spool:DIR/topic"):
        parse_spool_url(url)


def test_a_missing_topic_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="oodwatch produce"):
        SpoolTopic(tmp_path, "t").bounds()


def test_nothing_is_read_before_a_seek_and_everything_after_it(tmp_path: Path) -> None:
    fill(tmp_path, [b"a", b"b", b"c"])
    subscription = subscribe(tmp_path)
    assert subscription.poll(0).assigned == {0}
    assert values(subscription) == {}
    subscription.seek(Partition("images", "", 0), 1)
    assert values(subscription) == {0: [b"b", b"c"]}
    assert values(subscription) == {}
    fill(tmp_path, [b"d"])
    assert values(subscription) == {0: [b"d"]}
    subscription.close()


def test_a_poll_is_bounded_in_records_and_in_bytes(tmp_path: Path) -> None:
    fill(tmp_path, [b"x" * 100] * 10)
    for limits, expected in (((3, 1 << 20), 3), ((100, 250), 3), ((100, 1), 1)):
        subscription = subscribe(tmp_path, *limits)
        subscription.poll(0)
        subscription.seek(Partition("images", "", 0), 0)
        assert len(values(subscription)[0]) == expected
        subscription.close()


def test_while_paused_nothing_comes(tmp_path: Path) -> None:
    fill(tmp_path, [b"a"])
    subscription = subscribe(tmp_path)
    subscription.poll(0)
    subscription.seek(Partition("images", "", 0), 0)
    subscription.pause()
    assert values(subscription) == {}
    subscription.resume()
    assert values(subscription) == {0: [b"a"]}
    subscription.close()


def test_a_second_subscription_stands_by_until_the_first_is_closed(tmp_path: Path) -> None:
    fill(tmp_path, [b"a"])
    first, second = subscribe(tmp_path), subscribe(tmp_path)
    assert first.poll(0).assigned == {0}
    assert second.poll(0).assigned == frozenset()
    assert second.standby is not None
    first.close()
    assert second.poll(0).assigned == {0}
    assert second.standby is None
    second.close()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    fill(tmp_path, [b"a"])
    code = (
        "import sys; from pathlib import Path; from pipeline.ingest.spool_subscription import SpoolSubscription\n"
        "s = SpoolSubscription(Path(sys.argv[1]), 't', group='g', max_records=1, max_bytes=1)\n"
        "s.poll(0); print('locked', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    subscription = subscribe(tmp_path)
    assert subscription.poll(0).assigned == frozenset()
    process.kill()
    process.communicate()
    assert subscription.poll(0).assigned == {0}
    subscription.close()


def test_a_topic_made_anew_is_noticed_by_its_reader(tmp_path: Path) -> None:
    fill(tmp_path, [b"a"])
    subscription = subscribe(tmp_path)
    topic = SpoolTopic(tmp_path, "t")
    before = topic.topic_id()
    subscription.poll(0)
    shutil.rmtree(tmp_path / "t")
    fill(tmp_path, [b"new"], partitions=2)
    seen = subscription.poll(0)
    assert (set(seen.revoked), set(seen.assigned)) == ({0}, {0, 1})
    assert topic.topic_id() != before
    subscription.close()


def test_added_partitions_are_assigned(tmp_path: Path) -> None:
    fill(tmp_path, [b"a"])
    subscription = subscribe(tmp_path)
    subscription.poll(0)
    spool = Spool(tmp_path, "t")
    spool.add_partitions(3)
    spool.close()
    assert subscription.poll(0).assigned == {1, 2}
    subscription.close()


def test_retention_by_age_moves_the_beginning_and_leaves_old_positions_outside(tmp_path: Path) -> None:
    fill(tmp_path, [b"old"] * 5, timestamp=NOW - timedelta(days=2))
    fill(tmp_path, [b"new"] * 3, timestamp=NOW)
    subscription = subscribe(tmp_path)
    subscription.poll(0)
    subscription.seek(Partition("images", "", 0), 2)
    spool = Spool(tmp_path, "t")
    assert spool.apply_retention(Retention(max_age=timedelta(days=1)), now=NOW) == 5
    spool.close()
    (bounds,) = SpoolTopic(tmp_path, "t").bounds()
    assert (bounds.beginning, bounds.end) == (5, 8)
    assert subscription.poll(0).out_of_range == {0}
    subscription.seek(Partition("images", "", 0), 5)
    assert values(subscription) == {0: [b"new"] * 3}
    subscription.close()


def test_retention_by_size_shrinks_the_file(tmp_path: Path) -> None:
    fill(tmp_path, [b"x" * 10_000] * 100)
    file = tmp_path / "t" / "log.sqlite"
    spool = Spool(tmp_path, "t")
    assert spool.apply_retention(Retention(max_bytes=100_000), now=NOW) == 90
    spool.close()
    assert file.stat().st_size < 200_000


def test_erased_values_are_in_no_file_of_the_spool(tmp_path: Path) -> None:
    secret = b"a face that must be forgotten"
    fill(tmp_path, [b"other", secret * 200, b"more"], headers=(("id", b"jane.jpg"),), key=b"jane-key")
    assert any(secret in file.read_bytes() for file in (tmp_path / "t").iterdir())
    topic = SpoolTopic(tmp_path, "t")
    assert topic.erase([(0, 0), (0, 1), (0, 2)]) == 3
    assert topic.erase([(0, 1)]) == 0
    for file in (tmp_path / "t").iterdir():
        assert secret not in file.read_bytes()
        assert b"jane" not in file.read_bytes()
    assert [(record.offset, record.value) for record in topic.records()] == [(0, None), (1, None), (2, None)]


def test_the_offset_of_a_time_is_the_first_record_that_is_not_older(tmp_path: Path) -> None:
    for minute in range(5):
        fill(tmp_path, [b"x"], timestamp=datetime(2026, 1, 1, 0, minute, tzinfo=UTC))
    topic = SpoolTopic(tmp_path, "t")
    at = int(datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC).timestamp() * 1e6)
    assert topic.offset_at(0, at) == 2
    assert topic.offset_at(0, at + 10**10) == 5


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), max_size=12), st.integers(1, 7))
def test_polling_yields_every_record_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, appends: list[tuple[int, int]], max_records: int
) -> None:
    home = tmp_path_factory.mktemp("spool")
    spool = Spool(home, "t", partitions=3)
    subscription = subscribe(home, max_records)
    for number in subscription.poll(0).assigned:
        subscription.seek(Partition("images", "", number), 0)
    sent: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    seen: dict[int, list[bytes | None]] = {0: [], 1: [], 2: []}
    for i, (number, count) in enumerate(appends):
        portion = [f"{i}-{j}".encode() for j in range(count)]
        spool.append([NewRecord(value, partition=number) for value in portion])
        sent[number] += portion
        for got, portion_seen in values(subscription).items():
            seen[got] += portion_seen
    while more := values(subscription):
        for got, portion_seen in more.items():
            seen[got] += portion_seen
    assert seen == sent
    subscription.close()
    spool.close()


def test_a_single_record_comes_back_until_it_is_erased_or_expired(tmp_path: Path) -> None:
    fill(tmp_path, [b"a", b"b", b"c"], headers=(("id", b"jane.jpg"),))
    topic = SpoolTopic(tmp_path, "t")
    record = topic.record_at(0, 1)
    assert record is not None
    assert (record.value, record.offset, record.partition.topic_id) == (b"b", 1, topic.topic_id())
    assert topic.record_at(0, 3) is None
    assert topic.record_at(7, 0) is None
    topic.erase([(0, 1)])
    erased = topic.record_at(0, 1)
    assert erased is not None
    assert erased.value is None
