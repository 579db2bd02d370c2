"""The database: answers, has the right tables, may be written, and its clock agrees."""

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import Engine

from pipeline.doctor.finding import USAGE, Finding
from pipeline.records import utc_now
from pipeline.settings import Settings
from pipeline.storage.engine import (
    current_revision,
    make_engine,
    reading,
    revision_problem,
    sqlite_file,
    translated_errors,
)
from pipeline.storage.processes import Process, beat, clock_of

_NOTICEABLE = timedelta(seconds=2)


def check_database(settings: Settings) -> Iterator[Finding]:
    """Nothing is changed: what is written is rolled back, and a file that is not there is not made."""
    file = sqlite_file(settings.database_url)
    if file is not None and not file.exists():
        yield Finding("database", "ok", f"{file} is not there yet; it is made on first use")
        return
    engine = make_engine(settings.database_url)
    where = engine.url.render_as_string(hide_password=True)
    try:
        with translated_errors(engine.url):
            revision = current_revision(engine)
        if revision is None and engine.dialect.name == "sqlite":
            yield Finding("database", "ok", f"{where} is empty; it is migrated on first use")
        elif problem := revision_problem(engine.url, revision):
            yield Finding("database", "failed", problem, exit_code=USAGE)
        else:
            yield Finding("database", "ok", f"{where} answers, revision {revision}")
            yield _check_writing(engine)
        yield from _check_clock(engine, timedelta(minutes=settings.limits.max_future_minutes))
    finally:
        engine.dispose()


def _check_writing(engine: Engine) -> Finding:
    now = utc_now()
    with translated_errors(engine.url), engine.connect() as conn, conn.begin() as transaction:
        beat(conn, Process("doctor", "doctor", None, "", now, now, {}))
        transaction.rollback()
    return Finding("writing", "ok", "rows may be written")


def _check_clock(engine: Engine, tolerance: timedelta) -> Iterator[Finding]:
    before = utc_now()
    with translated_errors(engine.url), reading(engine).connect() as conn:
        theirs = clock_of(conn)
    if theirs is not None:
        now = utc_now()
        yield judge_clock(theirs - (before + (now - before) / 2), tolerance)


def judge_clock(ahead: timedelta, tolerance: timedelta) -> Finding:
    """What a database clock that is so far ahead of this one means."""
    side = "ahead of" if ahead > timedelta() else "behind"
    found = f"the database's clock is {abs(ahead).total_seconds():.1f} s {side} this one"
    cure = "synchronise both (chrony, NTP)"
    if abs(ahead) > tolerance:
        return Finding("clock", "failed", f"{found}: event times would be replaced, ages wrong", cure, USAGE)
    return Finding("clock", "warning", found, cure) if abs(ahead) > _NOTICEABLE else Finding("clock", "ok", found)
