"""Evaluate: complete ticks go through their detectors, once and in order; what late parts revised is replayed.

Read, compute without a transaction, then store state, verdicts and position together.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Engine

from pipeline.errors import RefusedError
from pipeline.shift.evaluator import Evaluator
from pipeline.shift.folding import TICK, completeness, floor
from pipeline.shift.tick import Tick
from pipeline.shift.verdict import BEGINS_ANEW, REPLACED, StreamVerdict, Transition, withdrawn
from pipeline.stages.ticking import each, span, tick_of
from pipeline.storage.engine import reading
from pipeline.storage.monitoring import Watched, claim, read_position, reference_names, stream_clocks
from pipeline.storage.ticks import Minute, first_start, first_unfolded, read_minutes, segment_names
from pipeline.storage.verdicts import (
    DetectorState,
    Raised,
    add_transitions,
    checkpoint_positions,
    put_state,
    put_verdicts,
    raised_now,
    read_checkpoint,
    read_states,
    replace_checkpoints,
    state_of,
)

logger = logging.getLogger(__name__)

#: The stream of evidence that has no tick.
SILENCE = "silence"

#: The detector of a reference, new or as a snapshot left it; None where none can judge it. Raises RefusedError where
#: the snapshot is of another configuration: the detector is then begun anew.
NewEvaluator = Callable[[Watched, int, bytes | None], Evaluator | None]

_CHECKPOINT_MINUTES = 60
_REPLACED_AFTER = timedelta(hours=1)  # without images: while workers change the model, both may bring some


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what comes late."""

    lateness: timedelta = timedelta(seconds=30)  # a tick is due so long after its end, event time
    idle: timedelta = timedelta(minutes=2)  # a partition silent for longer holds no tick open, processing time
    revise: timedelta = timedelta(hours=24)  # evidence is replayed for ticks at most so old, event time
    pace: float = 1.0  # seconds of the clock that pass in one of the machine's


@dataclass(frozen=True, slots=True)
class Judged:
    """A tick of one reference has been judged, or its revision, or the silence since the newest tick."""

    kind: Literal["tick", "revision", "silence", "withdrawal"]

    deployment: str
    reference: str
    tick: datetime
    n: int
    flags: int
    provisional: bool  # what is raised is shown and never paged
    transitions: tuple[StreamVerdict, ...]  # those verdicts that changed a state

    def as_lines(self) -> Iterator[dict[str, Any]]:
        """One line for the tick, where it is one, and one for each transition."""
        which = {"deployment": self.deployment, "reference": self.reference, "start": self.tick}
        if self.kind in ("tick", "revision"):
            revised = self.kind == "revision"
            yield {**which, "minutes": 1, "n": self.n, "flagged": self.flags, "revision": revised}
        for verdict in self.transitions:
            values = asdict(verdict)
            yield {**which, **values.pop("transition"), **values, "provisional": self.provisional}


@dataclass(slots=True)
class _Bench:
    """One detector at work, and what it has said since it was read."""

    evaluator: Evaluator
    floor: datetime
    checkpoints: dict[datetime, bytes] = field(default_factory=dict)
    newest: tuple[datetime, Sequence[StreamVerdict]] | None = None  # the last tick that was decided, and how
    changes: list[tuple[datetime, StreamVerdict]] = field(default_factory=list)
    withdrawn: tuple[datetime, Sequence[StreamVerdict]] | None = (
        None  # what its forerunner had raised, and when it ended
    )

    def withdraw(self, tick: datetime, raised: Sequence[Raised]) -> list[StreamVerdict]:
        """It is another detector that begins here: what the one before had raised ends without evidence."""
        verdicts = [withdrawn(stream.stream, stream.state, BEGINS_ANEW) for stream in raised]
        self.withdrawn = tick, verdicts
        self.changes += [(tick, verdict) for verdict in verdicts]
        return verdicts

    def take(self, tick: Tick) -> list[StreamVerdict]:
        changes = self.note(tick.start, self.evaluator.step(tick))
        self.keep_hour(tick.start + TICK)
        return changes

    def keep_hour(self, position: datetime) -> None:
        if floor(position, _CHECKPOINT_MINUTES) == position:
            self.checkpoints[position] = self.evaluator.snapshot()

    def note(self, tick: datetime, verdicts: Sequence[StreamVerdict]) -> list[StreamVerdict]:
        """What was decided at a tick; those verdicts that changed a state."""
        self.newest = tick, verdicts
        changes = [verdict for verdict in verdicts if verdict.transition is not None]
        self.changes += [(tick, verdict) for verdict in changes]
        if changes or any(verdict.crossed for verdict in verdicts):
            self.floor = tick + TICK  # what led to it has been answered: older ticks are not replayed any more
            self.checkpoints[self.floor] = self.evaluator.snapshot()
        return changes


