"""What people can do about an incident; who serves the pages may give it, or not."""

from datetime import datetime
from typing import Protocol

from pipeline.alerts.precision import Verdict


class Actions(Protocol):
    """Decisions of people; `seen` is the newest event that the page showed of the incident.

    Each returns what the person should be told, as what others have done meanwhile, or nothing; and raises
    OodwatchError, in one line, where it cannot be: the incident is over, or the role may not write.
    """

    def acknowledge(self, incident_id: int, *, who: str, why: str, seen: int) -> str:
        """Somebody takes care of it."""

    def silence(self, incident_id: int, *, until: datetime, who: str, why: str, seen: int) -> str:
        """Nothing is told of it until then, unless it gets worse."""

    def expect(self, incident_id: int, *, until: datetime, who: str, why: str, seen: int) -> str:
        """It is a known change."""

    def note(self, incident_id: int, *, who: str, why: str, seen: int) -> str:
        """Something that others should know."""

    def review(self, sample_id: int, verdict: Verdict | None, *, who: str) -> str:
        """What a single image is; None: what was said of it last is withdrawn."""
