"""What alerts rest on, as it is stored: transitions that nobody has taken in yet, and the streams of open alerts."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select

from pipeline.alerts.evidence import BEGINS_ANEW, Evidence, Stream, key_of, stream_of
from pipeline.alerts.incident import SILENCE, Alert, Key, rank
from pipeline.shift.folding import POOLED
from pipeline.storage.monitoring import Watched, read_position
from pipeline.storage.schema import SegmentRow, TickRow, TransitionRow, VerdictRow

_ENDED = timedelta(hours=1)  # of event time, in which others were judged
_TICK = timedelta(minutes=1)


def evidence_after(conn: Connection, deployment_id: int, transition_id: int, *, limit: int) -> list[Evidence]:
    """The oldest transitions that come after one, in order."""
    statement = (
        select(TransitionRow.__table__)
        .where(TransitionRow.deployment_id == deployment_id, TransitionRow.id > transition_id)
        .order_by(TransitionRow.id)
        .limit(limit)
    )
    return [_evidence(conn, row) for row in conn.execute(statement).all()]


def read_streams(conn: Connection, deployment: Watched, alerts: Iterable[Alert], *, now: datetime) -> dict[Key, Stream]:
    """How the streams behind open alerts are now."""
    position = read_position(conn, deployment.id)
    until = None if position is None else position.evaluated_until
    return {alert.key: _stream(conn, deployment, alert, until, now) for alert in alerts}


def health_streams(alerts: Iterable[Alert], *, now: datetime) -> dict[Key, Stream]:
    """Those of health rules, which look at what is now."""
    return {alert.key: Stream(now) for alert in alerts}


def _evidence(conn: Connection, row: Row[Any]) -> Evidence:
    signal, segment = key_of(row.stream)
    newest = row.tick
    if rank(row.state):
        newest = _newest_image(conn, row.deployment_id, row.reference_id, (signal, segment), row.tick, row.decided_at)
    return Evidence(
        kind="shift",
        signal=signal,
        segment=segment,
        reference_id=row.reference_id,
        state="error" if signal == SILENCE and rank(row.state) else row.state,  # of the pipeline, or before it
        at=row.decided_at,
        newest=newest,
        onset=row.onset or row.tick,
        provisional=row.provisional,
        detail=row.leading,
        share=row.share,
        low=row.low,
        high=row.high,
        k=row.k,
        n=row.n,
        transition_id=row.id,
        withdrawn=row.leading == BEGINS_ANEW,
    )


def _stream(conn: Connection, deployment: Watched, alert: Alert, until: datetime | None, now: datetime) -> Stream:
    verdict = conn.execute(
        select(VerdictRow.tick, VerdictRow.share).where(
            VerdictRow.deployment_id == deployment.id,
            VerdictRow.reference_id == alert.reference_id,
            VerdictRow.stream == stream_of(alert.key),
        )
    ).one_or_none()
    if verdict is None or until is None:
        return Stream(alert.updated_at)
    newest = _newest_image(conn, deployment.id, alert.reference_id, alert.key, verdict.tick, now)
    ended = alert.reference_id != deployment.reference_id and verdict.tick + _TICK + _ENDED <= until
    return Stream(newest, verdict.share, ended)


def _newest_image(
    conn: Connection, deployment_id: int, reference_id: int, key: Key, tick: datetime, now: datetime
) -> datetime:
    """The end of the newest minute, up to a tick, that has something to say; silence says something now."""
    signal, segment = key
    if signal == SILENCE:
        return now
    if signal == "rate":  # a minute without images is one that counts
        return tick + _TICK
    segment_id: Any = POOLED
    if segment:
        of = SegmentRow.deployment_id == deployment_id, SegmentRow.name == segment
        segment_id = select(SegmentRow.id).where(*of).scalar_subquery()
    newest: datetime | None = conn.scalar(
        select(func.max(TickRow.start)).where(
            TickRow.deployment_id == deployment_id,
            TickRow.reference_id == reference_id,
            TickRow.minutes == 1,
            TickRow.segment_id == segment_id,
            TickRow.start <= tick,
        )
    )
    return (newest or tick) + _TICK
