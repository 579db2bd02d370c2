"""Settings → marks that people make."""

from collections.abc import Sequence
from datetime import datetime

from pipeline.assembly.parts import existing_database
from pipeline.errors import UsageError
from pipeline.settings import Settings
from pipeline.storage.engine import reading
from pipeline.storage.marks import MarkLine, add_mark, read_marks
from pipeline.storage.monitoring import one_deployment

_LONGEST = 500


def make_mark(settings: Settings, text: str, *, at: datetime | None, who: str) -> MarkLine:
    """Store a mark of the named deployment, or of all.

    Raises UsageError for a text that is empty or too long, and for an unknown deployment.
    """
    if not text.strip() or len(text) > _LONGEST or "\0" in text:
        raise UsageError(f"a mark of {len(text)} characters: say in 1 to {_LONGEST} what was done")
    now = settings.clock.now()
    with existing_database(settings) as engine, engine.begin() as conn:
        deployment = None if settings.deployment is None else one_deployment(conn, settings.deployment)
        key = add_mark(
            conn,
            at=at or now,
            text=text,
            who=who,
            deployment_id=None if deployment is None else deployment.id,
            now=now,
        )
    return MarkLine(key, at or now, text, who, None if deployment is None else deployment.name, now)


def list_marks(settings: Settings, limit: int) -> Sequence[MarkLine]:
    """The newest, oldest first; of the named deployment those for all, too."""
    with existing_database(settings) as engine, reading(engine).connect() as conn:
        key = None if settings.deployment is None else one_deployment(conn, settings.deployment).id
        return read_marks(conn, deployment_id=key, limit=limit)
