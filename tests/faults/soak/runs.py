"""Set a scenario up, let it happen, bring it to rest, account."""

import contextlib
import random
import tempfile
import time
from pathlib import Path

import numpy as np
from sqlalchemy import make_url

from tests.faults.soak.databases import Database, PostgresDatabase, SqliteDatabase
from tests.faults.soak.disk import SmallDisk
from tests.faults.soak.kafka_log import KafkaLog
from tests.faults.soak.logs import Log, SpoolLog
from tests.faults.soak.oracle import Verdict
from tests.faults.soak.proxy import Proxy
from tests.faults.soak.report import Outcome
from tests.faults.soak.scenarios import Kind, Scenario
from tests.faults.soak.world import Services, World, new_home
from tests.services.kafka import KafkaBroker, start_cluster
from tests.services.postgres import PostgresServer

_SMALL_DISK_MB = {"sqlite": 24, "postgres": 200}


def run(
    services: Services, scenario: Scenario, kind: Kind, *, records: int, seed: int, mutant: str | None = None
) -> Outcome:
    """One run. A mutant is given less patience: what it does not read in 30 s it never reads."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        home = new_home(services, scenario.name.replace("_", "-"))
        disk = None
        if scenario.small_disk:
            disk = SmallDisk(home / "disk", _SMALL_DISK_MB[kind])
            stack.callback(disk.close)
        brokers = _brokers(services, scenario, home, stack)
        database = _database(services, kind, home, disk, stack)
        proxy = None
        if scenario.proxied:
            proxy = Proxy(make_url(database.url).port or 0)
            stack.callback(proxy.close)
        world = World(
            home,
            database,
            _log(scenario, home, brokers),
            records=records,
            rng=random.Random(seed),
            kafka=scenario.kafka,
            worker=scenario.worker,
            static=scenario.static,
            mutant=mutant,
            brokers=brokers,
            proxy=proxy,
            disk=disk,
            patience_s=90.0 if mutant is None else 30.0,
        )
        stack.callback(world.close)
        scenario.act(world)
        world.settle()
        verdict = world.verdict()
        world.note_aborted()
    return Outcome(
        scenario=scenario.name,
        database=kind,
        seed=seed,
        kills=world.fleet.kills,
        kills_at=dict(world.fleet.kills_at),
        other_faults=dict(world.faults),
        fenced=world.fleet.fenced,
        verdict=verdict,
        failures=tuple(world.fleet.failures),
        longest_pause_s=round(max(world.watch.longest_pause.values(), default=0.0), 2),
        recovery_s=_quantiles(world.watch.recoveries_s),
        seconds=round(time.monotonic() - began, 1),
        mutant=mutant,
        caught=None if mutant is None else _how_caught(verdict, world.fleet.failures),
    )


def _quantiles(seconds: list[float]) -> tuple[float, float] | None:
    if not seconds:
        return None
    median, high = np.quantile(seconds, [0.5, 0.95])
    return round(float(median), 2), round(float(high), 2)


def _brokers(services: Services, scenario: Scenario, home: Path, stack: contextlib.ExitStack) -> list[KafkaBroker]:
    if scenario.source == "spool":
        return []
    if scenario.brokers == 1:
        return [services.broker]
    cluster = start_cluster(home / "cluster", scenario.brokers)
    for broker in cluster:
        stack.callback(broker.stop)
    return cluster


def _database(
    services: Services, kind: Kind, home: Path, disk: SmallDisk | None, stack: contextlib.ExitStack
) -> Database:
    if kind == "sqlite":
        return SqliteDatabase((disk.folder if disk else home) / "oodwatch.db")
    if disk is None:
        return PostgresDatabase(services.postgres)
    former, tempfile.tempdir = tempfile.tempdir, str(disk.folder)  # where the server keeps its data as root
    try:
        server = PostgresServer(home / "postgres", {"fsync": "off", "max_wal_size": "48MB", "min_wal_size": "32MB"})
    finally:
        tempfile.tempdir = former
    stack.callback(server.close)
    server.start()
    return PostgresDatabase(server)


def _log(scenario: Scenario, home: Path, brokers: list[KafkaBroker]) -> Log:
    if scenario.source == "spool":
        return SpoolLog(home / "spool", "images", scenario.partitions)
    bootstrap = ",".join(broker.bootstrap for broker in brokers)
    return KafkaLog(bootstrap, home.name, scenario.partitions, copies=len(brokers))


def _how_caught(verdict: Verdict, failures: list[str]) -> str | None:
    """The first sign that something is wrong; None where nothing is."""
    counts = {
        "lost": verdict.lost,
        "duplicated": verdict.duplicated,
        "alien": verdict.alien,
        "unread": verdict.unread,
        "wrong energies": verdict.wrong_energy,
    }
    signs = [f"{count:,} {what}" for what, count in counts.items() if count]
    if not verdict.ledger_exact:
        signs.append("ledger not exact")
    if failures:
        signs.append(f"{len(failures)} workers ended by themselves")
    return ", ".join(signs) or None
