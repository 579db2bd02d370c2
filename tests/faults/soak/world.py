"""One run: a fresh topic, a fresh database, workers, traffic, and what is done to them."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import URL, make_url

from tests.faults.soak.databases import Database, PostgresDatabase, drop_keys
from tests.faults.soak.disk import SmallDisk
from tests.faults.soak.journal import Journal
from tests.faults.soak.kafka_log import KafkaLog
from tests.faults.soak.logs import Log, Sender
from tests.faults.soak.oracle import Verdict, reconcile
from tests.faults.soak.proxy import Proxy
from tests.faults.soak.traffic import Traffic
from tests.faults.soak.watch import Watch
from tests.faults.soak.workers import Fleet
from tests.services.kafka import KafkaBroker
from tests.services.postgres import PostgresServer
from tests.tiny import make_deployment

RATE_PER_S = 170.0  # 20,000 records in two minutes
KAFKA = {"session_timeout_ms": 2_000, "heartbeat_interval_ms": 500, "max_poll_interval_ms": 10_000}
_numbers = itertools.count(1)


class Services:
    """Servers that the runs share, started when the first run needs them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._broker: KafkaBroker | None = None
        self._postgres: PostgresServer | None = None

    @property
    def broker(self) -> KafkaBroker:
        """One broker, alive."""
        if self._broker is None:
            self._broker = KafkaBroker(self.home / "kafka")
            self._broker.start()
        return self._broker

    @property
    def postgres(self) -> PostgresServer:
        """One server, alive."""
        if self._postgres is None:
            # Without fsync: processes die in these runs, not the machine, and recovery takes no half minute.
            self._postgres = PostgresServer(self.home / "postgres", {"fsync": "off"})
            self._postgres.start()
        return self._postgres

    def close(self) -> None:
        """Stop what was started."""
        if self._broker is not None:
            self._broker.thaw()
            self._broker.stop()
        if self._postgres is not None:
            self._postgres.thaw()
            self._postgres.close()


class World:
    """What a scenario acts upon. Nothing runs yet; `settle` brings everything to rest."""

    def __init__(
        self,
        home: Path,
        database: Database,
        log: Log,
        *,
        records: int,
        rng: random.Random,
        kafka: Mapping[str, object] | None = None,
        worker: Mapping[str, object] | None = None,
        static: bool = False,
        mutant: str | None = None,
        brokers: Sequence[KafkaBroker] = (),
        proxy: Proxy | None = None,
        disk: SmallDisk | None = None,
        patience_s: float = 90.0,
    ) -> None:
        self.home = home
        self.database = database
        self.log = log
        self.records = records
        self.rng = rng
        self.brokers = brokers
        self._proxy = proxy
        self._disk = disk
        self.patience_s = patience_s
        self.journal = Journal()
        self.faults: Counter[str] = Counter()
        self.deployment = make_deployment(home / "model", database_url=database.url)
        self.engine = database.engine()
        drop_keys(self.engine)
        self.watch = Watch(self.engine, self.journal)
        self.watch.start()
        url = make_url(database.url)
        seen = url.render_as_string(hide_password=False) if proxy is None else proxied(url, proxy)
        arguments = ["worker", "--source", log.url, "--database", seen]
        arguments += ["--model", str(self.deployment.model), "--deployment", home.name, "--max-batch", "16", "--json"]
        config: dict[str, Mapping[str, object]] = {"worker": worker or {}}
        if isinstance(log, KafkaLog):
            config["source.kafka"] = {**KAFKA, **(kafka or {})}
        self.fleet = Fleet(arguments, home, config, static, rng, mutant=mutant)
        self.candidates: dict[str, Path] = {}  # weights of models that are promoted, by model id
        self._sent = 0
        self._traffic: list[Traffic] = []

    @property
    def broker(self) -> KafkaBroker:
        """The one broker of this run."""
        (broker,) = self.brokers
        return broker

    @property
    def proxy(self) -> Proxy:
        """What stands between the workers and the database."""
        assert self._proxy is not None
        return self._proxy

    @property
    def disk(self) -> SmallDisk:
        """Where the database is."""
        assert self._disk is not None
        return self._disk

    @property
    def kafka(self) -> KafkaLog:
        """The log, which is Kafka in this scenario."""
        assert isinstance(self.log, KafkaLog)
        return self.log

    @property
    def postgres(self) -> PostgresDatabase:
        """The database, which is PostgreSQL in this scenario."""
        assert isinstance(self.database, PostgresDatabase)
        return self.database

    def send(self, share: float = 1.0, *, rate: float | None = RATE_PER_S, sender: Sender | None = None) -> Traffic:
        """Begin to send a share of the run's records."""
        count = round(self.records * share)
        numbers = range(self._sent, self._sent + count)
        self._sent += count
        traffic = Traffic(sender or self.log.sender(self.journal), numbers, rate)
        traffic.start()
        self._traffic.append(traffic)
        return traffic

    def send_again(self, numbers: range) -> Traffic:
        """Begin to send records that were sent before."""
        traffic = Traffic(self.log.sender(self.journal), numbers, None)
        traffic.start()
        self._traffic.append(traffic)
        return traffic

    def flows(self) -> bool:
        """Whether records are still being sent."""
        return any(traffic.flows() for traffic in self._traffic)

    def pause(self, low_s: float, high_s: float) -> None:
        """A random while."""
        time.sleep(self.rng.uniform(low_s, high_s))

    def wait_for_progress(self, deadline_s: float = 15.0) -> bool:
        """Until something more is stored; whether it was."""
        before = self.watch.stored
        give_up = time.monotonic() + deadline_s
        while self.watch.stored == before:
            if time.monotonic() > give_up:
                return False
            time.sleep(0.05)
        return True

    def drain(self, *, alive: int = 1) -> None:
        """Until every acknowledged record is passed by a cursor; gives up where nothing moves any more."""
        best, moved_at = self.watch.lag(), time.monotonic()
        while best and time.monotonic() < moved_at + self.patience_s:
            time.sleep(0.1)
            self.fleet.refill()
            while len(self.fleet.members) < alive:
                self.fleet.start(f"last-{len(self.fleet.members) + 1}")
            if (lag := self.watch.lag()) < best:
                best, moved_at = lag, time.monotonic()

    def settle(self) -> None:
        """Everybody goes on, reads to the end and stops in order."""
        self.fleet.thaw()
        for traffic in self._traffic:
            traffic.wait()
        self.drain()
        self.fleet.stop()

    def verdict(self) -> Verdict:
        """After `settle`."""
        return reconcile(
            self.engine,
            self.journal,
            topic_id=self.log.topic_id(),
            committed=self.log.committed(),
            ends=self.log.ends(),
            weights=self.deployment.home / "weights.pt",
            candidates=self.candidates,
        )

    def note_aborted(self) -> None:
        """Aborted transactions are faults of the producer's."""
        if self.journal.aborted_transactions:
            self.faults["transactions aborted"] = self.journal.aborted_transactions

    def close(self) -> None:
        """No process and no thread is left."""
        self.fleet.abandon()
        self.watch.stop()
        self.engine.dispose()


def proxied(url: URL, proxy: Proxy) -> str:
    """The same database, through the proxy."""
    return url.set(port=proxy.port).render_as_string(hide_password=False)


def new_home(services: Services, name: str) -> Path:
    """A folder of the run, whose name is the deployment's too."""
    home = services.home / f"{name}-{next(_numbers)}"
    home.mkdir(parents=True)
    return home
