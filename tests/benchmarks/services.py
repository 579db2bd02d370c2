"""A broker and a database for a measure: named by the environment, else started here, else the measure is skipped."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import make_url

from pipeline.ingest.kafka_ensure import TopicWish, ensure_topic
from pipeline.ingest.kafka_options import read_options
from pipeline.storage.engine import make_engine
from pipeline.storage.migrations.run import upgrade
from tests.services.kafka import KafkaBroker
from tests.services.postgres import Postgres, running_server

PARTITIONS = 4


@contextlib.contextmanager
def kafka_topic(home: Path) -> Iterator[str]:
    """A fresh topic of 4 partitions, as a source's URL."""
    with contextlib.ExitStack() as stack:
        bootstrap = os.environ.get("OODWATCH_TEST_KAFKA")  # noqa: TID251 tests have no settings
        if not bootstrap:
            bootstrap = stack.enter_context(KafkaBroker(home / "kafka")).bootstrap
        url = f"kafka://{bootstrap}/bench-{uuid.uuid4().hex[:12]}"
        ensure_topic(read_options(url, {}), TopicWish(partitions=PARTITIONS), timeout_s=60)
        yield url


@contextlib.contextmanager
def postgres_database(home: Path) -> Iterator[str]:
    """The URL of a migrated PostgreSQL without rows; dropped afterwards."""
    with contextlib.ExitStack() as stack:
        named = os.environ.get("OODWATCH_TEST_POSTGRES")  # noqa: TID251 tests have no settings
        server = Postgres(make_url(named)) if named else stack.enter_context(running_server(home / "postgres"))
        name = server.create_database()
        stack.callback(server.drop_database, name)
        engine = make_engine(server.url(name))
        upgrade(engine)
        engine.dispose()
        yield server.url(name)
