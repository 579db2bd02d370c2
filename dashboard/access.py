"""Who asks, and what they may see and do. The gates in front have let nobody else in."""

from typing import Any

import streamlit as st
from sqlalchemy.exc import DBAPIError

from dashboard.board import board
from pipeline.storage.engine import reading
from pipeline.storage.sample_pages import may_read_pictures

_STANDING_S = 60  # what changes by people's hands alone


def user() -> str | None:
    """Who asks, as whoever signs people in says; None: nobody does."""
    rules = board().rules
    if rules.claims is not None:
        found = st.user.get(rules.claims.name)
        return None if found is None else str(found)
    header = board().user_header
    return None if header is None else st.context.headers.get(header)


def groups() -> frozenset[str]:
    """What this user belongs to, as whoever signs people in says."""
    rules = board().rules
    if rules.claims is not None:
        return _names(st.user.get(rules.claims.groups))
    return _names(None if rules.groups_header is None else st.context.headers.get(rules.groups_header))


def may_see_images() -> bool:
    """Whether this user may see pictures of images: these pages may, the user's groups may, the database's login may.

    Where that cannot be known, no.
    """
    rules = board().rules
    if not rules.images or not (rules.image_groups is None or rules.image_groups & groups()):
        return False
    try:
        return _login_reads_pictures(board().key)
    except DBAPIError:
        return False


def why_not_decide() -> str | None:
    """Why this user may decide nothing, in a sentence; None: it may."""
    allowed = board().rules.operator_groups
    if allowed is not None and not allowed & groups():
        return f"Only {', '.join(sorted(allowed)) or 'nobody'} may do this; you belong to none of them."
    if not _login_writes(board().key):
        return "These pages may only look: their login lacks the role oodwatch_operator (dashboard.operator_database)."
    return None


def who() -> str:
    """By whom a decision is, as history will have it."""
    return user() or st.session_state.get("who") or board().login or "somebody at the dashboard"


def why_not_in() -> str | None:
    """Why nothing is shown to this visitor; None: it is."""
    if board().rules.claims is None or st.user.get("is_logged_in"):
        return None
    return "You are not signed in under this address. Open the pages by the address that they are known by."


@st.cache_data(ttl=_STANDING_S, show_spinner=False)
def _login_writes(key: str) -> bool:
    return board().may_write()


@st.cache_data(ttl=_STANDING_S, show_spinner=False)
def _login_reads_pictures(key: str) -> bool:
    with reading(board().engine).connect() as conn:
        return may_read_pictures(conn)


def _names(said: Any) -> frozenset[str]:
    """A list, or names with commas between them."""
    found = said.split(",") if isinstance(said, str) else said if isinstance(said, list | tuple) else ()
    return frozenset(name for one in found if (name := str(one).strip()))
