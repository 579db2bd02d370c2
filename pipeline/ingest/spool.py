"""The spool: a durable partitioned log in a SQLite file on local disk, with Kafka's semantics.

One file a topic, DIR/<topic>/log.sqlite: (topic, topic id, partition, offset) → record. An append is
acknowledged when it is on disk. Values can be erased; the record then stays at its offset as a tombstone.
"""

import json
import re
import sqlite3
import uuid
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.errors import EnvironmentFault, UsageError
from pipeline.ingest.source import NewRecord
from pipeline.records import Bounds, LogRetention, Partition, Record

_FORMAT = 1
_SCHEMA = """
CREATE TABLE topic (topic_id TEXT NOT NULL, created_us INTEGER NOT NULL);
CREATE TABLE partition (number INTEGER PRIMARY KEY, beginning INTEGER NOT NULL, next INTEGER NOT NULL);
CREATE TABLE record (
    partition INTEGER NOT NULL, offset INTEGER NOT NULL, timestamp_us INTEGER NOT NULL,
    key BLOB, value BLOB, headers TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (partition, offset)
);
CREATE TABLE consumer (name TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (name, partition));
"""
_CHUNK = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BUSY_S = 30.0


@dataclass(frozen=True, slots=True)
class Retention:
    """What the log keeps; None = everything."""

    max_age: timedelta | None = None
    max_bytes: int | None = None


def parse_spool_url(url: str) -> tuple[Path, str]:
    """`spool:DIR/topic` → (DIR, topic). Raises UsageError for anything else."""
    scheme, _, path = url.partition(":")
    directory, _, topic = path.rpartition("/")
    if scheme != "spool" or not directory or not re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", topic) or topic in {".", ".."}:
        raise UsageError(
            f"source {url!r}: write spool:DIR/topic, as spool:/var/lib/oodwatch/spool/images, or kafka://host:port/topic"
        )
    return Path(directory), topic


def log_file(directory: Path, topic: str) -> Path:
    """Where a topic's records are."""
    return directory / topic / "log.sqlite"


