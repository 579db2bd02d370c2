"""Kafka to PostgreSQL through real worker processes that die, freeze and lose the answer to a COMMIT."""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.soak.databases import PostgresDatabase
from tests.faults.soak.kafka_log import KafkaLog
from tests.faults.soak.kill_points import Hook
from tests.faults.soak.proxy import Proxy
from tests.faults.soak.world import World
from tests.services.kafka import KafkaBroker, NamedBroker
from tests.services.postgres import Postgres
from tests.services.processes import wait_until

pytestmark = pytest.mark.integration

RECORDS = 600

#: Passages are such that at least every second life stores something: else the records were isolated.
LIVES = (
    Hook("after poll"),
    Hook("after the compare-and-set", 3),
    Hook("in decode"),
    Hook("before COMMIT", 3),
    Hook("after inference"),
    Hook("after COMMIT", 3),
    Hook("in the rebalance listener"),
    Hook("before the log's commit"),
)


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    proxy = Proxy(postgres.superuser.port or 5432)
    yield proxy
    proxy.close()


@pytest.fixture
def world(
    request: pytest.FixtureRequest, tmp_path: Path, kafka: KafkaBroker | NamedBroker, postgres: Postgres, proxy: Proxy
) -> Iterator[World]:
    """One partition and static members: who comes back under his name need not wait for his dead self."""
    database = PostgresDatabase(postgres)
    home = tmp_path / f"run-{database.name}"
    world = World(
        home,
        database,
        KafkaLog(kafka.bootstrap, home.name, 1),
        records=RECORDS,
        rng=random.Random(1),
        kafka={"session_timeout_ms": 6_000},
        static=True,
        proxy=proxy,
    )
    world.send(rate=None).wait()
    yield world
    world.close()
    postgres.drop_database(database.name)


def settled(world: World) -> None:
    """Everything is read, everybody has ended in order, and every record is accounted for."""
    world.settle()
    verdict = world.verdict()
    assert (verdict.acknowledged, verdict.scored, verdict.dead) == (RECORDS, RECORDS * 49 // 50, RECORDS // 50)
    assert verdict.is_clean, verdict
    assert world.fleet.failures == []


def test_a_worker_that_dies_at_any_point_loses_and_doubles_nothing(world: World) -> None:
    for hook in LIVES:
        assert world.fleet.start("worker", hook=hook).wait() == -signal.SIGKILL
    last = world.fleet.start("worker", hook=Hook("in close"))
    world.drain()
    last.terminate()
    assert last.wait() == -signal.SIGKILL
    settled(world)


def test_what_a_frozen_worker_holds_is_fenced_when_others_have_gone_on(world: World) -> None:
    zombie = world.fleet.start("zombie", hook=Hook("after inference", 1, signal.SIGSTOP), own_group="zombie")
    wait_until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_STOPPED, "a frozen worker")
    world.fleet.start("successor", own_group="successor")
    world.drain()
    zombie.thaw()
    settled(world)
    assert zombie.fenced() >= 1


def test_a_commit_whose_answer_is_lost_is_neither_repeated_nor_forgotten(world: World, proxy: Proxy) -> None:
    proxy.drop_commit_replies(5)
    world.fleet.start("worker")
    settled(world)
    assert proxy.dropped_commits == 5
