"""Each page as Streamlit runs it, without a browser."""

import contextlib
import io
import sqlite3
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.exc import DBAPIError
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard import data, saving
from dashboard.board import Board, Rules, board, give
from dashboard.originals import Expired, Original
from dashboard.windows import Window, to_ms
from pipeline.alerts.precision import Verdict
from pipeline.errors import EnvironmentFault, RefusedError
from pipeline.shift.folding import POOLED, TickKey
from pipeline.storage.engine import make_engine, open_database
from pipeline.storage.migrations.run import upgrade
from pipeline.storage.model_events import PROMOTED, add_event
from pipeline.storage.packages import RegisteredPackage, save_package
from pipeline.storage.read_only import open_read_only
from pipeline.storage.reviews import save_review
from pipeline.storage.samples import same_record
from pipeline.storage.schema import (
    DeploymentRow,
    ReferenceImageRow,
    SampleRow,
    ScoreRow,
    SegmentRow,
    StreamRow,
    TickRow,
)
from pipeline.storage.ticks import StoredTick, put_ticks
from tests.browser.scenes import scene
from tests.browser.seeded import CAMERAS, DRILLED, FOGGY, NOW, ONSET, reference_of_seed, seed, sums_of
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

    def review(self, sample_id: int, verdict: Verdict | None, **given: Any) -> str:
        self.done.append((sample_id, verdict, given))
        return ""


class Log:
    """Stands in for the log that samples came from."""

    def __init__(self, found: Original | Expired | EnvironmentFault) -> None:
        self.found = found
        self.asked: list[int] = []

    def read(self, sample_id: int) -> Original | Expired:
        self.asked.append(sample_id)
        if isinstance(self.found, EnvironmentFault):
            raise self.found
        return self.found

    def read_all(self, sample_ids: Sequence[int]) -> Mapping[int, bytes]:
        return {key: self.found.png for key in sample_ids if isinstance(self.found, Original)}


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

    def given(url: str, *, later: timedelta = timedelta(0), actions: Handled | None = None, **more: Any) -> None:
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
                **more,
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
    at = run(page)
    said = words(at)
    assert "This page has a fault" not in said
    assert "data to 03:01:02, 18 s old" in said
    assert DRILLED not in said
    assert at.selectbox(key="segment").options == ["all traffic", *CAMERAS]


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


BAD = {
    "rubbish": ({"from": "rubbish", "to": "1"}, "“rubbish” is no time in milliseconds"),
    "inverted": ({"from": "1795489200000", "to": "1795481340000"}, "window ends before it begins"),
    "future": ({"from": "1795999999000", "to": "1796999999000"}, "window begins in the future"),
}


@pytest.mark.parametrize("page", PAGES)
def test_a_bad_link_shows_a_page_and_says_all_that_was_wrong(page: str, url: str, serve: Any) -> None:
    serve(url)
    kind = list(BAD)[PAGES.index(page) % len(BAD)]
    window, said = BAD[kind]
    shown = words(run(page, **window, segment="gone", incident="4711", without="lost", against="never"))
    for message in (
        said,
        "There is no segment “gone” here",
        "There is no incident 4711 here",
        "There is no segment “lost” here that could be left out",
        "against=“never” is no window",
    ):
        assert message in shown
    assert "This page has a fault" not in shown


NONE = "No image was scored in this window."
SMALL = {  # what each page says of no image, and of three
    "overview": (NONE, "n = 3 in this window, too few to judge."),
    "incidents": (NONE, "n = 3 in this window, too few to judge."),
    "explore": (NONE, "n = 3, too few to judge."),
    "samples": (NONE, "3 images were scored in it"),
    "coverage": (NONE, "n = 3, too few to say what is new and what is gone"),
    "models": (
        "No image was scored in this window under this reference.",
        "n = 3, too few to judge another threshold.",
    ),
    "pipeline": ("Newest result 18 s old", "Newest result 18 s old"),
}


@pytest.mark.parametrize("page", PAGES)
def test_windows_of_no_image_and_of_three_are_said_to_be_so_on_every_page(page: str, url: str, serve: Any) -> None:
    lonely = NOW - timedelta(hours=30)
    three(url, lonely)
    serve(url)
    for said, begin in zip(SMALL[page], (lonely - timedelta(hours=5), lonely - timedelta(minutes=10)), strict=True):
        query = {"from": str(to_ms(begin)), "to": str(to_ms(begin + timedelta(minutes=30)))}
        shown = words(run(page, **query))
        assert said in shown
        assert "n = 0, too few to judge" not in shown  # of what is wrong now
        assert "This page has a fault" not in shown


