"""What a real worker wrote during an incident, and days of clean traffic made of its clean minutes."""

import contextlib
import random
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert, select, text

from pipeline.records import utc_now
from pipeline.storage.engine import open_database
from pipeline.storage.rollup_parts import NewPart
from pipeline.storage.schema import from_microseconds, to_microseconds
from pipeline.storage.tables import METADATA
from tests.faults.soak.databases import PostgresDatabase
from tests.incident.pack import oodwatch
from tests.incident.scenes import MINUTE, Scene
from tests.incident.stage import LATENESS, Site
from tests.incident.tape import Write, copy_beginning, recorded, write

DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
_OPEN_HOURS = 12


@dataclass(frozen=True)
class Recording:
    """A scene, and what a worker wrote of it."""

    scene: Scene
    site: Site  # where it was played: its database holds the tape
    tape: Sequence[Write]

    @classmethod
    def of(cls, scene: Scene, site: Site, *, begin: datetime, quiet_hours: int, seed: int) -> "Recording":
        """Of a site on which the scene was played; as if it had begun then, and clean hours had followed it."""
        moved = begin - scene.begin
        engine = open_database(site.database)
        try:
            tape = [
                Write(
                    one.newest + moved,
                    tuple(part._replace(tick=part.tick + moved // MICROSECOND) for part in one.parts),
                )
                for one in recorded(engine)
            ]
        finally:
            engine.dispose()
        scene = replace(scene, begin=begin)
        end, clean, rng = begin + scene.minutes * MINUTE, _clean(scene, tape), random.Random(seed)
        for minute in range(quiet_hours * 60):
            start = end + minute * MINUTE
            tape.append(Write(start + MINUTE, tuple(_drawn(clean, start, 1, rng))))
        return cls(scene, site, tape)

    def begin(self, home: Path, *, days: int, seed: int) -> dict[str, Any] | None:
        """A database as before the scene, with so many accepted days of clean traffic; what the acceptance said.

        No days: nothing is accepted. Images come at the scene's own hours of the day alone: at the hours at which
        it is played nobody expects any, however long that takes.
        """
        source, target = open_database(self.site.database), open_database(_url(home))
        copy_beginning(source, target)
        for one in self._history(days, random.Random(seed)):
            write(target, one, now=utc_now())
        for engine in (source, target):
            engine.dispose()
        if not days:
            return None
        site = Site(home, self.site.model, _url(home), self.site.source)
        once = site.fleet("monitor", "--once").start("history")
        assert once.wait(3600) == 0, once.last_words()
        window = self.scene.begin - days * DAY, self.scene.begin
        return oodwatch(
            *("baseline", "accept", "--from", window[0].isoformat(), "--to", window[1].isoformat()),
            *("--name", "ann", "--reason", "recorded clean traffic", "--database", _url(home), "--json"),
        )

    def _history(self, days: int, rng: random.Random) -> Iterator[Write]:
        clean = _clean(self.scene, self.tape)
        for day in range(-days, 0):
            for hour in range(_OPEN_HOURS):
                start = self.scene.begin + day * DAY + hour * timedelta(hours=1)
                yield Write(start + timedelta(hours=1), tuple(_drawn(clean, start, 60, rng)))
        if days:
            yield Write(self.scene.begin + LATENESS, ())  # the last minute is over, too


def _clean(scene: Scene, tape: Sequence[Write]) -> list[list[NewPart]]:
    """The minutes before the onset, each with all its parts."""
    minutes: dict[int, list[NewPart]] = {}
    for one in tape:
        for part in one.parts:
            minutes.setdefault(part.tick, []).append(part)
    return [parts for tick, parts in sorted(minutes.items()) if from_microseconds(tick) < scene.onset]


def _drawn(clean: Sequence[list[NewPart]], start: datetime, count: int, rng: random.Random) -> Iterator[NewPart]:
    """So many minutes, each one of the clean ones, with replacement."""
    for i in range(count):
        tick = to_microseconds(start + i * MINUTE)
        yield from (part._replace(tick=tick) for part in rng.choice(clean))


def copied(beginning: Path, home: Path) -> str:
    """The same database in another folder (SQLite); its URL."""
    with (
        contextlib.closing(sqlite3.connect(beginning / "oodwatch.db")) as source,
        contextlib.closing(sqlite3.connect(home / "oodwatch.db")) as target,
    ):
        source.backup(target)
    return _url(home)


def copied_to_postgres(beginning: Path, database: PostgresDatabase) -> str:
    """The same rows on a server; the URL."""
    source, target = open_database(_url(beginning)), database.engine()
    with source.connect() as conn, target.begin() as to:
        for table in METADATA.sorted_tables:
            rows: list[Mapping[str, Any]] = [dict(row) for row in conn.execute(select(table)).mappings()]
            if rows:
                to.execute(insert(table), rows)
        _move_sequences(target, to)
    for engine in (source, target):
        engine.dispose()
    return database.url


def _move_sequences(engine: Engine, conn: Any) -> None:
    assert engine.dialect.name == "postgresql"
    for table in METADATA.sorted_tables:
        if "id" in table.columns and table.columns["id"].autoincrement is not False:
            sequence = conn.scalar(text("SELECT pg_get_serial_sequence(:table, 'id')"), {"table": table.name})
            if sequence is not None:
                newest = "coalesce(max(id), 1), max(id) IS NOT NULL"
                conn.execute(text(f"SELECT setval('{sequence}', {newest}) FROM {table.name}"))


def _url(home: Path) -> str:
    return f"sqlite:///{home / 'oodwatch.db'}"