def judge_due(
    engine: Engine, deployment: Watched, new_evaluator: NewEvaluator, patience: Patience, *, now: datetime
) -> list[Judged] | None:
    """Evaluate the oldest ticks that are due and folded; None: none is.

    Raises Superseded where another monitor was quicker.
    """
    with reading(engine).connect() as conn:
        position = read_position(conn, deployment.id)
        assert position is not None
        complete = completeness(
            stream_clocks(conn, deployment.id), now=now, idle=patience.idle, lateness=patience.lateness
        )
        start = position.evaluated_until or first_start(conn, deployment.id, 1)
        # Read after the clocks: what a worker has stored since the last fold made ticks due that lack its images.
        unfolded = first_unfolded(conn, deployment.id, from_=position.evaluated_until)
        if complete is None or start is None:
            return None
        names, references = segment_names(conn, deployment.id), reference_names(conn)
        end = min(complete.until, start + span(names), unfolded or complete.until)
        if end <= start:
            return None
        minutes = read_minutes(conn, deployment.id, start, end)
        states = read_states(conn, deployment.id)
        positions = checkpoint_positions(conn, deployment.id)
        raised = raised_now(conn, deployment.id)
    benches: dict[int, _Bench] = {}
    judged: list[Judged] = []
    for at in each(start, end, TICK):
        for reference_id in _present(minutes.get(at, {}), deployment, states, benches):
            tick = tick_of(at, minutes.get(at, {}).get(reference_id), names)
            changes: list[StreamVerdict] = []
            if reference_id not in benches:
                state = states.get(reference_id)
                seated, anew = _seated(deployment, reference_id, new_evaluator, state, at)
                if seated is not None:
                    benches[reference_id] = seated
                    if anew:
                        changes += seated.withdraw(at, raised.get(reference_id, ()))
            bench = benches.get(reference_id)
            changes += () if bench is None else bench.take(tick)
            provisional = bench is None or bench.evaluator.provisional
            judged.append(_line("tick", deployment, references[reference_id], tick, changes, provisional=provisional))
    watermark = max(complete.watermark, position.watermark or complete.watermark)
    with engine.begin() as conn:
        claim(conn, position, now=now, evaluated_until=end, watermark=watermark)
        for reference_id, bench in benches.items():
            old = [at for at in positions.get(reference_id, ()) if at < end - patience.revise]
            kept = {*positions.get(reference_id, ()), *bench.checkpoints} - {*old}
            bench.floor = max(bench.floor, min(kept, default=end))
            state = states.get(reference_id)
            _store(conn, deployment, reference_id, bench, old, None if state is None else state.revised_from, now)
    return judged


