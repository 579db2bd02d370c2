"""Baselines from acceptance to the monitor's verdicts, on both engines."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, insert, select

from pipeline.assembly.detecting import Detectors
from pipeline.cli.output import iso
from pipeline.errors import RefusedError
from pipeline.monitor import Limits, Monitor
from pipeline.settings import load_settings
from pipeline.shift.baseline import Baseline
from pipeline.shift.snapshot import fingerprint
from pipeline.stages.accepting import Source, accept
from pipeline.stages.judging import Judged, Patience
from pipeline.storage.baselines import BaselineLine, list_baselines, newest_baseline, read_baseline, save_baseline
from pipeline.storage.engine import open_database
from pipeline.storage.schema import TransitionRow, VerdictRow
from pipeline.storage.ticks import TickRetention
from tests.integration.typing_commands import Command
from tests.monitored import ALERTING, Alone
from tests.services.postgres import Postgres
from tests.watched_days import DAY, MINUTE, MONDAY, Days, night_and_day, rolled_up

DAYS = 4
END = MONDAY + timedelta(days=DAYS)
WHO = ("--name", "ann", "--reason", "a quiet week")


@pytest.fixture(scope="module")
def sqlite_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with four evaluated days of nights and days, from Monday on; to be copied."""
    file = tmp_path_factory.mktemp("days") / "days.db"
    _fill(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="module")
def postgres_days(postgres: Postgres, migrated_template: str) -> Iterator[str]:
    """A database of the same."""
    name = postgres.create_database(template=migrated_template)
    _fill(postgres.url(name))
    yield name
    postgres.drop_database(name)


def _fill(url: str) -> None:
    engine = open_database(url)
    days = Days.begin(engine)
    days.store(MONDAY, rolled_up(days.reference, night_and_day(DAYS), seed=1))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def days(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Days]:
    """The four days, on both engines."""
    if request.param == "sqlite":
        copy = tmp_path / "days.db"
        copy.write_bytes(request.getfixturevalue("sqlite_days").read_bytes())
        url = f"sqlite:///{copy}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.url(server.create_database(template=request.getfixturevalue("postgres_days")))
    engine = open_database(url)
    yield Days.of(engine)
    engine.dispose()
    if request.param == "postgresql":
        server.drop_database(str(engine.url.database))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path / 'new.db'}")
    yield engine
    engine.dispose()


def window(days: Days, start: int = 0, end: int = DAYS * DAY) -> tuple[str, ...]:
    url = days.engine.url.render_as_string(hide_password=False)
    return "--database", url, "--from", iso(MONDAY + start * MINUTE), "--to", iso(MONDAY + end * MINUTE)


