"""What people can do about an incident; who serves the pages may give it, or not."""

from datetime import datetime
from typing import Protocol


class Actions(Protocol):
    """Decisions of people. Each raises OodwatchError, in one line, where it cannot be: somebody was quicker, or the
    role may not write."""

    def acknowledge(self, incident_id: int, *, who: str, why: str) -> None:
        """Somebody takes care of it."""

    def silence(self, incident_id: int, *, until: datetime, who: str, why: str) -> None:
        """Nothing is told of it until then, unless it gets worse."""

    def expect(self, incident_id: int, *, until: datetime, who: str, why: str) -> None:
        """It is a known change."""

    def note(self, incident_id: int, *, who: str, why: str) -> None:
        """Something that others should know."""
