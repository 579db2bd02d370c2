"""The tables of people's side: incidents, their alerts and history, what is told to whom, and marks."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from pipeline.storage.schema import Key, Table

_OPEN = text("resolved_at IS NULL")
_WAITING = text("delivered_at IS NULL AND given_up_at IS NULL")


class AlertingRow(Table):
    """How far the alerts of a deployment follow its transitions. `revision` moves with every change, by
    compare-and-set: monitors and people may decide at once."""

    __tablename__ = "alerting"

    deployment_id: Mapped[int] = mapped_column(ForeignKey("deployment.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    transition_id: Mapped[int] = mapped_column(BigInteger)  # up to which transitions are taken in
    digest_at: Mapped[datetime | None]  # when the newest digest that was told was due
    updated_at: Mapped[datetime]


class IncidentRow(Table):
    """The overlapping alerts of one deployment, as people see them; at most one of a kind is open."""

    __tablename__ = "incident"
    __table_args__ = (
        Index("uq_incident_open", "deployment_id", "kind", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index(None, "deployment_id", "opened_at"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    deployment_id: Mapped[int] = mapped_column(ForeignKey("deployment.id"))
    kind: Mapped[
        str
    ]  # shift; health: the pipeline's own, apart from the false-alarm budget; drill, digest: no incident
    handling: Mapped[str]  # open, acknowledged, silenced, expected, resolved
    handled_until: Mapped[datetime | None]  # of silenced and expected
    handled_by: Mapped[str | None]
    exception: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # what speaks in spite of a silence
    onset: Mapped[datetime]  # the earliest of its alerts, event time
    state: Mapped[str]  # the top state of its alerts now
    peak: Mapped[str]  # the top state that it ever had
    provisional: Mapped[bool]  # all of its alerts are: shown, never paged
    opened_at: Mapped[datetime]
    resolved_at: Mapped[datetime | None]
    told: Mapped[str | None]  # the worst state that was told
    told_at: Mapped[datetime | None]  # when last, since it was opened or reopened
    notice_at: Mapped[datetime | None]  # from when on it is told that a silence ends soon, where it is to be


class AlertRow(Table):
    """One (deployment, signal, segment) that left ok, until it is back; at most one is open."""

    __tablename__ = "alert"
    __table_args__ = (
        Index(
            "uq_alert_open",
            "deployment_id",
            "signal",
            "segment",
            unique=True,
            sqlite_where=_OPEN,
            postgresql_where=_OPEN,
        ),
        Index(None, "incident_id"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    incident_id: Mapped[int] = mapped_column(ForeignKey("incident.id"))
    deployment_id: Mapped[int] = mapped_column(BigInteger)
    reference_id: Mapped[int] = mapped_column(BigInteger)
    signal: Mapped[str]  # fraction, histogram, low, classes, coverage, rate, silence; of health its rule
    segment: Mapped[str]  # empty: pooled
    state: Mapped[str]
    peak: Mapped[str]
    provisional: Mapped[bool]
    onset: Mapped[datetime]
    share: Mapped[float | None]  # as the newest transition said
    low: Mapped[float | None]
    high: Mapped[float | None]
    k: Mapped[float | None]
    n: Mapped[float | None]
    detail: Mapped[str]  # the leading component, or what a health rule found
    raised_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    resolved_at: Mapped[datetime | None]


class IncidentEventRow(Table):
    """What happened to an incident, and who did it and why; append-only."""

    __tablename__ = "incident_event"
    __table_args__ = (Index(None, "incident_id", "id"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    incident_id: Mapped[int] = mapped_column(ForeignKey("incident.id"))
    alert_id: Mapped[int | None] = mapped_column(BigInteger)
    transition_id: Mapped[int | None] = mapped_column(BigInteger)  # the evidence
    at: Mapped[datetime]  # processing time
    kind: Mapped[str]  # see `alerts.incident`
    from_state: Mapped[str | None]
    to_state: Mapped[str | None]
    who: Mapped[str]  # a person's name, or `monitor`
    why: Mapped[str]
    payload: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # the answer as it was told, where it was


class OutboxRow(Table):
    """One event to be told on one channel; written in the event's transaction."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("event_id", "channel"),
        Index(
            "ix_outbox_waiting",
            "next_try_at",
            sqlite_where=_WAITING,
            postgresql_where=_WAITING,
        ),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("incident_event.id"))
    incident_id: Mapped[int] = mapped_column(BigInteger)
    channel: Mapped[str]  # its name in the settings
    action: Mapped[str]  # trigger, acknowledge, resolve, info
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)  # webhook v1
    created_at: Mapped[datetime]
    next_try_at: Mapped[datetime]
    attempts: Mapped[int]
    delivered_at: Mapped[datetime | None]
    given_up_at: Mapped[datetime | None]
    last_error: Mapped[str | None]


class MarkRow(Table):
    """Something that people did at a time (a deploy, a cleaned lens), to be held against onsets."""

    __tablename__ = "mark"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    deployment_id: Mapped[int | None] = mapped_column(ForeignKey("deployment.id"))  # none: all
    at: Mapped[datetime]
    text: Mapped[str]
    who: Mapped[str]
    made_at: Mapped[datetime]
