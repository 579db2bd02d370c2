"""What the pages were given by who serves them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Engine

from dashboard.actions import Actions
from dashboard.originals import Originals
from dashboard.proposals import Preparing


class Claims(NamedTuple):
    """What OpenID Connect calls a user, and a user's groups."""

    name: str
    groups: str


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may what. Groups None: whoever is let in."""

    images: bool = True  # False: pages without pictures, whoever asks
    image_groups: frozenset[str] | None = None  # who may see pictures
    operator_groups: frozenset[str] | None = None  # who may decide
    groups_header: str | None = None  # in which a proxy names the user's groups
    claims: Claims | None = None  # None: nobody signs in here


@dataclass(frozen=True, slots=True)
class Board:
    """Parts and limits that pages are made of."""

    engine: Engine  # reads only
    clock: Callable[[], datetime]
    levels: tuple[float, float]  # warning, critical: shares of flagged images
    budget_days: float  # one false page in so many days is allowed
    silent_after: timedelta  # a process that has not beaten for so long is silent
    stale_after: timedelta = timedelta(minutes=5)  # without a newer image, figures are old
    refresh_s: float | None = 10.0  # None: pages stand still
    actions: Actions | None = None
    preparing: Preparing | None = None
    login: str | None = None  # who decides where nobody else says so
    originals: Originals | None = None  # the log that samples came from; None: it is not at hand
    explainer: str | None = None  # where `oodwatch explain --serve` answers, if it runs
    url: str | None = None  # where these pages are, as links from elsewhere have it
    user_header: str | None = None  # in which a proxy names the user
    rules: Rules = Rules()
    may_write: Callable[[], bool] = lambda: True  # whether the login of `actions` may

    @property
    def key(self) -> str:
        """Tells one database from another in caches; without a password."""
        return self.engine.url.render_as_string(hide_password=True)


class _Given:
    """Streamlit runs pages as scripts, which take no arguments: this is theirs, set once before the first run."""

    board: Board | None = None


def give(board: Board) -> None:
    """Let pages be made of these parts from now on."""
    _Given.board = board


def board() -> Board:
    """What was given. Raises LookupError where pages are run by something else than `oodwatch dashboard`."""
    if _Given.board is None:
        raise LookupError("the pages were given no database; start them by `oodwatch dashboard`")
    return _Given.board
