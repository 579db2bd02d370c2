"""Each page as Streamlit runs it, without a browser."""

import contextlib
import io
import sqlite3
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.exc import DBAPIError
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard.board import Board, board, give
from dashboard.windows import to_ms
from pipeline.errors import RefusedError
from pipeline.storage.engine import make_engine, open_database
from pipeline.storage.migrations.run import upgrade
from pipeline.storage.model_events import PROMOTED, add_event
from pipeline.storage.packages import RegisteredPackage, save_package
from pipeline.storage.read_only import open_read_only
from pipeline.storage.schema import DeploymentRow, SegmentRow, StreamRow, TickRow
from tests.browser.seeded import CAMERAS, FOGGY, NOW, ONSET, seed
from tests.services.postgres import Postgres

APP = Path(dashboard.__file__).with_name("app.py")
PAGES = ("overview", "incidents", "explore", "samples", "coverage", "models", "pipeline")


class Handled:
    """Stands in for whoever writes."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.refuse = False

    def acknowledge(self, incident_id: int, **given: Any) -> str:
        if self.refuse:
            raise RefusedError("it is over")
        self.done.append((incident_id, given))
        return "dana has acknowledged it already"

    def silence(self, incident_id: int, **given: Any) -> str:
        self.done.append((incident_id, given))
        return ""

    expect = note = silence


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit puts the page in the place of the program; child processes of other tests would run it again."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded once; each test works on a copy."""
    file = tmp_path_factory.mktemp("seeded") / "template.db"
    seed(f"sqlite:///{file}", hours=6)
    return file


@pytest.fixture
def url(template: Path, tmp_path: Path) -> str:
    file = tmp_path / "board.db"
    file.write_bytes(template.read_bytes())
    return f"sqlite:///{file}"


@pytest.fixture
def serve() -> Iterator[Any]:
    """Gives the pages a database."""
    engines: list[Engine] = []

    def given(url: str, *, later: timedelta = timedelta(0), actions: Handled | None = None) -> None:
        engines.append(open_read_only(url))
        st.cache_data.clear()
        st.cache_resource.clear()
        give(
            Board(
                engines[-1],
                lambda: NOW + later,
                levels=(0.1, 0.25),
                budget_days=30,
                silent_after=timedelta(seconds=40),
                refresh_s=None,
                actions=actions,
            )
        )

    yield given
    for engine in engines:
        engine.dispose()


def run(page: str = "overview", **query: str) -> AppTest:
    if page == "overview":
        at = AppTest.from_file(str(APP), default_timeout=60)
    else:
        at = AppTest.from_string(
            f"from dashboard import frame\nfrom dashboard.views import {page}\nframe.begin()\n{page}.show()",
            default_timeout=60,
        )
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception, at.exception
    return at


def words(at: AppTest) -> str:
    """All HTML of a page."""
    return "\n".join(element.proto.body for element in at.main if element.type == "html") or "\n".join(
        element.proto.body for element in at.get("html")
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_the_incident_without_a_fault(page: str, url: str, serve: Any) -> None:
    serve(url)
    said = words(run(page))
    assert "This page has a fault" not in said
    assert "data to 03:01:02, 18 s old" in said


def test_every_page_reads_postgresql_and_cannot_write_to_it(postgres: Postgres, serve: Any) -> None:
    database = postgres.create_database()
    url = postgres.url(database)
    engine = make_engine(url)
    upgrade(engine)
    engine.dispose()
    seed(url, hours=3)
    serve(url)
    for page in PAGES:
        said = words(run(page))
        assert "did not answer" not in said
        assert "data to 03:01:02, 18 s old" in said
    with pytest.raises(DBAPIError, match="read-only"), board().engine.begin() as conn:
        conn.execute(delete(SegmentRow))


def test_the_overview_answers_what_where_since_when_how_much_what_kind_and_who(url: str, serve: Any) -> None:
    serve(url)
    said = words(run())
    assert f"Critical shift on {FOGGY} since 00:49" in said
    for answer in ("unusual, normally", "of the excess", "looks like lens", "accuracy at most 87 %", "nobody has it"):
        assert answer in said


@pytest.mark.parametrize("page", PAGES)
def test_figures_that_are_old_are_said_to_be_old_on_every_page(page: str, url: str, serve: Any) -> None:
    serve(url, later=timedelta(minutes=25))
    said = words(run(page))
    assert "No new image for 25 min" in said
    assert "1 of 1 workers silent" in said
    assert "Normal." not in said


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_database_says_what_to_do(page: str, tmp_path: Path, serve: Any) -> None:
    url = f"sqlite:///{tmp_path}/empty.db"
    open_database(url).dispose()
    serve(url)
    assert "No images scored yet." in words(run(page))


@pytest.mark.parametrize("page", PAGES)
def test_a_database_that_is_away_is_said_in_one_line_without_sql(page: str, tmp_path: Path, serve: Any) -> None:
    serve(f"sqlite:///{tmp_path}/away.db")
    said = words(run(page))
    assert "The database did not answer." in said
    assert "SELECT" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("revision", "cure"), [("0003", "run `oodwatch migrate`"), ("9999", "use the newer oodwatch that made it")]
)
def test_a_database_of_another_revision_names_the_cure(revision: str, cure: str, url: str, serve: Any) -> None:
    engine = open_database(url)
    with engine.begin() as conn:
        conn.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    engine.dispose()
    serve(url)
    said = words(run())
    assert "The database is of another release." in said
    assert cure in said
    assert "Normal." not in said


