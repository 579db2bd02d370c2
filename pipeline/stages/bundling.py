"""All that is stored of one incident, read at once: what its bundle is made of. Reads only."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from pipeline.alerts.answer import payload
from pipeline.alerts.incident import Event
from pipeline.errors import UsageError
from pipeline.records import Reference
from pipeline.shift.folding import LEVELS, POOLED, floor, reaching
from pipeline.stages.answering import Composer
from pipeline.storage.incident_pages import (
    DeliveryLine,
    IncidentLine,
    MarkLine,
    TransitionLine,
    read_deliveries,
    read_incident,
    read_marks,
    read_transitions,
)
from pipeline.storage.incidents import EventLine, history
from pipeline.storage.monitoring import made_levels, reference_names
from pipeline.storage.references import reference_by_key
from pipeline.storage.sample_pages import Picture, read_pictures
from pipeline.storage.series import Bucket, oldest_ticks, read_buckets, spans_of
from pipeline.storage.ticks import segment_names
from pipeline.storage.told import read_incident as read_told

_MINUTE = timedelta(minutes=1)
_LEAST_AROUND = timedelta(hours=1)
_MOST_STEPS = 320
_STEPS = (1, 5, 15, 30, 60, 180, 360, 720, 1440, 10080)  # minutes
_PICTURES = 10  # of unusual images, and as many of usual ones
_TRANSITIONS = 200  # the newest


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """One incident as it stood."""

    made_at: datetime
    payload: dict[str, Any]  # webhook v1
    incident: IncidentLine
    events: tuple[EventLine, ...]
    deliveries: tuple[DeliveryLine, ...]
    transitions: tuple[TransitionLine, ...]
    marks: tuple[MarkLine, ...]
    window: tuple[datetime, datetime]  # of the series: the incident, and as much before it
    step: timedelta
    buckets: tuple[Bucket, ...]  # of all traffic and of each segment
    names: dict[int, str]  # of segments
    reference: Reference
    pictures: bool  # False: whoever asks may see none
    unusual: tuple[Picture, ...]
    usual: tuple[Picture, ...]  # of the same segment before the onset, or else since then


def gather(conn: Connection, composer: Composer, incident_id: int | None, *, now: datetime, pictures: bool) -> Gathered:
    """The named incident, by default the newest that is open, else the newest.

    `pictures`: with thumbnails; without, samples are listed and no image leaves the database.
    Raises UsageError where there is no such incident.
    """
    deployment, told, event, event_id = read_told(conn, incident_id)
    incident = read_incident(conn, deployment.id, told.id)
    if incident is None:
        raise UsageError(f"incident {told.id} is that of a drill, of which nothing is kept")
    event = event or Event(told.id, None, None, now, "note", None, None, "oodwatch", "")
    event = replace(event, at=now, alert=None)  # of the worst alert, and not of the newest
    answer = composer.answer(conn, deployment, told, event)
    since, end = answer.window
    onset = min(told.onset, since)
    start = onset - max(end - onset, _LEAST_AROUND)
    names = segment_names(conn, deployment.id)
    keys = {name: key for key, name in names.items()}
    step, buckets = _series(conn, deployment.id, start, end)
    lead = None if answer.lead is None else keys.get(answer.lead.segment)
    shown = tuple(names) if lead is None else (lead,)

    def samples(window: tuple[datetime, datetime], *, flagged: bool) -> tuple[Picture, ...]:
        found = read_pictures(
            conn,
            deployment.id,
            window,
            segments=shown,
            flagged=flagged,
            order="strangest" if flagged else "newest",
            limit=_PICTURES,
            thumbnails=pictures,
        )
        return tuple(found)

    reference_id = deployment.reference_id
    if answer.lead is not None and answer.lead.reference_id:
        reference_id = answer.lead.reference_id
    return Gathered(
        made_at=now,
        payload=payload(answer, event, event_id),
        incident=incident,
        events=tuple(history(conn, [incident.id], payloads=True)),
        deliveries=tuple(read_deliveries(conn, incident.id)),
        transitions=tuple(read_transitions(conn, deployment.id, onset, end)[-_TRANSITIONS:]),
        marks=tuple(read_marks(conn, deployment.id, start, end)),
        window=(start, end),
        step=step,
        buckets=tuple(buckets),
        names=names,
        reference=reference_by_key(conn, reference_id),
        pictures=pictures,
        unusual=samples((since, end), flagged=True),
        usual=samples((start, since), flagged=False) or samples((since, end), flagged=False),
    )


def _series(conn: Connection, deployment_id: int, start: datetime, end: datetime) -> tuple[timedelta, list[Bucket]]:
    """Steps that are few enough, of the coarsest stored ticks that make them."""
    stored = reaching(start, oldest_ticks(conn, deployment_id)) or [LEVELS[0]]
    minutes = (end - start) / _MINUTE
    width = next((one for one in _STEPS if one >= stored[0] and minutes / one <= _MOST_STEPS), _STEPS[-1])
    level = max(one for one in stored if width % one == 0)
    spans = spans_of(floor(start, width), end, level, made_levels(conn, deployment_id))
    references, step = tuple(reference_names(conn)), width * _MINUTE
    found = read_buckets(conn, deployment_id, references, spans, step, (POOLED,))
    return step, found + read_buckets(conn, deployment_id, references, spans, step, None)
