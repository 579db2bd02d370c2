"""A real Kafka broker: named by OODWATCH_TEST_KAFKA=host:port, else started here on Java, without Docker.

Its jars are resolved once by Maven from kafka-pom.xml into a cache folder (OODWATCH_TEST_KAFKA_JARS names
another one). A broker listens on 127.0.0.1 only and is killed with the process that started it.
"""

import base64
import os
import shutil
import signal
import socket
import struct
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from filelock import FileLock

from tests.services.availability import unavailable
from tests.services.processes import free_port, spawn, wait_until

VERSION = "4.1.1"
_POM = Path(__file__).with_name("kafka-pom.xml")
_JAVA = ("java", "-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
_LOG4J = """\
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""
#: Small and quick, and a restart after kill -9 is not held up by the broker's own former self.
_PROPERTIES = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "log.cleaner.backoff.ms": "200",
    "log.retention.check.interval.ms": "1000",
    "auto.create.topics.enable": "false",
    "log.segment.bytes": "16777216",
}


class NamedBroker:
    """A broker that somebody else runs."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap


class KafkaBroker:
    """One broker with its controller. The port and the data stay the same over restarts.

    `properties` is written at every start: change it in between, or before the first one.
    """

    def __init__(
        self,
        home: Path,
        properties: Mapping[str, str] | None = None,
        *,
        node: int = 1,
        voters: Mapping[int, int] | None = None,
        cluster_id: str | None = None,
    ) -> None:
        self.home = home
        self.data = home / "data"
        self.port = free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._cluster_id = cluster_id or new_cluster_id()
        self._process: subprocess.Popen[bytes] | None = None
        voters = voters or {node: free_port()}
        copies = str(min(3, len(voters)))
        in_sync = str(min(2, len(voters)))
        self.properties = {
            **_PROPERTIES,
            "node.id": str(node),
            "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{port}" for n, port in voters.items()),
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{voters[node]}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self.data),
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": in_sync,
            "default.replication.factor": copies,
            "min.insync.replicas": in_sync,
            **(properties or {}),
        }

    def __enter__(self) -> "KafkaBroker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start it without waiting; formats the data folder at the first time."""
        jars = broker_jars()
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "log4j2.properties").write_text(_LOG4J)
        config = self.home / "server.properties"
        config.write_text("".join(f"{name}={value}\n" for name, value in self.properties.items()))
        java = [*_JAVA, f"-Dlog4j2.configurationFile={self.home / 'log4j2.properties'}", "-cp", f"{jars}/*"]
        if not self.data.exists():
            format_ = ["kafka.tools.StorageTool", "format", "-t", self._cluster_id, "-c", str(config)]
            done = subprocess.run([*java, *format_], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        self._process = spawn([*java, "kafka.Kafka", str(config)], output=self.home / "broker.log")

    def wait_until_ready(self, deadline_s: float = 120.0) -> None:
        """Wait until it answers an ApiVersions request."""

        def ready() -> bool:
            assert self.is_running, f"the broker ended:\n{self.log_tail()}"
            return _answers(self.port)

        wait_until(ready, f"a broker at {self.bootstrap}", deadline_s=deadline_s)

    @property
    def is_running(self) -> bool:
        """Whether the process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop it in order; by force after 30 s."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Stop it, unless it is dead already, and start it again."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Half dead: sockets stay open, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log_tail(self) -> str:
        """The last lines it printed."""
        return "\n".join((self.home / "broker.log").read_text(errors="replace").splitlines()[-20:])


def start_cluster(home: Path, brokers: int = 3, properties: Mapping[str, str] | None = None) -> list[KafkaBroker]:
    """Several brokers, each a voter; topics have 3 copies by default.

    The caller ends each with `kill`: brokers that have lost their majority do not stop in order.
    """
    cluster_id = new_cluster_id()
    voters = {node: free_port() for node in range(1, brokers + 1)}
    made = [
        KafkaBroker(home / f"broker-{node}", properties, node=node, voters=voters, cluster_id=cluster_id)
        for node in voters
    ]
    for broker in made:
        broker.launch()
    for broker in made:
        broker.wait_until_ready()
    return made


def new_cluster_id() -> str:
    """16 random bytes in URL-safe base64; tools take a leading '-' for a flag."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "a")


def broker_jars() -> Path:
    """The folder of the broker's jars; resolved once, for all checkouts and processes of this user."""
    if named := os.environ.get("OODWATCH_TEST_KAFKA_JARS"):  # noqa: TID251 tests have no settings
        return Path(named)
    if shutil.which("java") is None:
        unavailable("a Kafka broker needs Java 17 or newer, or OODWATCH_TEST_KAFKA=host:port")
    folder = Path.home() / ".cache" / "oodwatch-tests" / f"kafka-{VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            if shutil.which("mvn") is None:
                unavailable("a Kafka broker's jars are resolved by Maven (mvn), or named by OODWATCH_TEST_KAFKA_JARS")
            half = folder.with_suffix(".part")
            command = ["mvn", "-B", "-q", "-f", str(_POM), "dependency:copy-dependencies"]
            command += ["-DincludeScope=runtime", f"-DoutputDirectory={half}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                unavailable(f"Maven cannot resolve Kafka {VERSION}: {(done.stdout + done.stderr)[-500:]}")
            half.rename(folder)
    return folder


def _answers(port: int) -> bool:
    """Whether ApiVersions v0 is answered without an error."""
    request = struct.pack(">hhih", 18, 0, 7, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(10)
    except OSError:
        return False
    return len(answer) == 10 and struct.unpack(">ih", answer[4:]) == (7, 0)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker | NamedBroker]:
    """The broker named in the environment, else one that lives as long as the session."""
    if named := os.environ.get("OODWATCH_TEST_KAFKA"):  # noqa: TID251 tests have no settings
        yield NamedBroker(named)
        return
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def own_kafka(kafka: KafkaBroker | NamedBroker, tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker that may be hurt: the session's own where there is one, put back on its feet afterwards."""
    if isinstance(kafka, KafkaBroker):
        yield kafka
        kafka.thaw()
        if not kafka.is_running:
            kafka.start()
        return
    with KafkaBroker(tmp_path / "kafka") as broker:
        yield broker


MakeTopic = Callable[..., str]


@pytest.fixture
def kafka_topic(kafka: KafkaBroker | NamedBroker) -> Iterator[MakeTopic]:
    """Makes a fresh topic: `kafka_topic(partitions=4, retention_ms=1000)` → its name. Deleted after the test."""
    from kafka import KafkaAdminClient

    made: list[str] = []
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:

        def make(partitions: int = 1, **configs: object) -> str:
            name = f"images-{uuid.uuid4().hex[:12]}"
            settings = {key.replace("_", "."): str(value) for key, value in configs.items()}
            wanted = {name: {"num_partitions": partitions, "replication_factor": 1, "configs": settings}}
            admin.create_topics(wanted, wait_for_metadata=True)
            made.append(name)
            return name

        yield make
        existing = set(admin.list_topics())
        admin.delete_topics([name for name in made if name in existing])
