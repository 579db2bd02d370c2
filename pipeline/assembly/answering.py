"""Settings → answers about incidents."""

from dataclasses import replace
from typing import Any

from pipeline.alerts.answer import payload
from pipeline.alerts.incident import Event
from pipeline.assembly.detecting import thresholds_of
from pipeline.assembly.parts import existing_database
from pipeline.reports.bundle import bundle
from pipeline.settings import Settings
from pipeline.stages.answering import Composer
from pipeline.stages.bundling import gather
from pipeline.storage.engine import reading
from pipeline.storage.told import read_incident


def composer_of(settings: Settings) -> Composer:
    """What composes the answers that are told. Raises UsageError for levels out of order."""
    levels = thresholds_of(settings)
    return Composer(settings.alerts.dashboard_url, levels.warning, levels.critical)


def why(settings: Settings, incident_id: int | None) -> dict[str, Any]:
    """An incident as its worst alert says, by default the newest that is open, with what is stored by now.

    Raises UsageError where there is none.
    """
    composer = composer_of(settings)
    with existing_database(settings) as engine, reading(engine).connect() as conn:
        deployment, incident, event, event_id = read_incident(conn, incident_id)
        now = settings.clock.now()
        if event is None:
            event = Event(incident.id, None, None, now, "note", None, None, "oodwatch", "")
        whole = replace(event, at=now, alert=None)
        return payload(composer.answer(conn, deployment, incident, whole), event, event_id)


def evidence(settings: Settings, incident_id: int | None, *, pictures: bool) -> bytes:
    """The same incident with all that is stored of it, as a zip. Raises UsageError where there is none."""
    composer = composer_of(settings)
    with existing_database(settings) as engine, reading(engine).connect() as conn:
        return bundle(gather(conn, composer, incident_id, now=settings.clock.now(), pictures=pictures))