@pytest.mark.parametrize(
    ("statement", "headline", "why"),
    [
        ("", "The database is empty.", "run `oodwatch migrate"),
        ("CREATE TABLE t (a)", "These are not the tables of oodwatch.", "name another database with --database"),
    ],
)
def test_a_database_without_the_tables_says_which_command_makes_them(
    statement: str, headline: str, why: str, tmp_path: Path, serve: Any
) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as conn:
        conn.execute(statement)
    (tmp_path / "other.db").touch()
    serve(f"sqlite:///{tmp_path}/other.db")
    said = words(run())
    assert headline in said
    assert why in said


def test_a_locked_database_is_said_to_be_busy_and_not_to_be_away(
    url: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.storage.read_only._BUSY_TIMEOUT_S", 0)
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as conn:
        conn.execute("PRAGMA locking_mode = EXCLUSIVE")
        conn.execute("BEGIN EXCLUSIVE")
        serve(url)
        said = words(run())
    assert "The database is busy." in said
    assert "another process has held a transaction open" in said
    assert "SELECT" not in said


@pytest.mark.parametrize("page", ["overview", "explore"])
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"from": "rubbish", "to": "1"}, "is no time in milliseconds"),
        ({"from": "1795999999000", "to": "1796999999000"}, "begins in the future"),
        ({"segment": "gone"}, "There is no segment “gone” here"),
        ({"incident": "4711"}, "There is no incident 4711 here"),
    ],
)
def test_a_bad_link_shows_a_page_and_says_what_was_wrong(
    page: str, query: dict[str, str], said: str, url: str, serve: Any
) -> None:
    serve(url)
    shown = words(run(page, **query))
    assert said in shown
    assert "This page has a fault" not in shown


def test_a_window_without_an_image_is_said_and_the_nearest_one_offered(url: str, serve: Any) -> None:
    serve(url)
    start = ONSET - timedelta(days=60)
    query = {"from": str(to_ms(start)), "to": str(to_ms(start + timedelta(hours=1)))}
    assert "No image was scored in this window." in words(run("explore", **query))


def test_names_of_strangers_stay_text(url: str, serve: Any) -> None:
    engine = open_database(url)
    evil = "<script>alert(1)</script>\x07"
    with engine.begin() as conn:
        conn.execute(update(SegmentRow).where(SegmentRow.name == CAMERAS[0]).values(name=evil))
        conn.execute(update(DeploymentRow).values(name=evil))
    engine.dispose()
    serve(url)
    for page in PAGES:
        assert "<script>" not in words(run(page))


def test_images_that_never_came_are_no_figures(url: str, serve: Any) -> None:
    engine = open_database(url)
    with engine.begin() as conn:
        conn.execute(delete(StreamRow).where(StreamRow.id > 99))
        conn.execute(update(StreamRow).values(newest_event_time=None))
    engine.dispose()
    serve(url)
    assert "No images scored yet." in words(run())


def test_the_readers_choice_wins_over_the_address(url: str, serve: Any) -> None:
    serve(url)
    at = run(segment=FOGGY)
    at.selectbox(key="segment").set_value(CAMERAS[0]).run()
    assert at.query_params["segment"] == CAMERAS[0]
    at.selectbox(key="segment").set_value("all traffic").run()
    assert "segment" not in at.query_params


