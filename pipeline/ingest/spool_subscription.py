"""Reading a spool as the only member of a group; a second one stands by until the first is gone."""

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import EnvironmentFault
from pipeline.ingest.source import Fetched, Poll
from pipeline.ingest.spool import SELECT_RECORD, log_file, open_log, to_record
from pipeline.records import Partition, Record

_LOOK_S = 0.02  # how often an idle log is looked at; reading one number of the file's header


class SpoolSubscription:
    """One reader of all partitions. One worker a spool and group: the operating system's lock says which.

    The lock is freed when its process dies, however it dies; a zombie that still holds records is
    fenced by the cursor, not by the lock. Used by one thread.
    """

    def __init__(self, directory: Path, topic: str, *, group: str, max_records: int, max_bytes: int) -> None:
        self._topic = topic
        self._file = log_file(directory, topic)
        self._lock_path = self._file.parent / f"{group}.lock"
        self._lock = FileLock(self._lock_path, thread_local=False)
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._connection: sqlite3.Connection | None = None
        self._topic_id = ""
        self._inode = 0
        self._positions: dict[int, int | None] = {}  # None until the first seek
        self._paused = False
        self._seen_version = -1
        self._turn = 0
        self._closed = threading.Event()
        self._holder: str | None = None

    @property
    def trouble(self) -> str | None:
        """Nothing that waiting could mend: a file is there, or made by whoever appends first."""
        return None

    @property
    def standby(self) -> str | None:
        """Who has the spool while this one waits for it."""
        return self._holder

    def poll(self, timeout_s: float) -> Poll:
        """Records of sought partitions, at most `max_records` and about `max_bytes`."""
        if not self._lock.is_locked and not self._take_lock(timeout_s):
            return Poll()
        if change := self._follow_topic():
            return change
        deadline = time.monotonic() + timeout_s
        while not self._closed.is_set():
            if not self._paused and self._has_news():
                found = self._fetch()
                if found.fetched or found.out_of_range:
                    return found
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self._closed.wait(remaining if self._paused else min(_LOOK_S, remaining)):
                break
        return Poll()

    def seek(self, partition: Partition, offset: int) -> None:
        """Read this partition from here on."""
        self._positions[partition.number] = offset
        self._seen_version = -1

    def pause(self) -> None:
        """Return no records until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Return records again."""
        self._paused = False
        self._seen_version = -1

    def acknowledge(self, ends: Mapping[int, int]) -> None:
        """Nothing to tell: the cursor in the database is the only truth."""

    def close(self) -> None:
        """Let the next reader in."""
        self._closed.set()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._lock.release()

    def _take_lock(self, timeout_s: float) -> bool:
        try:
            self._lock_path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            self._holder = _read_or_none(self._holder_file) or "another process"
            self._closed.wait(timeout_s)
            return False
        self._holder = None
        self._holder_file.write_text(f"{socket.gethostname()}:{os.getpid()}")
        return True

    @property
    def _holder_file(self) -> Path:
        return self._lock_path.with_suffix(".holder")

    def _follow_topic(self) -> Poll | None:
        """What changed about the topic itself: made anew, or given more partitions."""
        try:
            inode = self._file.stat().st_ino
        except FileNotFoundError:
            inode = -1
        if self._connection is None or inode != self._inode:
            return self._reopen(inode)
        if self._paused or self._version() == self._seen_version:
            return None
        numbers = {number for (number,) in self._connection.execute("SELECT number FROM partition")}
        added = frozenset(numbers - self._positions.keys())
        self._positions |= dict.fromkeys(added)
        return Poll(assigned=added) if added else None

    def _reopen(self, inode: int) -> Poll | None:
        revoked = frozenset(self._positions)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._positions = {}
        try:
            self._connection = open_log(self._file)
        except EnvironmentFault:
            self._closed.wait(_LOOK_S)  # deleted, or about to be made
            return Poll(revoked=revoked)
        self._inode = inode
        (self._topic_id,) = self._connection.execute("SELECT topic_id FROM topic").fetchone()
        numbers = [number for (number,) in self._connection.execute("SELECT number FROM partition")]
        self._positions = dict.fromkeys(numbers)
        self._paused = False
        self._seen_version = -1
        return Poll(revoked=revoked, assigned=frozenset(numbers))

    def _version(self) -> int:
        assert self._connection is not None
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _has_news(self) -> bool:
        """Whether the file has changed since a fetch found nothing."""
        return self._version() != self._seen_version

    def _fetch(self) -> Poll:
        assert self._connection is not None
        version = self._version()
        bounds = {
            number: (beginning, end)
            for number, beginning, end in self._connection.execute("SELECT number, beginning, next FROM partition")
        }
        sought = [(number, at) for number, at in sorted(self._positions.items()) if at is not None]
        outside = [number for number, at in sought if not bounds[number][0] <= at <= bounds[number][1]]
        fetched: dict[int, Fetched] = {}
        records, size = 0, 0
        self._turn += 1
        shift = self._turn % max(1, len(sought))
        for number, at in sought[shift:] + sought[:shift]:
            if number in outside or at == bounds[number][1] or records >= self._max_records or size >= self._max_bytes:
                continue
            portion = self._read(number, at, self._max_records - records, self._max_bytes - size)
            if portion:
                end = portion[-1].offset + 1
                fetched[number] = Fetched(self._topic_id, tuple(portion), end)
                self._positions[number] = end
                records += len(portion)
                size += sum(len(record.value or b"") for record in portion)
        if not fetched and not outside:
            self._seen_version = version
        return Poll(fetched=fetched, out_of_range=frozenset(outside))

    def _read(self, number: int, at: int, max_records: int, max_bytes: int) -> list[Record]:
        assert self._connection is not None
        rows = self._connection.execute(
            f"{SELECT_RECORD} WHERE partition = ? AND offset >= ? ORDER BY offset LIMIT ?", (number, at, max_records)
        )
        portion: list[Record] = []
        size = 0
        for row in rows:
            portion.append(to_record(self._topic, self._topic_id, row))
            size += len(row[4] or b"")
            if size >= max_bytes:
                break
        rows.close()
        return portion


def _read_or_none(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
