"""The Models page: a window is accepted as normal, and what the detector cannot see is said."""

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from sqlalchemy import select, update
from streamlit.testing.v1 import AppTest

from dashboard import blind_spots
from dashboard.background import DESK
from dashboard.board import Board, Rules, give
from pipeline.assembly.proposing import Proposals
from pipeline.settings import load_settings
from pipeline.simulation.power import Damage, Found, Question
from pipeline.storage.engine import open_database
from pipeline.storage.read_only import open_read_only
from pipeline.storage.schema import BaselineRow, ReferenceRow
from tests.browser.seeded import END, NOW, ONSET, seed
from tests.browser.test_views import run, words
from tests.services.processes import wait_until


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit puts the page in the place of the program; child processes of other tests would run it again."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    url = f"sqlite:///{tmp_path}/board.db"
    seed(url, hours=6)
    engine = open_read_only(url)
    st.cache_data.clear()
    st.cache_resource.clear()
    serve(url)
    yield url
    engine.dispose()


def serve(url: str, rules: Rules | None = None, now: datetime = NOW) -> None:
    give(
        Board(
            open_read_only(url),
            lambda: now,
            levels=(0.1, 0.25),
            budget_days=30,
            silent_after=timedelta(seconds=40),
            refresh_s=None,
            login="robin",
            preparing=Proposals(load_settings(database=url)),
            rules=rules or Rules(),
        )
    )


def stored(url: str) -> list[tuple[int, str, str, str | None]]:
    engine = open_database(url)
    with engine.connect() as conn:
        columns = BaselineRow.version, BaselineRow.name, BaselineRow.reason, BaselineRow.revoked_by
        found = [tuple(row) for row in conn.execute(select(*columns).order_by(BaselineRow.version))]
    engine.dispose()
    return found  # type: ignore[return-value]


def button(at: AppTest, label: str) -> AppTest:
    (found,) = (one for one in at.button if one.label == label)
    return found.click().run()


def shown(at: AppTest) -> AppTest:
    """After the calculation."""
    button(at, "Show what it means")
    what = at.session_state["proposed"]
    wait_until(lambda: (work := DESK.of(what)) is not None and work.done, "the calculation", deadline_s=60)
    return at.run()


def test_the_quiet_hours_are_looked_at_accepted_with_name_and_reason_and_revoked(url: str) -> None:
    at = run("models")
    assert "Not calculated yet for this window" in words(at)
    said = words(shown(at))
    assert "3 h as normal" in said
    assert "It would have raised" in said
    assert "0 whole days are accepted of the 3 from which dispersion is known." in said
    for figure in ("dispersion D", "clumping φ", "classes, most frequent", "images a minute, at most"):
        assert figure in said
    assert "car 4" in said
    assert "in place of baseline 1, which pages, all that is raised would be provisional" in said
    assert stored(url) == [(1, "dana", "two weeks without an incident", None)]
    button(at, "Accept as baseline 2")
    assert [toast.value for toast in at.toast] == ["Say why this traffic is normal, for those who come later."]
    at.text_input(key="normal-why").set_value("a quiet night")
    button(at, "Accept as baseline 2")
    assert "Say that it is to count all the same" in at.toast[0].value
    assert len(stored(url)) == 1
    at.checkbox(key="normal-force").set_value(True)
    at.text_input(key="normal-why").set_value("a quiet night")
    button(at, "Accept as baseline 2")
    assert stored(url)[1:] == [(2, "robin", "a quiet night", None)]
    assert "2, counts" in words(at)
    at.button(key="revoke-normal").click().run()
    assert [toast.value for toast in at.toast] == ["Baseline 2 is revoked: baseline 1 counts again."]
    assert stored(url)[1:] == [(2, "robin", "a quiet night", "robin")]


