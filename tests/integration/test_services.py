"""The services that other tests stand on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from tests.services.kafka import KafkaBroker, MakeTopic, NamedBroker
from tests.services.processes import wait_until

pytestmark = pytest.mark.integration


def test_a_fresh_topic_takes_and_gives_a_record(kafka: KafkaBroker | NamedBroker, kafka_topic: MakeTopic) -> None:
    topic = kafka_topic(partitions=3, retention_ms=60_000)
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        assert len(admin.describe_topics([topic])[0]["partitions"]) == 3
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    sent = producer.send(topic, b"value", partition=2).get(30)
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap)
    consumer.assign([TopicPartition(topic, 2)])
    consumer.seek(TopicPartition(topic, 2), sent.offset)
    assert next(consumer).value == b"value"
    consumer.close()


def test_a_broker_keeps_port_and_data_over_kill_freeze_and_restart(tmp_path: Path) -> None:
    with KafkaBroker(tmp_path / "kafka", {"broker.session.timeout.ms": "1000"}) as broker:
        bootstrap = broker.bootstrap
        producer = KafkaProducer(bootstrap_servers=bootstrap)
        with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
            admin.create_topics({"t": {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
        producer.send("t", b"before").get(30)
        broker.freeze()
        late = producer.send("t", b"frozen")
        broker.thaw()
        assert late.get(60).offset == 1
        broker.kill()
        assert not broker.is_running
        broker.restart()
        assert broker.bootstrap == bootstrap
        assert producer.send("t", b"after").get(60).offset == 2
        producer.close()


def test_a_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tests.services.processes import spawn\n"
        "print(spawn(['sleep', '600'], output=Path(sys.argv[1])).pid, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.send_signal(signal.SIGKILL)
        parent.wait()

        def gone() -> bool:
            try:
                return Path(f"/proc/{child}/stat").read_text().split()[2] == "Z"
            except FileNotFoundError:
                return True

        wait_until(gone, "the end of the child", deadline_s=30)
