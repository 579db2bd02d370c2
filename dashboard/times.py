"""Times and numbers as people read them. UTC unless a reader wants the browser's own zone."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo


@dataclass(frozen=True, slots=True)
class Clock:
    """Which zone times are shown in."""

    zone: tzinfo = UTC
    name: str = "UTC"

    @property
    def is_utc(self) -> bool:
        """Charts can show two zones: UTC, and the browser's."""
        return self.zone is UTC

    def short(self, at: datetime, now: datetime) -> str:
        """The time of day, with the date where that is not today's."""
        here, today = at.astimezone(self.zone), now.astimezone(self.zone)
        return f"{here:%H:%M}" if here.date() == today.date() else f"{here.day} {here:%b %H:%M}"

    def long(self, at: datetime) -> str:
        """Date and time with the zone."""
        return f"{at.astimezone(self.zone):%Y-%m-%d %H:%M} {self.name}"

    def span(self, start: datetime, end: datetime) -> str:
        """From when to when; the end with its date where that is not the start's."""
        return f"{self.long(start)} to {self.short(end, start)}"

    def exact(self, at: datetime) -> str:
        """The time of day to the second."""
        return f"{at.astimezone(self.zone):%H:%M:%S}"


def ago(length: timedelta) -> str:
    """How long something lasts, in one unit."""
    seconds = max(0, round(length.total_seconds()))
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} days"


def percent(share: float) -> str:
    """Two digits that matter: 28 %, 2.0 %, 0.05 %."""
    value = 100 * share
    if value == 0 or value >= 9.95:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 0.095 else f"{value:.2f} %"


def rarity(at_least: int, n: int) -> str:
    """How rare a score is among n normal ones, of which so many reach it: "1 in 2,000"."""
    if at_least == 0:
        return f"< 1 in {n:,}"
    one_in = n / at_least
    return "usual" if one_in < 10 else f"1 in {round(one_in, 1 - len(str(int(one_in)))):,.0f}"
