import threading
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from pipeline.ingest.kafka_client import make_client
from tests.services.processes import free_port


@pytest.mark.parametrize("kind", [KafkaConsumer, KafkaAdminClient, KafkaProducer])
def test_a_client_that_finds_no_broker_leaves_no_thread_behind(kind: Any) -> None:
    before = set(threading.enumerate())
    with pytest.raises(KafkaError):
        make_client(kind, bootstrap_servers=f"127.0.0.1:{free_port()}", bootstrap_timeout_ms=200)
    assert set(threading.enumerate()) <= before
