"""What a user would write first: one poll, one decode, one forward pass, one ORM commit a message."""

import io
import time
import uuid
from collections.abc import Generator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaConsumer
from PIL import Image
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from pipeline.assembly.parts import open_model
from pipeline.ingest.kafka_options import parse_kafka_url
from pipeline.ingest.spool_subscription import SpoolSubscription
from pipeline.records import Partition
from pipeline.scoring.energy import score_logits
from pipeline.settings import Settings
from pipeline.storage.schema import ScoreRow
from tests.benchmarks.rows import new_score


class MessageLoop:
    """Decodes, scores and commits one message after another."""

    def __init__(self, settings: Settings, messages: Generator[bytes, None, None]) -> None:
        self._classifier = open_model(settings).classifier
        self._engine = create_engine(settings.database_url)
        self._messages = messages
        self.run(5)

    def run(self, messages: int) -> None:
        for value in islice(self._messages, messages):
            pixels = np.array(Image.open(io.BytesIO(value)).convert("RGB"))
            scores = score_logits(self._classifier.predict(pixels[None]))
            values: dict[str, Any] = new_score(time.time_ns())._asdict()
            values |= {"event_time": datetime.now(UTC), "energy": float(scores.energy[0])}
            with Session(self._engine) as session:
                session.add(ScoreRow(**values))
                session.commit()

    def close(self) -> None:
        self._messages.close()
        self._engine.dispose()


def spool_messages(directory: Path) -> Generator[bytes, None, None]:
    """The values of the topic `images`, one poll each."""
    with closing(SpoolSubscription(directory, "images", group="loop", max_records=1, max_bytes=1)) as subscription:
        for number in subscription.poll(0).assigned:
            subscription.seek(Partition("images", "", number), 0)
        while True:
            for fetched in (subscription.poll(1.0).fetched or {}).values():
                yield fetched.records[0].value or b""


def kafka_messages(url: str) -> Generator[bytes, None, None]:
    """The values of a topic, one poll and one commit each."""
    address = parse_kafka_url(url)
    consumer = KafkaConsumer(
        address.topic,
        bootstrap_servers=list(address.servers),
        group_id=f"loop-{uuid.uuid4().hex}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=1,
    )
    with closing(consumer):
        while True:
            for records in consumer.poll(timeout_ms=1000).values():
                yield records[0].value
                consumer.commit()