def three(url: str, at: datetime) -> None:
    """Three images of one camera in a minute of their own."""
    basis, engine = reference_of_seed(), open_database(url)
    rollup = sums_of(np.random.default_rng(3), 3, basis, foggy=False, own=np.full(3, 0.5))
    at = at.replace(second=0, microsecond=0)
    with engine.begin() as conn:
        key = conn.scalar(select(DeploymentRow.id)) or 0
        segment = conn.scalar(select(SegmentRow.id).where(SegmentRow.name == FOGGY)) or 0
        put_ticks(conn, key, {TickKey(at, 1, 1, of): StoredTick(rollup, 0) for of in (POOLED, segment)})
    engine.dispose()


def test_any_two_windows_are_compared_and_the_link_says_which(url: str, serve: Any) -> None:
    serve(url)
    window = {"from": str(to_ms(ONSET)), "to": str(to_ms(NOW))}
    at = run("explore", **window, against=f"{to_ms(ONSET - timedelta(hours=2))}-{to_ms(ONSET - timedelta(hours=1))}")
    said = words(at)
    first = said[said.index("what</th>") :]
    first = first[first.index("<tbody>") : first.index("</tr>", first.index("<tbody>"))]
    assert f"<td>unusual images</td><td>{FOGGY}</td>" in first
    assert f"2026-11-23 22:49 UTC to 23:49, {FOGGY}; unusual ones framed" in said
    assert [one.proto.label for one in at.get("download_button")][:2] == ["Save as one page", "Save as JSON"]
    at.selectbox(key="against").set_value("the same hours a day earlier").run()
    assert at.query_params["against"] == "day"
    assert "n = 0 then" in words(at)


@pytest.mark.parametrize("page", ["overview", "explore", "samples", "models"])
def test_a_view_without_a_segment_says_so_and_shows_the_rest(page: str, url: str, serve: Any) -> None:
    serve(url)
    at = run(page, without=FOGGY)
    said = words(at)
    assert f"A view without 1 segment: {FOGGY}. Verdict and alarms count all of them." in said
    assert "all but 1 segment" in said
    at.button(key="bring-back").click().run()
    assert "without" not in at.query_params
    assert "A view without" not in words(at)


@pytest.mark.parametrize("page", ["incidents", "coverage", "pipeline"])
def test_a_page_that_counts_all_segments_says_so_where_others_leave_some_out(page: str, url: str, serve: Any) -> None:
    serve(url)
    said = words(run(page, without=FOGGY))
    assert f"This page counts all segments, also those that other pages leave out: {FOGGY}." in said
    assert "all but" not in said


def test_without_the_foggy_camera_the_others_are_as_ever(url: str, serve: Any) -> None:
    serve(url)
    window = {"from": str(to_ms(ONSET)), "to": str(to_ms(NOW))}
    before = words(run("explore", **window))
    at = run("explore", **window)
    at.multiselect(key="without").set_value([FOGGY]).run()
    after = words(at)
    assert at.query_params["without"] == FOGGY
    assert ", 6.5 % unusual" in before
    assert ", 2.3 % unusual" in after


def test_a_window_is_saved_as_its_series_and_its_unusual_images_and_a_list_that_is_cut_says_so(
    url: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(url)
    window = Window(NOW - timedelta(hours=2), NOW)
    known = {key: name for name, key in board_segments().items()}
    newest = data.flagged("road-users", window, tuple(known), 5)
    assert len(newest) == 5
    assert [one.event_time for one in newest] == sorted((one.event_time for one in newest), reverse=True)
    assert all(one.is_ood and window.start <= one.event_time < window.end for one in newest)
    monkeypatch.setattr(saving, "MOST", 7)
    at = run("explore", **{"from": str(to_ms(window.start)), "to": str(to_ms(window.end))})
    said = "\n".join(element.proto.body for element in at.get("html"))
    assert "The list is cut at 7. All of them: oodwatch export scores" in said
    assert "share</td><td>unusual / n" in said
    assert [one.proto.label for one in at.get("download_button")].count("Parquet") == 2


def board_segments() -> dict[str, int]:
    return data.standing(board().key, "road-users", budget_days=30).segment_keys


def test_the_evidence_of_an_incident_is_saved_as_the_page_shows_it(url: str, serve: Any) -> None:
    serve(url)
    at = run("incidents")
    assert "evidence" in [one.proto.id.split("-")[-1] for one in at.get("download_button")]
    with zipfile.ZipFile(io.BytesIO(data.evidence(2, pictures=True))) as packed:
        page = packed.read("index.html").decode()
    assert f"road-users critical: unusual images on {FOGGY} since 2026-11-24 00:49Z" in page


def test_another_threshold_is_shown_beside_the_one_that_scored(url: str, serve: Any) -> None:
    serve(url)
    at = run("models")
    assert "6.9 % as scored" not in words(at)
    first = words(at)
    at.select_slider(key="what-if-rate").set_value(0.05).run()
    assert "where 5.0 % of the reference lies" in words(at)
    at.segmented_control(key="what-if-by").set_value("threshold").run()
    (slider,) = at.slider
    slider.set_value(slider.max).run()
    assert "0 % of" in words(at)
    assert first != words(at)


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


def test_a_verdict_moves_on_to_the_next_image_and_undo_goes_back_to_it(url: str, serve: Any) -> None:
    handled = Handled()
    serve(url, actions=handled)
    at = run("samples")
    at.button(key="judge-shift").click().run()
    at.button(key="judge-bad_input").click().run()
    assert at.number_input(key="closer").value == 3
    (one, *_), (two, *_) = handled.done
    assert one != two
    who = {"who": "somebody at the dashboard"}
    assert handled.done == [(one, "shift", who), (two, "bad_input", who)]
    at.button(key="judge-undo").click().run()
    assert handled.done[2:] == [(two, None, who)]
    assert at.number_input(key="closer").value == 2


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Original(scene(0, 0, 1), 4_000, 3_000, "jpeg", 182_044), "4,000 × 3,000 pixels, jpeg, 182,044 bytes"),
        (Expired(401_000, 412_000), "begins at offset 401,000 now"),
        (EnvironmentFault("no <broker> answers"), "It cannot be shown. no &lt;broker&gt; answers"),
    ],
)
def test_an_original_is_shown_or_why_it_cannot_be(
    found: Original | Expired | EnvironmentFault, said: str, url: str, serve: Any
) -> None:
    log = Log(found)
    serve(url, originals=log)
    at = run("samples")
    at.toggle(key="original").set_value(True).run()
    assert said in words(at)
    at.number_input(key="closer").set_value(2).run()
    at.run()
    assert len(log.asked) == 2