def test_what_is_new_and_what_is_gone_is_named_with_its_pictures(url: str, serve: Any) -> None:
    serve(url)
    said = words(run("coverage"))
    assert f"New images on {FOGGY}; hardly any “empty road” left" in said
    assert said.count("<b>support 0.0") == 8
    assert said.count("<b>empty road</b><br>covered 0.00, normally") == 8


def test_without_known_support_the_page_says_so_and_how_to_get_a_report(url: str, serve: Any) -> None:
    engine = open_database(url)
    with engine.begin() as conn:
        conn.execute(update(TickRow).values(support_n=0, support_sum=0.0))
    engine.dispose()
    serve(url)
    at = run("coverage")
    assert "The support of no image is known in this window." in words(at)
    assert at.code[0].value.startswith("oodwatch coverage --deployment road-users --from 2026-11-24T00:49Z")


def test_without_actions_there_are_no_buttons(url: str, serve: Any) -> None:
    serve(url)
    assert not run().button
    assert not run("incidents").button


def test_acknowledging_names_the_incident_the_person_and_what_the_page_showed(url: str, serve: Any) -> None:
    handled = Handled()
    serve(url, actions=handled)
    at = run("incidents")
    at.text_input(key="name").set_value("dana").run()
    at.button(key="acknowledge-2").click().run()
    assert handled.done == [(2, {"who": "dana", "why": "", "seen": 3})]
    assert [toast.value for toast in at.toast] == ["dana has acknowledged it already"]


def test_a_silence_has_an_end_and_a_reason(url: str, serve: Any) -> None:
    handled = Handled()
    serve(url, actions=handled)
    at = run("incidents")
    (silence,) = (button for button in at.button if button.label == "Silence")
    silence.click().run()
    assert handled.done == []
    assert [toast.value for toast in at.toast] == ["Say why, for those who come later."]
    at.selectbox(key="Silence-for").set_value("4 hours")
    at.text_input(key="Silence-why").set_value("lens is being cleaned")
    (silence,) = (button for button in at.button if button.label == "Silence")
    silence.click().run()
    given = {"until": NOW + timedelta(hours=4), "who": "somebody at the dashboard", "why": "lens is being cleaned"}
    assert handled.done == [(2, {**given, "seen": 3})]


def test_what_cannot_be_is_said(url: str, serve: Any) -> None:
    handled = Handled()
    handled.refuse = True
    serve(url, actions=handled)
    at = run()
    at.button(key="acknowledge-2").click().run()
    assert [toast.value for toast in at.toast] == ["it is over"]


def test_the_models_page_shows_what_a_repair_changed_how_to_promote_it_and_who_did(url: str, serve: Any) -> None:
    repair = {
        "kind": "finetune",
        "before": {
            "accuracy": 0.98,
            "sets": {"cats": {"fpr95": 0.5, "auroc": 0.8}, "noise": {"fpr95": 0.7, "auroc": 0.9}},
        },
        "after": {
            "accuracy": 0.985,
            "sets": {"cats": {"fpr95": 0.1, "auroc": 0.95}, "noise": {"fpr95": 0.1, "auroc": 0.97}},
        },
    }
    writing = open_database(url)
    with writing.begin() as conn:
        key = conn.scalar(select(DeploymentRow.id))
        for name, hash_ in (("first", "a" * 64), ("<second>", "b" * 64)):
            package = RegisteredPackage(hash_, name, f"{name}@1", "2", ("a",), "m@0", repair, 3, NOW, "ann")
            save_package(conn, package, io.BytesIO(b"archive"))
        given: dict[str, Any] = {"deployment_id": key, "package": "a" * 64, "reference_id": 1, "now": NOW}
        add_event(conn, PROMOTED, who="ann", why="sees cats", **given)
    writing.dispose()
    serve(url)
    at = run("models")
    said = words(at)
    assert "finetune; FPR95 60.0% to 10.0%; AUROC 85.0% to 96.0%; accuracy 98.0% to 98.5%" in said
    assert "first aaaaaaaaaaaa, scores now" in said
    assert "&lt;second&gt; bbbbbbbbbbbb</td>" in said
    assert "sees cats" in said
    assert at.code[0].value.splitlines()[1] == 'oodwatch models promote bbbbbbbbbbbb --reason "..."'
