"""What the writer thread does between batches."""

import time

from sqlalchemy import Engine

from pipeline.errors import EnvironmentFault
from pipeline.settings import Settings
from pipeline.stages.writer import Writer
from pipeline.storage.engine import file_identity, shown
from pipeline.storage.partitions import drop_expired_day, ensure_days_ahead
from pipeline.storage.retention import RetentionLimits, delete_expired

_RETENTION_INTERVAL_S = 60.0
_LOG_END_INTERVAL_S = 2.0


class Housekeeping:
    """Log ends every 2 s, retention and days ahead every minute."""

    def __init__(self, engine: Engine, writer: Writer, settings: Settings) -> None:
        self._engine = engine
        self._writer = writer
        self._limits = RetentionLimits(settings.retention.keep, settings.samples.max_samples)
        self._clock = settings.clock.now
        self._file = file_identity(engine.url)
        self._next_log_end = 0.0
        self._next_retention = 0.0

    def __call__(self) -> None:
        """Do what is due, in short transactions."""
        now_s = time.monotonic()
        if now_s >= self._next_log_end:
            self._require_same_file()
            self._writer.retry(self._writer.cursors.refresh_log_ends, asks=("source",))
            self._next_log_end = now_s + _LOG_END_INTERVAL_S
        if now_s >= self._next_retention:
            left = self._writer.retry(self._keep_to_retention)
            self._next_retention = now_s if left else now_s + _RETENTION_INTERVAL_S

    def _require_same_file(self) -> None:
        """An open SQLite file that was deleted takes rows without a word."""
        if file_identity(self._engine.url) != self._file:
            raise EnvironmentFault(
                f"{shown(self._engine.url)} was deleted or replaced while this worker wrote to it; what it has stored"
                " is gone with the file; start the worker again: it goes on where the database then stands"
            )

    def _keep_to_retention(self) -> int:
        now = self._clock()
        with self._engine.begin() as conn:
            ensure_days_ahead(conn, now=now)
            deleted = delete_expired(conn, self._limits, now=now)
        with self._engine.begin() as conn:
            return deleted + drop_expired_day(conn, now - self._limits.keep)