def test_a_window_in_which_something_was_raised_is_accepted_only_when_somebody_says_that_it_is_normal(
    url: str,
) -> None:
    at = run("models")
    start, end = (one.replace(tzinfo=None) for one in (ONSET - timedelta(minutes=49), END))
    at.datetime_input(key="normal-Fr-1").set_value(start)
    at.datetime_input(key="normal-To-1").set_value(end)
    said = words(shown(at.run()))
    assert "Alarms in the window, 3 in all" in said
    at.text_input(key="normal-why").set_value("fog is normal")
    button(at, "Accept as baseline 2")
    assert "Say that it is to count all the same" in at.toast[0].value
    assert len(stored(url)) == 1
    at.checkbox(key="normal-force").set_value(True)
    at.text_input(key="normal-why").set_value("fog is normal")
    button(at, "Accept as baseline 2")
    assert stored(url)[1:] == [(2, "robin", "fog is normal", None)]


def test_a_window_without_images_says_so(url: str) -> None:
    at = run("models")
    at.datetime_input(key="normal-Fr-1").set_value((END - timedelta(days=9)).replace(tzinfo=None))
    at.datetime_input(key="normal-To-1").set_value((END - timedelta(days=8)).replace(tzinfo=None))
    assert "Nothing was learnt: from 2026-11-15T03:00Z to 2026-11-16T03:00Z nothing is stored" in words(shown(at.run()))


def test_who_may_not_decide_looks_and_accepts_nothing(url: str) -> None:
    serve(url, Rules(operator_groups=frozenset({"on-call"})))
    at = shown(run("models"))
    (accept,) = (one for one in at.button if one.label == "Accept as baseline 2")
    assert accept.disabled
    assert accept.help == "Only on-call may do this; you belong to none of them."


class Simulated:
    """Stands in for the simulation, which takes half a minute."""

    def __init__(self, question: Question, rng: np.random.Generator) -> None:
        self.question = question

    def shares(self, wanted: Sequence[float]) -> Iterator[Found]:
        for share in wanted:
            images = self.question.traffic.images_per_minute
            yield Found(f"{share:.0%} flagged", "all traffic", 3, images, 1.0, "fraction", 0.9, 1428)

    def damage(self, kinds: Sequence[Damage]) -> Iterator[Found]:
        for one in kinds:
            late = None if one.kind == "jpeg" else 2.0
            yield Found(one.kind, "all traffic", late, late, 1.0, "fraction", 0.9, 357)


def test_how_soon_damage_is_found_is_not_said_before_it_was_calculated(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blind_spots, "PowerCard", Simulated)
    at = run("models")
    said = words(at)
    assert "It cannot see: jpeg." in said
    assert "<th>damage</th><th>flagged</th>" in said
    assert "found in" not in said
    assert "Not calculated yet: it takes about half a minute" in said
    at.button(key="calculate-power").click().run()
    what = at.session_state["power"]
    wait_until(lambda: (work := DESK.of(what)) is not None and work.done, "the simulation", deadline_s=30)
    said = words(at.run())
    assert said.count("found in") == 2
    assert "not within 357 min" in said
    assert ">2 min</td>" in said
    work = DESK.of(what)
    assert work is not None
    rate = work.result.traffic.rate
    assert f"3 to {rate / 1.6:,.0f} min" in said  # of images that count: D is 1.6
    assert f"{rate:,.3g} images/min, 6 segments, D = 1.6; calculated 0 s ago" in said
    serve(url, now=NOW + timedelta(hours=21))  # the last day is another one
    said = words(run("models"))
    assert said.count("found in") == 2
    assert "calculated 21 h ago; traffic has changed since" in said


def test_a_reference_without_a_card_is_said_to_be_unmeasured(url: str) -> None:
    engine = open_database(url)
    with engine.begin() as conn:
        conn.execute(update(ReferenceRow).values(card=None))
    engine.dispose()
    said = words(run("models"))
    assert "Not measured: this reference was made without a card." in said
    assert "cannot see" not in said
