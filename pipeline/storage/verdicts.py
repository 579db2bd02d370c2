"""What detectors know and have said: state, checkpoints, verdicts, transitions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from pipeline.shift.verdict import StreamVerdict
from pipeline.storage.conflicts import insert_or
from pipeline.storage.schema import DetectorCheckpointRow, DetectorStateRow, TransitionRow, VerdictRow

_JUDGEMENT = ("state", "log_evidence", "onset", "share", "low", "high")
_OK = ("no_data", "learning", "ok")


@dataclass(frozen=True, slots=True)
class DetectorState:
    """What a detector knows, and from where on revised ticks can be or must be replayed."""

    reference_id: int
    content: bytes
    replay_floor: datetime
    revised_from: datetime | None


class Raised(NamedTuple):
    """A stream that left ok, or was raised further."""

    stream: str
    state: str
    tick: datetime


def read_states(conn: Connection, deployment_id: int) -> dict[int, DetectorState]:
    """The state of every detector of a deployment, by reference."""
    rows = conn.execute(
        select(
            DetectorStateRow.reference_id,
            DetectorStateRow.content,
            DetectorStateRow.replay_floor,
            DetectorStateRow.revised_from,
        ).where(DetectorStateRow.deployment_id == deployment_id)
    )
    return {row.reference_id: DetectorState(*row) for row in rows}


def replay_floors(conn: Connection, deployment_id: int) -> dict[int, tuple[datetime, datetime | None]]:
    """(replay_floor, revised_from) by reference, without the states themselves."""
    rows = conn.execute(
        select(DetectorStateRow.reference_id, DetectorStateRow.replay_floor, DetectorStateRow.revised_from).where(
            DetectorStateRow.deployment_id == deployment_id
        )
    )
    return {row.reference_id: (row.replay_floor, row.revised_from) for row in rows}


def put_state(conn: Connection, deployment_id: int, state: DetectorState, *, now: datetime) -> None:
    """Write what a detector knows."""
    key = {"deployment_id": deployment_id, "reference_id": state.reference_id}
    changing = {
        "content": state.content,
        "replay_floor": state.replay_floor,
        "revised_from": state.revised_from,
        "updated_at": now,
    }
    conn.execute(
        insert_or(conn, DetectorStateRow)
        .values(**key, **changing)
        .on_conflict_do_update(
            index_elements=[DetectorStateRow.deployment_id, DetectorStateRow.reference_id], set_=changing
        )
    )


def note_revised(conn: Connection, deployment_id: int, revised: Mapping[int, datetime]) -> None:
    """Ticks from here on have to be replayed, by reference."""
    for reference_id, start in sorted(revised.items()):
        conn.execute(
            update(DetectorStateRow)
            .where(DetectorStateRow.deployment_id == deployment_id, DetectorStateRow.reference_id == reference_id)
            .values(revised_from=start)
        )


def checkpoint_positions(conn: Connection, deployment_id: int) -> dict[int, list[datetime]]:
    """Where checkpoints are, ascending, by reference."""
    rows = conn.execute(
        select(DetectorCheckpointRow.reference_id, DetectorCheckpointRow.position)
        .where(DetectorCheckpointRow.deployment_id == deployment_id)
        .order_by(DetectorCheckpointRow.position)
    )
    found: dict[int, list[datetime]] = {}
    for row in rows:
        found.setdefault(row.reference_id, []).append(row.position)
    return found


def read_checkpoint(conn: Connection, deployment_id: int, reference_id: int, position: datetime) -> bytes:
    """The state at a position of `checkpoint_positions`."""
    return conn.execute(
        select(DetectorCheckpointRow.content).where(
            DetectorCheckpointRow.deployment_id == deployment_id,
            DetectorCheckpointRow.reference_id == reference_id,
            DetectorCheckpointRow.position == position,
        )
    ).scalar_one()


def replace_checkpoints(
    conn: Connection,
    deployment_id: int,
    reference_id: int,
    dropped: Iterable[datetime],
    made: Mapping[datetime, bytes],
) -> None:
    """Drop checkpoints at these positions and write these."""
    gone = {*dropped, *made}
    if gone:
        conn.execute(
            delete(DetectorCheckpointRow).where(
                DetectorCheckpointRow.deployment_id == deployment_id,
                DetectorCheckpointRow.reference_id == reference_id,
                DetectorCheckpointRow.position.in_(gone),
            )
        )
    if made:
        key = {"deployment_id": deployment_id, "reference_id": reference_id}
        conn.execute(
            insert(DetectorCheckpointRow), [{**key, "position": at, "content": content} for at, content in made.items()]
        )


def put_verdicts(
    conn: Connection,
    deployment_id: int,
    reference_id: int,
    tick: datetime,
    verdicts: Sequence[StreamVerdict],
    *,
    provisional: bool,
) -> None:
    """The newest verdict on each stream, in place of the one before."""
    if not verdicts:
        return
    key = {"deployment_id": deployment_id, "reference_id": reference_id, "tick": tick, "provisional": provisional}
    statement = insert_or(conn, VerdictRow)
    upsert = statement.on_conflict_do_update(
        index_elements=[VerdictRow.deployment_id, VerdictRow.reference_id, VerdictRow.stream],
        set_={name: statement.excluded[name] for name in ("tick", "provisional", *_JUDGEMENT)},
    )
    conn.execute(upsert, [{**key, "stream": verdict.stream, **_judgement(verdict)} for verdict in verdicts])


def state_of(conn: Connection, deployment_id: int, reference_id: int, stream: str) -> str | None:
    """The stream's state as it was last stored."""
    return conn.scalar(
        select(VerdictRow.state).where(
            VerdictRow.deployment_id == deployment_id,
            VerdictRow.reference_id == reference_id,
            VerdictRow.stream == stream,
        )
    )