def judge_revised(
    engine: Engine, deployment: Watched, new_evaluator: NewEvaluator, *, now: datetime
) -> list[Judged] | None:
    """Replay one reference's ticks from the oldest revised one, and decide once; None: nothing was revised.

    Raises Superseded where another monitor was quicker.
    """
    with reading(engine).connect() as conn:
        position = read_position(conn, deployment.id)
        assert position is not None
        state = next((s for s in read_states(conn, deployment.id).values() if s.revised_from is not None), None)
        if state is None or position.evaluated_until is None:
            return None
        positions = checkpoint_positions(conn, deployment.id).get(state.reference_id, [])
        references = reference_names(conn)
        replay = _replay(conn, deployment, new_evaluator, state, positions, position.evaluated_until)
    if replay is None:  # a transition came between the part and its replay, or nobody judges any more
        with engine.begin() as conn:
            claim(conn, position, now=now)
            put_state(conn, deployment.id, replace(state, revised_from=None), now=now)
        return []
    bench, newest, stale = replay
    changes = bench.note(position.evaluated_until - TICK, bench.evaluator.decide())
    with engine.begin() as conn:
        claim(conn, position, now=now)
        _store(conn, deployment, state.reference_id, bench, stale, None, now)
    provisional = bench.evaluator.provisional
    name = references[state.reference_id]
    return [_line("revision", deployment, name, newest, changes, provisional=provisional)]


def judge_silence(
    engine: Engine, deployment: Watched, new_evaluator: NewEvaluator, *, pace: float = 1.0, now: datetime
) -> list[Judged]:
    """Ask the detector of the reference that scores now whether images are missing; store what has changed.

    Raises Superseded where another monitor was quicker.
    """
    which = deployment.id, deployment.reference_id
    with reading(engine).connect() as conn:
        position = read_position(conn, deployment.id)
        state = read_states(conn, deployment.id).get(deployment.reference_id)
        before = state_of(conn, *which, SILENCE) or "ok"
        references = reference_names(conn)
    if position is None or position.evaluated_until is None or position.fed_at is None or state is None:
        return []
    evaluator = _restored(deployment, new_evaluator, state)
    if evaluator is None:
        return []
    silent_for = max(now - position.fed_at, timedelta(0)) / pace  # a machine's pauses do not shrink with a fast clock
    found = evaluator.silence(last_image=position.fed_at, now=position.fed_at + silent_for)
    provisional = evaluator.provisional
    if found is None or (after := "shift" if found.silent else "ok") == before:
        return []
    change = Transition(before, after, None, None, "no image")
    verdict = StreamVerdict(SILENCE, after, found.expected, position.fed_at, None, None, None, change)
    newest = tick_of(position.evaluated_until - TICK, None, {})
    with engine.begin() as conn:
        claim(conn, position, now=now)
        put_verdicts(conn, *which, newest.start, [verdict], provisional=provisional)
        add_transitions(conn, *which, [(newest.start, verdict)], provisional=provisional, now=now)
    name = references[deployment.reference_id]
    return [_line("silence", deployment, name, newest, [verdict], provisional=provisional)]


def withdraw_replaced(engine: Engine, deployment: Watched, *, now: datetime) -> list[Judged]:
    """End what a reference had raised that does not score any more; nobody will ever bring it back to ok.

    Raises Superseded where another monitor was quicker.
    """
    with reading(engine).connect() as conn:
        position = read_position(conn, deployment.id)
        raised = raised_now(conn, deployment.id)
        references = reference_names(conn)
    if position is None or position.evaluated_until is None:
        return []
    end = position.evaluated_until
    found: dict[int, list[StreamVerdict]] = {}
    for reference_id, streams in raised.items():
        if reference_id != deployment.reference_id and max(stream.tick for stream in streams) < end - _REPLACED_AFTER:
            found[reference_id] = [withdrawn(stream.stream, stream.state, REPLACED) for stream in streams]
    if not found:
        return []
    newest = tick_of(end - TICK, None, {})
    with engine.begin() as conn:
        claim(conn, position, now=now)
        for reference_id, verdicts in found.items():
            which = deployment.id, reference_id
            put_verdicts(conn, *which, newest.start, verdicts, provisional=False)
            changes = [(newest.start, verdict) for verdict in verdicts]
            add_transitions(conn, *which, changes, provisional=False, now=now)
    return [
        _line("withdrawal", deployment, references[reference_id], newest, verdicts, provisional=False)
        for reference_id, verdicts in found.items()
    ]


