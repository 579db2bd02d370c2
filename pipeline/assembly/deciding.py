"""Composition: what people decide at the dashboard → changed incidents, over a login of its own."""

from collections.abc import Callable
from datetime import datetime

from pipeline.alerts.acts import Act
from pipeline.alerts.precision import Verdict
from pipeline.assembly.handling import Decided, decide
from pipeline.assembly.parts import existing_database
from pipeline.errors import EnvironmentFault, OodwatchError, RefusedError, UsageError
from pipeline.settings import Settings
from pipeline.storage.engine import reading, shown
from pipeline.storage.incidents import may_decide
from pipeline.storage.reviews import may_review, save_review
from pipeline.storage.roles import OPERATOR

_DONE = {
    "acknowledge": "acknowledged it",
    "silence": "silenced it",
    "expect": "called it expected",
    "note": "noted on it",
}


class Operator:
    """Stores each decision in a transaction of its own. Raises as `decide` does, in words for a page."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] | None = None) -> None:
        self._settings = operator_settings(settings)
        self._clock = clock or settings.clock.now

    def acknowledge(self, incident_id: int, *, who: str, why: str, seen: int) -> str:
        """Somebody takes care of it."""
        return self._decide(incident_id, Act("acknowledge", who, why), seen)

    def silence(self, incident_id: int, *, until: datetime, who: str, why: str, seen: int) -> str:
        """Nothing is told of it until then, unless it gets worse."""
        return self._decide(incident_id, Act("silence", who, why, until, unless_worse=True), seen)

    def expect(self, incident_id: int, *, until: datetime, who: str, why: str, seen: int) -> str:
        """It is a known change."""
        return self._decide(incident_id, Act("expect", who, why, until), seen)

    def note(self, incident_id: int, *, who: str, why: str, seen: int) -> str:
        """Something that others should know."""
        return self._decide(incident_id, Act("note", who, why), seen)

    def review(self, sample_id: int, verdict: Verdict | None, *, who: str) -> str:
        """What a single image is; None: what was said of it last is withdrawn."""
        try:
            with existing_database(self._settings) as engine, engine.begin() as conn:
                if not may_review(conn):
                    raise UsageError(
                        f"Nothing was stored: this login may only look at {shown(engine.url)}; use one of the role"
                        f" {OPERATOR} (the setting dashboard.operator_database)"
                    )
                kept = save_review(conn, sample_id, verdict, who=who, now=self._clock())
        except EnvironmentFault as error:
            raise EnvironmentFault("Nothing was stored: the database did not take it. Try again.") from error
        return "" if kept else "Nothing was stored: the image is no longer kept."

    def may_write(self) -> bool:
        """Whether this login may store decisions; where the database does not answer, that is said when one is made."""
        try:
            with existing_database(self._settings) as engine, reading(engine).connect() as conn:
                return may_decide(conn)
        except OodwatchError:
            return True

    def _decide(self, incident_id: int, act: Act, seen: int) -> str:
        try:
            decided = decide(self._settings, incident_id, act, clock=self._clock, seen=seen)
        except EnvironmentFault as error:
            raise EnvironmentFault("Nothing was stored: the database did not take it. Try again.") from error
        except RefusedError as error:
            raise RefusedError(f"Nothing was changed: {error}") from error
        return said(decided, act)


def operator_settings(settings: Settings) -> Settings:
    """The same over the operator's login, where there is one."""
    chosen = settings.dashboard
    if chosen.operator_database is None:
        return settings
    over = {"database": chosen.operator_database, "database_password_file": chosen.operator_password_file}
    return settings.model_copy(update=over)


def said(decided: Decided, act: Act) -> str:
    """What others have done since the person looked; empty where nobody did anything."""
    others = [f"{line.who} has {_DONE[line.kind]}" for line in decided.meanwhile if line.kind in _DONE]
    meanwhile = ", ".join(dict.fromkeys(others))
    if not decided.changed:
        already = f"{decided.before.handled_by or 'somebody'} has {_DONE[act.kind]} already"
        return f"{meanwhile or already}; nothing was changed."
    return f"Done; meanwhile {meanwhile}." if meanwhile else ""