def test_who_may_see_no_images_is_offered_no_original(url: str, serve: Any) -> None:
    log = Log(Expired(1, 2))
    serve(url, originals=log, rules=Rules(images=False))
    at = run("samples")
    assert [toggle.key for toggle in at.toggle] == ["strange"]
    assert not at.checkbox
    with pytest.raises(LookupError):
        data.original(board().key, 1)
    assert log.asked == []


def test_chosen_images_add_up_over_pages_and_go_one_by_one(url: str, serve: Any) -> None:
    serve(url)
    at = run("samples", segment=FOGGY)
    shown = len(at.checkbox)
    at.checkbox[0].check().run()
    assert at.get("download_button")[0].proto.label == "Download 1 for labelling"
    at.button(key="choose-all").click().run()
    at.checkbox[3].uncheck().run()
    assert [box.value for box in at.checkbox].count(True) == shown - 1
    at.selectbox(key="segment").set_value(CAMERAS[0]).run()
    at.checkbox[0].check().run()
    assert at.get("download_button")[0].proto.label == f"Download {shown} for labelling"
    at.button(key="choose-none").click().run()
    assert not any(box.value for box in at.checkbox)


def show_the_change() -> str:
    at = run("samples", segment=FOGGY, incident="2")
    at.session_state["kind"] = "the change"
    return words(at.run())


def test_what_represents_the_change_stands_over_the_nearest_of_the_reference(url: str, serve: Any) -> None:
    serve(url)
    said = show_the_change()
    assert f"What represents the change since 00:49, {FOGGY}" in said
    assert said.count("× as frequent</b>") == said.count("<b>nearest of the reference</b>") >= 4
    assert "stands for 4.5 %, score 1 in 2,000" in said


def test_without_random_samples_or_images_of_the_reference_the_page_says_what_is_missing(url: str, serve: Any) -> None:
    engine = open_database(url)
    with engine.begin() as conn:
        conn.execute(delete(SampleRow).where(SampleRow.kind == "random"))
    serve(url)
    assert "n = 0, too few random samples with features" in show_the_change()
    with engine.begin() as conn:
        conn.execute(delete(ReferenceImageRow))
    engine.dispose()
    serve(url)
    assert "The reference keeps no images" in show_the_change()


def test_what_people_said_of_images_says_whether_alerts_were_right(url: str, serve: Any) -> None:
    engine = open_database(url)
    with engine.begin() as conn:
        flagged = (
            select(SampleRow.id)
            .join(ScoreRow, same_record())
            .join(SegmentRow, SegmentRow.id == SampleRow.segment_id)
            .where(SegmentRow.name == FOGGY, SampleRow.event_time >= ONSET, ScoreRow.is_ood.in_([True]))
        )
        verdicts: tuple[Verdict, ...] = ("shift", "shift", "shift", "noise")
        for key, verdict in zip(conn.scalars(flagged.limit(4)).all(), verdicts, strict=True):
            save_review(conn, key, verdict, who="ann", now=NOW)
    engine.dispose()
    serve(url)
    said = words(run("incidents"))
    assert "3 real shift, 1 noise" in said
    assert "1 of 1 judged: 100 % (2.5 % to 100 %)" in said
    assert "3 of 4 judged: 75 % (19 % to 99 %)" in said
    assert words(run("samples", segment=FOGGY)).count('<span class="mark">') >= 4


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