def _seated(
    deployment: Watched, reference_id: int, new_evaluator: NewEvaluator, state: DetectorState | None, start: datetime
) -> tuple[_Bench | None, bool]:
    """The detector as it was left, or one that begins anew, and which of both.

    A new one begins with a checkpoint, so that its first ticks can be replayed.
    """
    if state is not None and (restored := _restored(deployment, new_evaluator, state)) is not None:
        return _Bench(restored, state.replay_floor), False
    evaluator = new_evaluator(deployment, reference_id, None)
    return None if evaluator is None else _Bench(evaluator, start, {start: evaluator.snapshot()}), state is not None


def _restored(deployment: Watched, new_evaluator: NewEvaluator, state: DetectorState) -> Evaluator | None:
    try:
        return new_evaluator(deployment, state.reference_id, state.content)
    except RefusedError as changed:
        logger.warning("deployment %s: the detector begins anew with the next tick: %s", deployment.name, changed)
        return None


def _present(
    minute: Mapping[int, Minute], deployment: Watched, states: Mapping[int, object], benches: Mapping[int, object]
) -> list[int]:
    """References with images in a minute, and the one that scores now also without, once it has begun."""
    current = deployment.reference_id
    return sorted({*minute, current} if current in states or current in benches else {*minute})


def _replay(
    conn: Connection,
    deployment: Watched,
    new_evaluator: NewEvaluator,
    state: DetectorState,
    positions: Sequence[datetime],
    end: datetime,
) -> tuple[_Bench, Tick, list[datetime]] | None:
    """The detector with the revised ticks taken in, the newest of them, and which checkpoints that made stale."""
    revised_from = state.revised_from
    if revised_from is None or revised_from < state.replay_floor:
        return None
    base = max((at for at in positions if at <= revised_from), default=None)
    if base is None:
        return None
    content = read_checkpoint(conn, deployment.id, state.reference_id, base)
    evaluator = _restored(deployment, new_evaluator, replace(state, content=content))
    if evaluator is None:
        return None
    bench, newest = _Bench(evaluator, state.replay_floor), tick_of(end - TICK, None, {})
    for tick in _ticks_again(conn, deployment, state.reference_id, base, end):
        evaluator.advance(tick)
        bench.keep_hour(tick.start + TICK)
        newest = tick
    return bench, newest, [at for at in positions if at > base]


def _ticks_again(
    conn: Connection, deployment: Watched, reference_id: int, start: datetime, end: datetime
) -> Iterator[Tick]:
    names = segment_names(conn, deployment.id)
    step = span(names)
    for first in each(start, end, step):
        last = min(end, first + step)
        minutes = read_minutes(conn, deployment.id, first, last)
        for at in each(first, last, TICK):
            minute = minutes.get(at, {}).get(reference_id)
            if minute is not None or reference_id == deployment.reference_id:
                yield tick_of(at, minute, names)


def _store(
    conn: Connection,
    deployment: Watched,
    reference_id: int,
    bench: _Bench,
    dropped: Sequence[datetime],
    revised_from: datetime | None,
    now: datetime,
) -> None:
    state = DetectorState(reference_id, bench.evaluator.snapshot(), bench.floor, revised_from)
    put_state(conn, deployment.id, state, now=now)
    replace_checkpoints(conn, deployment.id, reference_id, dropped, bench.checkpoints)
    provisional = bench.evaluator.provisional
    if bench.withdrawn is not None:
        put_verdicts(conn, deployment.id, reference_id, *bench.withdrawn, provisional=provisional)
    if bench.newest is not None:
        put_verdicts(conn, deployment.id, reference_id, *bench.newest, provisional=provisional)
    add_transitions(conn, deployment.id, reference_id, bench.changes, provisional=provisional, now=now)


def _line(
    kind: Literal["tick", "revision", "silence", "withdrawal"],
    deployment: Watched,
    reference: str,
    tick: Tick,
    changes: Sequence[StreamVerdict],
    *,
    provisional: bool,
) -> Judged:
    n, flags = (0, 0) if tick.pooled is None else (int(tick.pooled.n), int(tick.pooled.flags))
    return Judged(kind, deployment.name, reference, tick.start, n, flags, provisional, tuple(changes))
