"""The log that records are sent to, as producers and the oracle see it."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Protocol

from pipeline.ingest.source import NewRecord
from pipeline.ingest.spool import Spool, log_file
from tests.faults.soak.journal import Journal, Place
from tests.faults.soak.records import content_of, segment_of, value_of


class Sender(Protocol):
    """One producer."""

    def send(self, number: int) -> None:
        """Hand over one record; may return before it is acknowledged."""

    def finish(self) -> None:
        """Wait until everything is acknowledged."""


class Log(Protocol):
    """A topic as producers and the oracle see it."""

    partitions: int

    @property
    def url(self) -> str:
        """For `--source`."""

    def topic_id(self) -> str:
        """The present incarnation."""

    def sender(self, journal: Journal) -> Sender:
        """A producer that notes in the journal what was acknowledged."""

    def committed(self) -> dict[tuple[int, int], bytes]:
        """All that a consumer may see now: (partition, offset) -> content."""

    def ends(self) -> dict[int, int]:
        """The offset behind the last record or marker of each partition."""


class SpoolLog:
    """The embedded log."""

    def __init__(self, directory: Path, topic: str, partitions: int) -> None:
        self._directory = directory
        self._topic = topic
        self.partitions = partitions
        Spool(directory, topic, partitions=partitions).close()

    @property
    def url(self) -> str:
        return f"spool:{self._directory}/{self._topic}"

    def topic_id(self) -> str:
        ((topic_id,),) = self._query("SELECT topic_id FROM topic")
        return str(topic_id)

    def sender(self, journal: Journal) -> Sender:
        return _SpoolSender(Spool(self._directory, self._topic), self.topic_id(), journal)

    def committed(self) -> dict[tuple[int, int], bytes]:
        rows = self._query('SELECT partition, "offset", value FROM record')
        return {(partition, offset): content_of(value) for partition, offset, value in rows}

    def ends(self) -> dict[int, int]:
        return dict(self._query("SELECT number, next FROM partition"))

    def _query(self, statement: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(log_file(self._directory, self._topic))) as connection:
            return connection.execute(statement).fetchall()


class _SpoolSender:
    """Appends twenty at a time."""

    def __init__(self, spool: Spool, topic_id: str, journal: Journal) -> None:
        self._spool = spool
        self._topic_id = topic_id
        self._journal = journal
        self._waiting: list[int] = []

    def send(self, number: int) -> None:
        self._waiting.append(number)
        if len(self._waiting) == 20:
            self._append()

    def finish(self) -> None:
        self._append()
        self._spool.close()

    def _append(self) -> None:
        records = [
            NewRecord(value_of(number), headers=(("segment", segment_of(number).encode()),)) for number in self._waiting
        ]
        for (partition, offset), number in zip(self._spool.append(records), self._waiting, strict=True):
            self._journal.acknowledge(Place(self._topic_id, partition, offset), number)
        self._waiting.clear()
