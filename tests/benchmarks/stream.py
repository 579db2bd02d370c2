"""What Kafka and PostgreSQL cost: consuming, the whole way, and how long a record waits for its row."""

import contextlib
import multiprocessing
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import confluent_kafka
import numpy as np

from pipeline.assembly.sources import open_source
from pipeline.ingest.kafka_options import parse_kafka_url
from pipeline.records import utc_now
from pipeline.stages.rows import Entry
from tests.benchmarks.inputs import jpeg, null_deployment
from tests.benchmarks.running import RunningWorker
from tests.benchmarks.scoring import RESNET20, RESNET50, Load, over_forward
from tests.benchmarks.services import PARTITIONS, kafka_topic, postgres_database
from tests.benchmarks.timing import process_cpu_s

CONSUMED_BYTES = 64 * 2**20
CONSUMED_MESSAGES = 30_000
MESSAGES_PER_S = 50


def consume_over_confluent(home: Path, repetitions: int, *, size: int) -> list[float]:
    """CPU time of our subscription over that of confluent-kafka, from joining the group to the last message.

    Both check CRCs and hand out every value; ours makes records of them. Values are random bytes,
    which no codec shortens, as it would not a JPEG.
    """
    rng = np.random.default_rng(0)
    messages = min(CONSUMED_MESSAGES, CONSUMED_BYTES // size)
    ratios = []
    with kafka_topic(home) as url:
        send(url, [rng.bytes(size) for _ in range(messages)])
        for _ in range(-1, repetitions):  # the first turn warms up
            ours = process_cpu_s(partial(_consume, url, messages))
            theirs = process_cpu_s(partial(_consume_with_confluent, url, messages))
            ratios.append(ours / theirs)
    return ratios[1:]


def resnet20_over_forward(home: Path, repetitions: int) -> list[float]:
    """Images a CPU second of the worker's process from Kafka to PostgreSQL, over the bare forward pass."""
    return _over_forward(RESNET20, home, repetitions)


def resnet50_over_forward(home: Path, repetitions: int) -> list[float]:
    """The same with ResNet-50 at 224 px."""
    return _over_forward(RESNET50, home, repetitions)


def latency_ms(home: Path, repetitions: int, *, quantile: float) -> list[float]:
    """From a record's CreateTime to the commit of its row, null network, 50 records a second for 10 s a repetition."""
    pictures = [jpeg(32, 32, seed) for seed in range(10 * MESSAGES_PER_S)]
    waited_ms: list[float] = []

    def note(entry: Entry) -> None:
        now = utc_now()
        sent = [image.record.timestamp for image in entry.batch.images]
        waited_ms.extend((now - at).total_seconds() * 1000 for at in sent if at is not None)

    results = []
    with kafka_topic(home) as url, postgres_database(home) as database, producer() as pool:
        settings = null_deployment(home, database=database, source=url)
        with RunningWorker(settings, on_stored=note) as worker:
            worker.cpu_s(pool.submit(send, url, pictures).result, len(pictures))
            for _ in range(repetitions):
                waited_ms.clear()
                worker.cpu_s(pool.submit(send, url, pictures, MESSAGES_PER_S).result, len(pictures))
                results.append(float(np.quantile(waited_ms, quantile)))
    return results


def send(url: str, values: Sequence[bytes], per_s: float | None = None) -> None:
    """Send values to a topic's partitions in turn, evenly where a rate is given; return when all are acknowledged."""
    address = parse_kafka_url(url)
    client = confluent_kafka.Producer({"bootstrap.servers": ",".join(address.servers), "linger.ms": 5 if per_s else 50})
    began = time.monotonic()
    for i, value in enumerate(values):
        if per_s:
            time.sleep(max(0.0, began + i / per_s - time.monotonic()))
        client.produce(address.topic, value, partition=i % PARTITIONS)
        client.poll(0)
    left = client.flush(120)
    if left:
        raise TimeoutError(f"{left} of {len(values)} messages are not acknowledged")


@contextlib.contextmanager
def producer() -> Iterator[ProcessPoolExecutor]:
    """A process that sends: its CPU time is not the worker's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def _over_forward(load: Load, home: Path, repetitions: int) -> list[float]:
    with kafka_topic(home) as url, postgres_database(home) as database, producer() as pool:
        settings = load.deployment(home, database=database, source=url)
        values = [picture.value or b"" for picture in load.pictures()]
        return over_forward(load, settings, lambda: pool.submit(send, url, values).result(), repetitions)


def _consume(url: str, messages: int) -> None:
    source = open_source(url, {}, group=f"bench-{uuid.uuid4().hex}", max_records=512, max_bytes=CONSUMED_BYTES)
    bounds = {bound.partition.number: bound for bound in source.topic.bounds()}
    seen = 0
    while seen < messages:
        found = source.subscription.poll(0.1)
        for number in found.assigned:
            source.subscription.seek(bounds[number].partition, bounds[number].beginning)
        if found.assigned:
            source.subscription.resume()
        seen += sum(len(fetched.records) for fetched in (found.fetched or {}).values())
    source.subscription.close()
    source.topic.close()


def _consume_with_confluent(url: str, messages: int) -> None:
    address = parse_kafka_url(url)
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": ",".join(address.servers),
            "group.id": f"bench-{uuid.uuid4().hex}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "check.crcs": True,
        }
    )
    consumer.subscribe([address.topic])
    seen = 0
    while seen < messages:
        seen += sum(message.value() is not None for message in consumer.consume(512, 0.1))
    consumer.close()
