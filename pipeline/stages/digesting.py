"""Digest: once a day, one message of what was. Whoever claims the day tells it, in one transaction."""

from datetime import datetime

from sqlalchemy import Connection, Engine

from pipeline.alerts.digest import DAY, Digest, newest_due, payload
from pipeline.stages.alerting import Alerting
from pipeline.storage.baselines import list_baselines, newest_baseline
from pipeline.storage.digests import begin_digest, count_images, enqueue_digest, note_digest
from pipeline.storage.engine import reading
from pipeline.storage.evidence import standing as standing_of_streams
from pipeline.storage.incidents import claim_alerting, read_standing, recent_incidents
from pipeline.storage.monitoring import Watched
from pipeline.storage.pipeline_health import dead_letters, lost
from pipeline.storage.references import reference_by_key


def tell_digest(engine: Engine, deployment: Watched, alerting: Alerting, *, now: datetime) -> bool:
    """Tell the day that ended last, unless it was told; whether it was told now. The first day is told at its end.

    Raises Superseded where somebody else has decided meanwhile.
    """
    channels = [channel.name for channel in alerting.channels if channel.digest]
    if alerting.digest is None or not channels:
        return False
    until = newest_due(alerting.digest, now)
    with reading(engine).connect() as conn:
        standing = read_standing(conn, deployment.id)
        if standing is None or (standing.digest_at is not None and standing.digest_at.date() >= until.date()):
            return False
        digest = None if standing.digest_at is None else _read(conn, deployment, until)
    with engine.begin() as conn:
        claim_alerting(conn, standing, transition_id=standing.transition_id, now=now)
        note_digest(conn, deployment.id, until)
        if digest is None:
            return False
        key = begin_digest(conn, deployment.id, since=digest.since, now=now)
        enqueue_digest(conn, key, payload(digest, key, now), channels, now=now)
    return True


def _read(conn: Connection, deployment: Watched, until: datetime) -> Digest:
    since = until - DAY
    images, flagged = count_images(conn, deployment.id, since, until)
    reference = reference_by_key(conn, deployment.reference_id)
    version = newest_baseline(conn, deployment.id, deployment.reference_id)
    lines = list_baselines(conn, deployment.id, deployment.reference_id)
    accepted = (float(line.summary["share"]) for line in lines if line.version == version)
    return Digest(
        deployment=deployment.name,
        model=reference.model_id,
        reference=reference.name,
        until=until,
        incidents=recent_incidents(conn, deployment.id, since=since),
        images=images,
        flagged=flagged,
        normal=next(accepted, reference.target_fpr),
        dead=dead_letters(conn, deployment.id, since, until),
        lost=lost(conn, deployment.id, since, until),
        waiting=standing_of_streams(conn, deployment.id).waiting,
    )
