"""What surrounds every page: who asks, for which view, in which zone; and what is shown where a page cannot be made."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from dashboard import access, data, markup
from dashboard.board import board
from dashboard.charts import Spec
from dashboard.links import NAMES, View, build, checked, parse
from dashboard.style import DARK, LIGHT, Palette
from dashboard.times import Clock
from dashboard.windows import RANGES, Window, live
from pipeline.errors import OodwatchError
from pipeline.storage.incident_pages import IncidentLine

logger = logging.getLogger(__name__)

_DEFAULT_RANGE = "24 h"
_ALL = "all traffic"
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Page:
    """What a page is to show."""

    key: str  # the database's name
    name: str  # the deployment's
    now: datetime
    window: Window
    is_live: bool
    range: str
    view: View
    incident: IncidentLine | None
    clock: Clock
    palette: Palette
    messages: tuple[str, ...]


def begin() -> None:
    """Look up what the address asks for, and draw the rail's controls. Before any page."""
    asked = _asked()
    view = pinned()
    if asked and asked != build(view):
        view, messages = parse(asked, now=board().clock())
        st.session_state["pin"], st.session_state["said"] = view, messages
        if view.incident is not None:
            _turn_to_its_deployment(view.incident)
    _write_back(view)
    _controls()


def show(body: Callable[[Page], None], *, leaves_out: bool = True, every: float | None = None) -> None:
    """A page that draws itself anew every few seconds (`every`: so many), and says so where it cannot.

    `leaves_out`: it shows traffic without the segments that the reader leaves out; else it counts all of them.
    """

    @st.fragment(run_every=board().refresh_s and (every or board().refresh_s))
    def part() -> None:
        try:
            if (told := st.session_state.pop("told", None)) is not None:
                st.toast(told)
            page = _page()
            if page.messages:
                st.html(markup.note(" ".join(page.messages), doubt=True))
            body(_said_to_be_partial(page, leaves_out=leaves_out))
        except data.NothingYet:
            st.html(
                markup.empty(
                    "No images scored yet.",
                    ("Waiting for the first one: this page looks again every few seconds.", "A stream to begin with:"),
                    "oodwatch produce photos --source spool:spool/images",
                )
            )
        except OodwatchError as error:
            st.html(
                markup.empty(
                    error.headline if isinstance(error, data.Unread) else "This cannot be shown.",
                    ("Scoring is not affected by this page. It tries again every few seconds.", str(error)),
                )
            )
        except Exception:  # the last frame before a browser: the reason belongs into the log alone
            logger.exception("a page could not be made")
            st.html(
                markup.empty("This page has a fault.", ("Scoring is not affected. The server's log says what it is.",))
            )

    part()


def chart(spec: Spec, key: str) -> None:
    """A chart in a container of that name, as wide as there is room."""
    with st.container(key=key):
        st.vega_lite_chart(spec, width="stretch", theme=None, key=f"chart-{key}")


def looking_at(page: Page, incident: IncidentLine) -> Page:
    """The same page with this incident in view, unless the address says which."""
    if page.incident is not None:
        return page
    window = page.view.window or _window_of(incident, RANGES[page.range], page.now)
    return replace(page, incident=incident, window=window, is_live=incident.resolved_at is None)


def tell(text: str) -> None:
    """Say something when the page is drawn next, once."""
    st.session_state["told"] = text


def unpin() -> None:
    """Back to the newest images."""
    pin(replace(pinned(), window=None, incident=None))


def pinned() -> View:
    """What the reader, or the address, has chosen."""
    view: View = st.session_state.get("pin", View())
    return view


def zone() -> Clock:
    """UTC, unless the reader wants the browser's own zone."""
    if st.session_state.get("zone", "UTC") == "UTC":
        return Clock()
    name = st.context.timezone or "UTC"
    try:
        return Clock(ZoneInfo(name), name)
    except (ZoneInfoNotFoundError, ValueError):
        return Clock()


def palette() -> Palette:
    """That of the browser's theme."""
    return DARK if st.context.theme.type == "dark" else LIGHT


def _page() -> Page:
    now = board().clock()
    key = board().key
    known = [one.name for one in data.deployments(key)]
    name = st.session_state.get("deployment", known[0])
    stands = data.standing(key, name if name in known else known[0], budget_days=board().budget_days)
    asked, incident = pinned(), None
    incidents = {one.id: one for one in stands.incidents}
    if asked.incident is not None:
        incident = incidents.get(asked.incident) or data.incident(key, stands.deployment.id, asked.incident)
    view, messages = checked(
        asked, segments=stands.segments.values(), incidents=() if incident is None else (incident.id,)
    )
    chosen = st.session_state.get("range") or _DEFAULT_RANGE
    window = view.window or _window_of(incident, RANGES[chosen], now)
    return Page(
        key=key,
        name=stands.deployment.name,
        now=now,
        window=window,
        is_live=view.window is None and (incident is None or incident.resolved_at is None),
        range=chosen,
        view=view,
        incident=incident,
        clock=zone(),
        palette=palette(),
        messages=(*st.session_state.get("said", ()), *messages),
    )