def changed(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Streams that left ok or came back to it."""
    state: dict[str, str] = {}
    found = []
    for line in lines:
        if line["state"] != state.get(line["stream"], "ok"):
            found.append((line["stream"], line["state"]))
        state[line["stream"]] = line["state"]
    return found


def taken(days: Days) -> Baseline:
    with days.engine.connect() as conn:
        return accept(conn, Source(days.deployment_id, days.reference, MONDAY, END))[0]


def test_an_accepted_night_raises_nothing_and_one_that_was_not_is_provisional(days: Days, command: Command) -> None:
    now, told = [END], list[Judged]()
    limits = Limits(Patience(lateness=timedelta(0), idle=timedelta(hours=12)), TickRetention())
    monitor = Monitor(
        days.engine,
        Alone(),
        Detectors(days.engine, load_settings()),
        limits,
        ALERTING,
        clock=lambda: now[0],
        report=told.append,
    )

    def watch(day: int) -> None:
        start = MONDAY + timedelta(days=day)
        days.write(start, rolled_up(days.reference, night_and_day(1), seed=day))
        now[0] = start + timedelta(days=1)
        monitor.run()

    watch(DAYS)
    before = days.transitions()
    assert ("pooled", "shift", True) in before
    assert all(provisional for _, _, provisional in before)
    printed = [line for judged in told for line in judged.as_lines() if "stream" in line]
    assert {line["provisional"] for line in printed} == {True}
    replayed = command("replay", *window(days, DAYS * DAY, (DAYS + 1) * DAY), "--json")
    assert replayed.err.startswith("d, reference m-r1, without a baseline: 2026-01-09T00:00Z to 2026-01-10T00:00Z")
    assert "provisional" in replayed.err
    lines = [json.loads(text) for text in replayed.out.splitlines()]
    assert changed(lines) == [(stream, state) for stream, state, _ in before]
    with days.engine.connect() as conn:
        live = conn.execute(select(VerdictRow.stream, VerdictRow.log_evidence, VerdictRow.onset, VerdictRow.share))
        said = [(one["stream"], one["log_evidence"], one["onset"], one["share"]) for one in lines[-3:]]
        assert sorted(said) == sorted((name, m, onset and iso(onset), share) for name, m, onset, share in live)
    assert command("baseline", "accept", *window(days), *WHO).code == 0
    watch(DAYS + 1)
    raised = {stream: state for stream, state, _ in before}  # as it stood: the last word on each
    ended = [(stream, "ok", False) for stream, state in sorted(raised.items()) if state not in {"ok", "no_data"}]
    assert days.transitions() == before + ended, "what the detector without a baseline had raised ends with it"
    with days.engine.connect() as conn:
        found = {row.stream: row.state for row in conn.execute(select(VerdictRow.stream, VerdictRow.state))}
        assert set(conn.scalars(select(VerdictRow.provisional))) == {False}
    assert found == dict.fromkeys(("pooled", "histogram", "low", "classes", "coverage", "rate"), "ok")


def test_what_was_accepted_is_told_in_words_and_as_json(days: Days, command: Command) -> None:
    database = window(days)[:2]
    empty = command("baseline", "show", *database)
    assert empty.out.startswith("d has no baseline for reference m-r1; stored minutes: from 2026-01-05T00:00:00Z")
    assert "stays provisional, shown and never paged: no traffic was accepted yet" in empty.out
    tried = command("baseline", "accept", *window(days), *WHO, "--dry-run")
    assert "nothing was stored" in tried.err
    assert command("baseline", "show", *database).out == empty.out
    told = command("baseline", "accept", *window(days), *WHO)
    assert "4 whole days: 5,760 minutes, 0 of them without an image; 345,600 images, 5.5" in told.out
    assert "Nothing stays provisional" in told.out
    assert command("baseline", "show", *database).out == told.out
    (line,) = (json.loads(text) for text in command("baseline", "show", *database, "--json").out.splitlines())
    assert (line["version"], line["days"], line["name"], line["counts"]) == (1, 4, "ann", True)
    pooled = line["summary"]["pooled"]
    assert pooled["highest_at"].startswith("05h") or pooled["highest_at"].startswith("06h")
    assert 0.08 < pooled["highest"] < 0.09
    assert line["summary"]["coverage"] == "traffic"
    assert [one["class"] for one in line["summary"]["classes"]["most_frequent"]] == ["a", "b"]


def test_a_short_window_stays_provisional_and_is_taken_as_far_as_it_is_stored(days: Days, command: Command) -> None:
    made = command("baseline", "accept", *window(days, -500, 2 * DAY + 60), *WHO)
    assert "only 2026-01-05T00:00Z to 2026-01-07T01:00Z is stored" in made.err
    assert "2 whole days are accepted of the 3 from which dispersion is known" in made.out


def test_a_short_window_takes_the_place_of_a_baseline_that_pages_only_by_force(days: Days, command: Command) -> None:
    accepting = ("baseline", "accept", *WHO)
    assert command(*accepting, *window(days)).code == 0
    command(*accepting, *window(days, 2 * DAY)).refuses(
        3, "2 whole days of the 3", "in place of baseline 1, which pages", "told to nobody", "--force"
    )
    database = window(days)[:2]
    assert "Nothing stays provisional" in command("baseline", "show", *database).out
    assert "accepted all the same" in command(*accepting, *window(days, 2 * DAY), "--force").err
    assert command(*accepting, *window(days, 3 * DAY)).code == 0  # this one pages no more


def test_windows_that_cannot_be_normal_are_refused_in_one_line(days: Days, command: Command) -> None:
    accepting = ("baseline", "accept", *WHO)
    command(*accepting, *window(days), "--deployment", "x").refuses(2, "no deployment 'x'", "known: d")
    command(*accepting, *window(days, 60, 60)).refuses(2, "must lie before")
    command(*accepting, *window(days, 9 * DAY, 10 * DAY)).refuses(3, "nothing is stored", "2026-01-09T00:00Z")
    command("baseline", "accept", *window(days), "--name", " ", "--reason", "x").refuses(2, "--name and --reason")
    command("baseline", "revoke", *window(days)[:2], "--name", "bob").refuses(3, "no baseline that counts")
    values = {"log_evidence": 12.0, "leading": "odds", "from_state": "ok", "provisional": True, "decided_at": END}
    with days.engine.begin() as conn:
        for stream, state, minute in (("pooled", "warning", 5), ("histogram", "shift", 9), ("histogram", "ok", 90)):
            row = {"deployment_id": days.deployment_id, "reference_id": days.reference.id, "stream": stream, **values}
            conn.execute(insert(TransitionRow).values(state=state, tick=MONDAY + minute * MINUTE, **row))
    command(*accepting, *window(days)).refuses(3, "2 in all: ", "pooled warning at 2026-01-05T00:05Z", "--force")
    command(*accepting, *window(days, DAY)).refuses(3, "1 in all: ", "pooled warning")
    assert "accepted all the same" in command(*accepting, *window(days), "--force").err


def test_normal_traffic_that_reaches_the_warning_level_is_refused_with_the_cure(
    engine: Engine, command: Command
) -> None:
    days = Days.begin(engine)
    days.store(MONDAY, rolled_up(days.reference, np.full(300, 0.14), seed=1))
    answer = command("baseline", "accept", *window(days), *WHO)
    answer.refuses(3, "segment 'cam' flagged, which reaches the warning level 0.1", "calibrate anew")
    assert command("baseline", "show", *window(days)[:2], "--json").out == ""


def test_of_two_people_who_accept_at_once_one_hears_of_the_other(days: Days) -> None:
    made, together = taken(days), Barrier(2)

    def save(name: str) -> str:
        line = BaselineLine(1, MONDAY, END, name, "why", END, made.days, None, None, {})
        together.wait()
        try:
            with days.engine.begin() as conn:
                save_baseline(conn, days.deployment_id, days.watched.reference_id, line, made)
        except RefusedError as refused:
            return str(refused)
        return "stored"

    with ThreadPoolExecutor(2) as pool:
        answers = sorted(pool.map(save, ("ann", "bob")), reverse=True)
    with days.engine.connect() as conn:
        (line,) = list_baselines(conn, days.deployment_id, days.watched.reference_id)
    assert answers[0] == "stored"
    assert answers[1].startswith(f"{line.name} has accepted baseline 1 meanwhile; nothing was written")


def test_the_newest_that_is_not_revoked_counts_bit_for_bit(days: Days, command: Command) -> None:
    made = taken(days)
    key = days.deployment_id, days.watched.reference_id
    assert command("baseline", "accept", *window(days), *WHO).code == 0
    assert command("baseline", "accept", *window(days, DAY), *WHO).code == 0
    with days.engine.connect() as conn:
        assert newest_baseline(conn, *key) == 2
        assert fingerprint(read_baseline(conn, *key, 1)) == fingerprint(made)
    database = window(days)[:2]
    assert "baseline 1 counts again" in command("baseline", "revoke", *database, "--name", "bob").out
    assert "none counts now" in command("baseline", "revoke", *database, "--name", "bob").out
    assert command("baseline", "accept", *window(days), *WHO).code == 0
    assert "revoked by bob" in command("baseline", "show", *database).out
    with days.engine.connect() as conn:
        assert newest_baseline(conn, *key) == 3
        assert [line.revoked_by for line in list_baselines(conn, *key)] == ["bob", "bob", None]


def test_minutes_without_images_count_as_such(engine: Engine) -> None:
    days = Days.begin(engine)
    busy = rolled_up(days.reference, np.full(60, 0.05))
    for hour in (0, 2):
        days.store(MONDAY + timedelta(hours=hour), busy)
    with engine.connect() as conn:
        source = Source(days.deployment_id, days.reference, MONDAY, MONDAY + timedelta(hours=3))
        made, pooled = accept(conn, source)
    assert pooled.n.tolist() == [60] * 60 + [0] * 60 + [60] * 60
    rates = [None if rate is None else round(rate.high) for rate in made.rates[:4]]
    assert rates == [62, 0, 62, None]
    assert made.days == 0
    assert made.coverage is None
    with engine.connect() as conn, pytest.raises(RefusedError, match="no image was scored with reference m-r1"):
        accept(conn, replace(source, start=MONDAY + timedelta(hours=1), end=MONDAY + timedelta(hours=2)))
