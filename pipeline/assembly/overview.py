"""Which processes run, as their heartbeats in the database tell."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.assembly.operating import HEARTBEAT_INTERVAL_S
from pipeline.assembly.parts import open_database_of
from pipeline.settings import Settings
from pipeline.storage.engine import reading, translated_errors
from pipeline.storage.processes import Process, list_processes

#: Three missed beats and some patience with a slow database.
SILENT_AFTER = timedelta(seconds=4 * HEARTBEAT_INTERVAL_S)


@dataclass(frozen=True, slots=True)
class ProcessLine:
    """One line of `oodwatch health`."""

    role: str
    name: str
    deployment: str | None
    version: str
    model: str | None  # what scores there
    status: str  # ready, not ready, silent
    age_s: float  # since the last beat
    up_s: float
    partitions: int
    lag: int
    images_per_second: float
    reason: str


def read_processes(settings: Settings) -> list[ProcessLine]:
    """All processes that beat on this database, or did until they were killed."""
    engine = open_database_of(settings, create=False)
    with translated_errors(engine.url), reading(engine).connect() as conn:
        processes = list_processes(conn)
    engine.dispose()
    clock = settings.clock
    return [line_of(process, clock.now(), SILENT_AFTER * clock.factor) for process in processes]


def line_of(process: Process, now: datetime, silent_after: timedelta = SILENT_AFTER) -> ProcessLine:
    """What a heartbeat means now."""
    age, state = now - process.beat_at, process.state
    silent = age > silent_after
    lag = state.get("lag", {})
    reasons = [f"last beat {process.beat_at:%Y-%m-%dT%H:%M:%SZ}"] if silent else state.get("reasons", [])
    if not reasons and state.get("standby"):
        reasons = [f"stands by for {state['standby']}"]
    if not silent:
        reasons = [*reasons, *state.get("notes", [])]
    return ProcessLine(
        role=process.role,
        name=process.name,
        deployment=process.deployment,
        version=process.version,
        model=state.get("model"),
        status="silent" if silent else "ready" if state.get("ready") else "not ready",
        age_s=round(age.total_seconds(), 1),
        up_s=round((process.beat_at - process.started_at).total_seconds(), 1),
        partitions=len(lag),
        lag=sum(lag.values()),
        images_per_second=state.get("images_per_second", 0.0),
        reason="; ".join(reasons),
    )
