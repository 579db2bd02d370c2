"""When a notification is tried again, and when it is given up. Pure: the clock and chance are arguments."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

#: How long a notification is tried, from the event on.
GIVE_UP_AFTER = timedelta(hours=24)

_FIRST = timedelta(seconds=5)
_LONGEST = timedelta(minutes=15)
_SHORTEST = timedelta(seconds=1)
_PASSING = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)  # of the 4xx; every 5xx passes


class Undelivered(Exception):
    """A channel has not taken a notification. The message says why, and holds no secret that the sender knows of."""

    def __init__(self, why: str, *, final: bool = False, wait: timedelta | None = None) -> None:
        super().__init__(why)
        self.final = final  # trying again would bring the same answer
        self.wait = wait  # what the receiver has asked for


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Not before then."""

    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It will not be told on this channel."""


def after_failure(
    failure: Undelivered,
    *,
    attempts: int,
    created_at: datetime,
    now: datetime,
    uniform: Callable[[float, float], float],
) -> TryAgain | GiveUp:
    """What follows the failed attempt number `attempts`, the first being 1; `uniform` draws from an interval.

    Exponential with full jitter: from between 1 s and 5 s, 10 s, 20 s, ... 15 min, unless the receiver has asked for
    more. The last attempt is made when the time of 24 h is over, so that no asked-for pause is broken before.
    """
    deadline = created_at + GIVE_UP_AFTER
    if failure.final or now >= deadline:
        return GiveUp()
    longest = min(_FIRST * 2 ** min(attempts - 1, 20), _LONGEST)
    pause = timedelta(seconds=uniform(_SHORTEST.total_seconds(), longest.total_seconds()))
    if failure.wait is not None:
        pause = max(pause, failure.wait)
    return TryAgain(min(now + pause, deadline))


def check_answer(status: int, said: str, *, retry_after: str | None, now: datetime) -> None:
    """Raises Undelivered for an HTTP status that is no success. `said` is what the receiver wrote."""
    if 200 <= status < 300:
        return
    answered = f"answered {_named(status)}" + (f": {said}" if said else "")
    if 300 <= status < 400:
        raise Undelivered(f"{answered}; no redirect is followed, name the final address", final=True)
    passes = status >= 500 or status in _PASSING
    raise Undelivered(answered, final=not passes, wait=asked_wait(retry_after, now) if passes else None)


def asked_wait(retry_after: str | None, now: datetime) -> timedelta | None:
    """A Retry-After header, seconds or an HTTP date, as a time to wait; None where it says nothing that can be read."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:9])), GIVE_UP_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return min(max(at - now, timedelta(0)), GIVE_UP_AFTER)


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