def _window_of(incident: IncidentLine | None, length: timedelta, now: datetime) -> Window:
    """All of an incident with as much before it, else the newest images."""
    if incident is None or incident.resolved_at is None:
        since = timedelta(0) if incident is None else now - incident.onset
        return live(max(length, 1.3 * since), now)
    around = max(incident.resolved_at - incident.onset, timedelta(hours=1))
    return Window(incident.onset - around, min(incident.resolved_at + around / 2, now))


def _turn_to_its_deployment(incident_id: int) -> None:
    try:
        home = data.home_of_incident(board().key, incident_id)
    except OodwatchError:
        return  # the page says that the database does not answer
    if home is not None:
        st.session_state["deployment"] = home


def _said_to_be_partial(page: Page, *, leaves_out: bool) -> Page:
    """A view without some segments says so before anything else; where a page counts them all, that."""
    names = page.view.without
    if not names:
        return page
    some = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    count = f"{len(names)} segment{'s' if len(names) > 1 else ''}"
    with st.container(key="partial", horizontal=True):
        if leaves_out:
            st.html(markup.note(f"A view without {count}: {some}. Verdict and alarms count all of them.", doubt=True))
        else:
            st.html(markup.note(f"This page counts all segments, also those that other pages leave out: {some}."))
        st.button("Bring them back", key="bring-back", on_click=bring_back)
    return page if leaves_out else replace(page, view=replace(page.view, without=()))


def _asked() -> dict[str, str | list[str]]:
    """What the address says; `without` may stand there several times."""
    return {
        name: st.query_params.get_all(name) if name == "without" else st.query_params[name]
        for name in NAMES
        if name in st.query_params
    }


def _write_back(view: View) -> None:
    wanted, stands = build(view), _asked()
    for name in NAMES:
        if name in wanted and stands.get(name) != wanted[name]:
            st.query_params[name] = wanted[name]
        elif name not in wanted and name in stands:
            del st.query_params[name]


def _controls() -> None:
    """The rail under the pages' names; on a phone a sheet."""
    with st.sidebar:
        try:
            known = [one.name for one in data.deployments(board().key)]
            stands = None if not known else st.session_state.get("deployment", known[0])
            segments = data.names_of_segments(board().key, stands) if stands in known else []
        except OodwatchError:
            return  # there is nothing to choose from; the page says why
        if len(known) > 1:
            st.selectbox("Deployment", known, key="deployment", on_change=unpin)
        st.selectbox("Range", list(RANGES), index=list(RANGES).index(_DEFAULT_RANGE), key="range", on_change=unpin)
        view = pinned()
        names = [_ALL, *segments]
        st.session_state["segment"] = view.segment if view.segment in segments else _ALL
        st.selectbox("Segment", names, key="segment", on_change=_choose_segment)
        if len(segments) > 1:
            st.session_state["without"] = [one for one in view.without if one in segments]
            st.multiselect(
                "Without", segments, key="without", on_change=_leave_out, placeholder="no segment", select_all=False
            )
        st.radio("Times in", ("UTC", "local"), key="zone", horizontal=True)
        if view.window is not None or view.incident is not None:
            st.button("Back to live", on_click=unpin, width="stretch")
        if board().rules.claims is not None:
            st.button("Sign out", on_click=st.logout, help=access.user(), width="stretch")


def _choose_segment() -> None:
    chosen = st.session_state["segment"]
    pin(replace(pinned(), segment=None if chosen == _ALL else chosen))


def _leave_out() -> None:
    pin(replace(pinned(), without=tuple(st.session_state["without"])))


def bring_back() -> None:
    """All segments again."""
    pin(replace(pinned(), without=()))


def pin(view: View) -> None:
    """The reader's choice counts, and not the address's: that is made to agree before it is read again."""
    st.session_state["pin"], st.session_state["said"] = view, ()
    _write_back(view)


def link(url: str, label: str, view: View, *, icon: str = ":material/arrow_forward:") -> None:
    """A link to another page that shows the same view."""
    if (page := st.session_state.get("pages", {}).get(url)) is not None:
        st.page_link(page, label=label, icon=icon, query_params=build(view), width="stretch")
