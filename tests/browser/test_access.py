"""What pages show to whom."""

import sys
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import streamlit as st
from sqlalchemy import Engine, event

from dashboard import access
from dashboard.actions import Actions
from dashboard.board import Board, Claims, Rules, give
from pipeline.storage.engine import make_engine
from pipeline.storage.migrations.run import upgrade
from pipeline.storage.read_only import open_read_only
from pipeline.storage.roles import BLIND, grant_roles
from tests.browser.seeded import NOW, seed
from tests.browser.test_views import PAGES, Handled, run, words
from tests.services.postgres import Postgres

PICTURE = "data:image/webp"
HIDDEN = 'class="gone hidden"'
WITH_PICTURES = ("overview", "incidents", "explore", "samples", "coverage")

Serve = Callable[..., Engine]


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit puts the page in the place of the program; child processes of other tests would run it again."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Nothing in this module writes to it."""
    url = f"sqlite:///{tmp_path_factory.mktemp('seeded')}/board.db"
    seed(url, hours=6)
    return url


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Gives the pages a database and rules."""
    engines: list[Engine] = []

    def given(
        url: str, *, rules: Rules, actions: Actions | None = None, may_write: Callable[[], bool] = lambda: True
    ) -> Engine:
        engines.append(open_read_only(url))
        st.cache_data.clear()
        st.cache_resource.clear()
        give(
            Board(
                engines[-1],
                lambda: NOW,
                levels=(0.1, 0.25),
                budget_days=30,
                silent_after=timedelta(seconds=40),
                refresh_s=None,
                actions=actions,
                rules=rules,
                may_write=may_write,
            )
        )
        return engines[-1]

    yield given
    for engine in engines:
        engine.dispose()


def hear(engine: Engine) -> list[str]:
    """Every statement that the pages send from now on."""
    heard: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: heard.append(given[2]))
    return heard


@pytest.mark.parametrize("page", PAGES)
def test_pages_without_pictures_say_so_and_ask_the_database_for_none(page: str, url: str, serve: Serve) -> None:
    heard = hear(serve(url, rules=Rules(images=False)))
    said = words(run(page))
    assert "This page has a fault" not in said
    assert PICTURE not in said
    assert (HIDDEN in said) == ("Pictures are hidden for your role" in said) == (page in WITH_PICTURES)
    assert len(heard) > 3
    assert not [statement for statement in heard if "sample.thumbnail" in statement]
    assert not [statement for statement in heard if "reference_image.thumbnail" in statement]


def test_without_pictures_nobody_is_asked_where_they_are_strange(url: str, serve: Serve) -> None:
    serve(url, rules=Rules(images=False))
    toggle = run("samples").toggle(key="strange")
    assert toggle.disabled
    assert toggle.help == "Pictures are hidden for your role."


def test_who_belongs_to_a_group_sees_pictures_and_another_visitor_of_the_same_server_sees_none(
    url: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(url, rules=Rules(image_groups=frozenset({"analysts"})))
    monkeypatch.setattr(access, "groups", lambda: frozenset({"analysts", "all"}))
    assert words(run("samples")).count(PICTURE) == 25
    monkeypatch.setattr(access, "groups", lambda: frozenset({"all"}))
    said = words(run("samples"))
    assert (said.count(PICTURE), said.count(HIDDEN)) == (0, 25)


def test_a_login_that_may_read_no_picture_gets_every_page_without_being_told_to(
    postgres: Postgres, serve: Serve
) -> None:
    database = postgres.create_database()
    engine = make_engine(postgres.url(database))
    upgrade(engine)
    with engine.begin() as conn:
        grant_roles(conn)
    engine.dispose()
    seed(postgres.url(database), hours=3)
    postgres.execute(f"CREATE ROLE blind LOGIN PASSWORD 'x' IN ROLE {BLIND}")
    postgres.execute("CREATE ROLE stranger LOGIN PASSWORD 'x'")
    try:
        serve(postgres.url(database, user="blind", password="x"), rules=Rules())
        for page in PAGES:
            said = words(run(page))
            assert "did not answer" not in said
            assert PICTURE not in said
            assert (HIDDEN in said) == (page in WITH_PICTURES)
        serve(postgres.url(database, user="stranger", password="x"), rules=Rules())
        said = words(run())
        assert "The database refuses these pages." in said
        assert "to look only: oodwatch_reader" in said
    finally:
        postgres.drop_database(database)
        for login in ("blind", "stranger"):
            postgres.execute(f"DROP ROLE {login}")


def test_who_may_not_decide_sees_disabled_buttons_with_the_reason(
    url: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(url, rules=Rules(operator_groups=frozenset({"on-call"})), actions=Handled())
    monkeypatch.setattr(access, "groups", lambda: frozenset({"all"}))
    at = run("incidents")
    quick = at.button(key="acknowledge-2")
    assert quick.disabled
    assert quick.help == "Only on-call may do this; you belong to none of them."
    assert quick.help in words(at)


def test_who_has_lost_the_right_since_the_page_was_drawn_decides_nothing(
    url: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled = Handled()
    serve(url, rules=Rules(operator_groups=frozenset({"on-call"})), actions=handled)
    monkeypatch.setattr(access, "groups", lambda: frozenset({"on-call"}))
    at = run("incidents")
    monkeypatch.setattr(access, "groups", frozenset)
    at.button(key="acknowledge-2").click().run()
    assert handled.done == []
    assert [toast.value for toast in at.toast] == ["Only on-call may do this; you belong to none of them."]


def test_pages_whose_login_may_only_look_say_which_role_it_takes(url: str, serve: Serve) -> None:
    serve(url, rules=Rules(), actions=Handled(), may_write=lambda: False)
    quick = run("incidents").button(key="acknowledge-2")
    assert quick.disabled
    assert "oodwatch_operator (dashboard.operator_database)" in quick.help


def test_a_decision_bears_the_name_that_the_sign_in_gave(
    url: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled = Handled()
    serve(url, rules=Rules(), actions=handled)
    monkeypatch.setattr(access, "user", lambda: "dana@example.org")
    run("incidents").button(key="acknowledge-2").click().run()
    assert [given["who"] for _, given in handled.done] == ["dana@example.org"]


def test_without_a_sign_in_a_page_that_should_have_one_shows_nothing(url: str, serve: Serve) -> None:
    serve(url, rules=Rules(claims=Claims("email", "groups")))
    said = words(run())
    assert "You are not signed in under this address." in said
    assert "ow-trust" not in said