class Spool:
    """Appends to a topic. Several processes may append at once."""

    def __init__(self, directory: Path, topic: str, *, partitions: int | None = None) -> None:
        """Open a topic, or make it with `partitions` (default 1).

        Raises UsageError where the topic has another number of partitions, EnvironmentFault where
        the disk does not answer.
        """
        self.topic = topic
        self._file = log_file(directory, topic)
        with _translated(self._file):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _connect(self._file)
            existing = _prepare(self._connection, partitions or 1)
        self._partitions = existing
        self._turn = 0
        if partitions is not None and partitions != existing:
            self.close()
            raise UsageError(
                f"{topic} has {existing} partitions, not {partitions}; leave --partitions out or name another topic"
            )

    def append(self, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        """Append in one durable transaction; return (partition, offset) of each. All or nothing."""
        now = datetime.now(UTC)
        with _translated(self._file), _transaction(self._connection):
            ends = dict(self._connection.execute("SELECT number, next FROM partition"))
            places, rows = [], []
            for record in records:
                number = self._choose(record, len(ends))
                places.append((number, ends[number]))
                rows.append((number, ends[number], *_row(record, now)))
                ends[number] += 1
            self._connection.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            self._connection.executemany(
                "UPDATE partition SET next = ? WHERE number = ?", [(end, number) for number, end in ends.items()]
            )
        return places

    def add_partitions(self, partitions: int) -> None:
        """Raise the number of partitions; keys then map to other partitions."""
        with _translated(self._file), _transaction(self._connection):
            (existing,) = self._connection.execute("SELECT count(*) FROM partition").fetchone()
            self._connection.executemany(
                "INSERT INTO partition VALUES (?, 0, 0)", [(number,) for number in range(existing, partitions)]
            )

    def apply_retention(self, retention: Retention, *, now: datetime) -> int:
        """Delete the oldest records beyond the limits, in short transactions; return how many."""
        deleted = 0
        while chunk := self._delete_chunk(retention, now):
            deleted += chunk
        if deleted:
            with _translated(self._file):
                # executescript runs it to its end; execute() would free a single page
                self._connection.executescript("PRAGMA incremental_vacuum")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return deleted

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _choose(self, record: NewRecord, partitions: int) -> int:
        if record.partition is not None:
            if not 0 <= record.partition < partitions:
                raise UsageError(f"partition {record.partition} of {partitions}; count from 0")
            return record.partition
        if record.key is not None:
            return zlib.crc32(record.key) % partitions
        self._turn += 1
        return (self._turn - 1) % partitions

    def _delete_chunk(self, retention: Retention, now: datetime) -> int:
        with _translated(self._file), _transaction(self._connection):
            old: list[tuple[int, int]] = []
            if retention.max_age is not None:
                limit = (_us(now - retention.max_age), _CHUNK)
                old = self._connection.execute(
                    "SELECT r.partition, r.offset FROM record r JOIN partition p ON p.number = r.partition"
                    " WHERE r.timestamp_us < ? ORDER BY r.partition, r.offset LIMIT ?",
                    limit,
                ).fetchall()
            if not old and retention.max_bytes is not None:
                old = self._beyond(retention.max_bytes)
            # From the front only: retention never leaves a hole behind newer records.
            cut = {number: max(offset for n, offset in old if n == number) for number, _ in old}
            deleted = 0
            for number, last in cut.items():
                self._connection.execute(
                    "UPDATE partition SET beginning = max(beginning, ?) WHERE number = ?", (last + 1, number)
                )
                gone = self._connection.execute(
                    "DELETE FROM record WHERE partition = ? AND offset <= ?", (number, last)
                )
                deleted += gone.rowcount
            return deleted

    def _beyond(self, max_bytes: int) -> list[tuple[int, int]]:
        (total,) = self._connection.execute("SELECT coalesce(sum(size), 0) FROM record").fetchone()
        old: list[tuple[int, int]] = []
        oldest = "SELECT partition, offset, size FROM record ORDER BY timestamp_us, partition, offset LIMIT ?"
        for number, offset, size in self._connection.execute(oldest, (_CHUNK,)):
            if total <= max_bytes:
                break
            old.append((number, offset))
            total -= size
        return old


class SpoolTopic:
    """What the log says about itself; notices when the topic was deleted and made anew."""

    def __init__(self, directory: Path, topic: str) -> None:
        self._topic = topic
        self._file = log_file(directory, topic)

    @property
    def name(self) -> str:
        """The topic's name."""
        return self._topic

    def topic_id(self) -> str:
        """The present incarnation's id; EnvironmentFault where there is no such topic."""
        with self._reading() as connection:
            return _topic_id(connection)

    def bounds(self, partitions: Collection[int] | None = None) -> list[Bounds]:
        """First and next offset of the given partitions, all by default."""
        with self._reading() as connection:
            topic_id = _topic_id(connection)
            rows = connection.execute("SELECT number, beginning, next FROM partition ORDER BY number").fetchall()
        return [
            Bounds(Partition(self._topic, topic_id, number), beginning, end)
            for number, beginning, end in rows
            if partitions is None or number in partitions
        ]

    def offset_at(self, partition: int, timestamp_us: int) -> int:
        """The first offset whose record is not older than the time, else the end."""
        with self._reading() as connection:
            (found,) = connection.execute(
                "SELECT min(offset) FROM record WHERE partition = ? AND timestamp_us >= ?", (partition, timestamp_us)
            ).fetchone()
            (end,) = connection.execute("SELECT next FROM partition WHERE number = ?", (partition,)).fetchone()
        return int(end if found is None else found)

    def first_readable(self, partition: int, offset: int) -> int:
        """The offset itself: a damaged SQLite file is refused as a whole."""
        return offset

    def retention(self) -> LogRetention:
        """Everything is kept."""
        return LogRetention()

    def records(self) -> Iterator[Record]:
        """Every record in the log, in order."""
        with self._reading() as connection:
            topic_id = _topic_id(connection)
            for row in connection.execute(f"{SELECT_RECORD} ORDER BY partition, offset"):
                yield to_record(self._topic, topic_id, row)

    def records_at(self, partition: int, offsets: Collection[int]) -> Iterator[Record]:
        """The records at these offsets, ascending; those that are gone are left out."""
        with self._reading() as connection:
            topic_id = _topic_id(connection)
            for offset in sorted(offsets):
                row = connection.execute(
                    f"{SELECT_RECORD} WHERE partition = ? AND offset = ?", (partition, offset)
                ).fetchone()
                if row is not None:
                    yield to_record(self._topic, topic_id, row)

    def erase(self, coordinates: Iterable[tuple[int, int]]) -> int:
        """Overwrite key, value and headers of these (partition, offset); return how many there were."""
        with self._reading() as connection:
            with _transaction(connection):
                erased = connection.executemany(
                    "UPDATE record SET key = NULL, value = NULL, headers = '[]', size = 0"
                    " WHERE partition = ? AND offset = ? AND (value IS NOT NULL OR key IS NOT NULL OR headers <> '[]')",
                    list(coordinates),
                ).rowcount
            # secure_delete has zeroed the pages; the copies in the write-ahead log go too.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return max(erased, 0)

    def close(self) -> None:
        """Nothing is kept open."""

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        # Opened anew each time (some 100 us): a file that was replaced is then never read by mistake.
        with _translated(self._file):
            connection = open_log(self._file)
            try:
                yield connection
            finally:
                connection.close()


SELECT_RECORD = "SELECT partition, offset, timestamp_us, key, value, headers FROM record"


def to_record(topic: str, topic_id: str, row: tuple[int, int, int, bytes | None, bytes | None, str]) -> Record:
    """A row of SELECT_RECORD as a record."""
    number, offset, timestamp_us, key, value, headers = row
    return Record(
        Partition(topic, topic_id, number),
        offset,
        _EPOCH + timedelta(microseconds=timestamp_us),
        key,
        value,
        ()
        if headers == "[]"
        else tuple((name, None if text is None else text.encode("latin-1")) for name, text in json.loads(headers)),
    )


def open_log(file: Path) -> sqlite3.Connection:
    """A connection to an existing log; EnvironmentFault where there is none, UsageError for another format."""
    if not file.exists():
        raise EnvironmentFault(f"no topic at {file.parent}; make it with `oodwatch produce --source spool:...`")
    connection = _connect(file)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        connection.close()
        raise EnvironmentFault(f"{file} is being made; try again")
    if version != _FORMAT:
        connection.close()
        raise UsageError(f"{file} is of format {version}, this release reads {_FORMAT}; use the oodwatch that made it")
    return connection


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous=FULL")  # an acknowledged record survives a power cut
    connection.execute("PRAGMA secure_delete=ON")  # an erased value is overwritten, not just unlinked
    return connection


def _prepare(connection: sqlite3.Connection, partitions: int) -> int:
    """Make the tables in a new file; return the number of partitions."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        with _transaction(connection):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:  # nobody was quicker
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute("INSERT INTO topic VALUES (?, ?)", (uuid.uuid4().hex, _us(datetime.now(UTC))))
                connection.executemany(
                    "INSERT INTO partition VALUES (?, 0, 0)", [(number,) for number in range(partitions)]
                )
                connection.execute(f"PRAGMA user_version={_FORMAT}")
    elif version != _FORMAT:
        raise UsageError(f"the spool is of format {version}, this release writes {_FORMAT}; name a new directory")
    (count,) = connection.execute("SELECT count(*) FROM partition").fetchone()
    return int(count)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def _translated(file: Path) -> Iterator[None]:
    """A driver's failure as one line: which file, what it said, what to do."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        is_full = any(word in str(said) for word in ("full", "No space", "disk I/O"))
        cure = "free some space" if is_full else "check that the folder exists and may be written"
        raise EnvironmentFault(f"spool {file}: {said}; {cure}, then go on: nothing was half-written") from error


def _topic_id(connection: sqlite3.Connection) -> str:
    (topic_id,) = connection.execute("SELECT topic_id FROM topic").fetchone()
    return str(topic_id)


def _row(record: NewRecord, now: datetime) -> tuple[int, bytes | None, bytes | None, str, int]:
    headers = [[name, None if value is None else value.decode("latin-1")] for name, value in record.headers]
    size = len(record.value or b"") + len(record.key or b"")
    return _us(record.timestamp or now), record.key, record.value, json.dumps(headers), size


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