def add_transitions(
    conn: Connection,
    deployment_id: int,
    reference_id: int,
    verdicts: Sequence[tuple[datetime, StreamVerdict]],
    *,
    provisional: bool,
    now: datetime,
) -> None:
    """Append those of the verdicts that changed a state, each with its tick; they are never changed."""
    key = {"deployment_id": deployment_id, "reference_id": reference_id, "provisional": provisional, "decided_at": now}
    rows = [
        {
            **key,
            "tick": tick,
            "stream": verdict.stream,
            "from_state": change.before,
            "k": change.k,
            "n": change.n,
            "leading": change.leading,
            **_judgement(verdict),
        }
        for tick, verdict in verdicts
        if (change := verdict.transition) is not None
    ]
    if rows:
        conn.execute(insert(TransitionRow), rows)


def raised_now(conn: Connection, deployment_id: int) -> dict[int, list[Raised]]:
    """Streams that are not ok, as last stored, by reference; by name."""
    statement = (
        select(VerdictRow.reference_id, VerdictRow.stream, VerdictRow.state, VerdictRow.tick)
        .where(VerdictRow.deployment_id == deployment_id, VerdictRow.state.not_in(_OK))
        .order_by(VerdictRow.stream)
    )
    found: dict[int, list[Raised]] = {}
    for row in conn.execute(statement):
        found.setdefault(row.reference_id, []).append(Raised(row.stream, row.state, row.tick))
    return found


def raised_within(
    conn: Connection, deployment_id: int, reference_id: int, start: datetime, end: datetime
) -> list[Raised]:
    """Streams that were raised in ticks with start <= tick < end, or had been before and were not back, by tick."""
    columns = select(TransitionRow.stream, TransitionRow.state, TransitionRow.tick)
    mine = (TransitionRow.deployment_id == deployment_id, TransitionRow.reference_id == reference_id)
    newest = select(func.max(TransitionRow.id)).where(*mine, TransitionRow.tick < start).group_by(TransitionRow.stream)
    when = or_(TransitionRow.id.in_(newest), and_(TransitionRow.tick >= start, TransitionRow.tick < end))
    statement = columns.where(*mine, when, TransitionRow.state.not_in(_OK)).order_by(TransitionRow.tick)
    return [Raised(*row) for row in conn.execute(statement)]


def _judgement(verdict: StreamVerdict) -> dict[str, object]:
    return {name: getattr(verdict, name) for name in _JUDGEMENT}
