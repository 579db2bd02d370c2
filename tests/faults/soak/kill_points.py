"""Where a worker or a monitor dies by its own hand: product functions wrapped from outside, in its process."""

import functools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Point = Literal[
    "after poll",
    "in decode",
    "after inference",
    "after the compare-and-set",
    "before COMMIT",
    "after COMMIT",
    "before the log's commit",
    "in the rebalance listener",
    "in close",
]
POINTS: tuple[Point, ...] = Point.__args__  # type: ignore[attr-defined]
MonitorPoint = Literal[
    "before any statement",
    "after the claim",
    "after the parts are deleted",
    "after the ticks are stored",
    "after the state is stored",
    "after the checkpoints are stored",
    "after the verdicts are stored",
    "after the transitions are stored",
    "after a level is made",
    "before the monitor's COMMIT",
    "after the monitor's COMMIT",
]
MONITOR_POINTS: tuple[MonitorPoint, ...] = MonitorPoint.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Hook:
    """At the n-th passage of the point, send this process a signal: SIGKILL, or SIGSTOP to freeze it."""

    point: Point | MonitorPoint
    passage: int = 1
    signal: int = signal.SIGKILL


def install(hook: Hook) -> None:
    """Wrap what the point names, in this process."""
    left = hook.passage

    def pass_by() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), hook.signal)

    _INSTALLERS[hook.point](pass_by)


def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a function by `around(original, *arguments)`."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        return around(original, *arguments, **named)

    setattr(owner, name, wrapped)


def _subscriptions() -> list[Any]:
    from pipeline.ingest.kafka_subscription import KafkaSubscription
    from pipeline.ingest.spool_subscription import SpoolSubscription

    return [KafkaSubscription, SpoolSubscription]


def _after_poll(pass_by: Callable[[], None]) -> None:
    def around(poll: Callable[..., Any], *arguments: Any) -> Any:
        seen = poll(*arguments)
        if seen.fetched:
            pass_by()
        return seen

    for subscription in _subscriptions():
        wrap(subscription, "poll", around)


def _in_decode(pass_by: Callable[[], None]) -> None:
    from pipeline.stages.preparation import Preparation

    wrap(Preparation, "prepare_all", _before(pass_by))


def _after_inference(pass_by: Callable[[], None]) -> None:
    from pipeline.stages.inference import Inference

    wrap(Inference, "score_ranges", _after(pass_by))


def _after_cas(pass_by: Callable[[], None]) -> None:
    from pipeline.stages import sink

    wrap(sink, "advance", _after(pass_by))


def _around_commit(before: Callable[[], None], after: Callable[[], None]) -> None:
    """The COMMIT of a transaction that stores a batch, and of no other."""
    from sqlalchemy.engine.default import DefaultDialect

    from pipeline.stages.sink import Sink

    stored = False

    def write(original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        nonlocal stored
        fenced = original(*arguments, **named)
        stored = True
        return fenced

    def commit(original: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal stored
        of_a_batch, stored = stored, False
        if of_a_batch:
            before()
        original(*arguments)
        if of_a_batch:
            after()

    wrap(Sink, "write", write)
    wrap(DefaultDialect, "do_commit", commit)


def _before_log_commit(pass_by: Callable[[], None]) -> None:
    for subscription in _subscriptions():
        wrap(subscription, "acknowledge", _before(pass_by))


def _in_listener(pass_by: Callable[[], None]) -> None:
    from kafka import KafkaConsumer

    def subscribe(original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        listener = named.get("listener") or arguments[-1]
        wrap(listener, "on_partitions_assigned", _after(pass_by))
        return original(*arguments, **named)

    wrap(KafkaConsumer, "subscribe", subscribe)


def _in_close(pass_by: Callable[[], None]) -> None:
    for subscription in _subscriptions():
        wrap(subscription, "close", _before(pass_by))


def _before_statement(pass_by: Callable[[], None]) -> None:
    from sqlalchemy import Engine, event

    event.listen(Engine, "before_cursor_execute", lambda *_: pass_by())


def _around_monitor_commit(before: Callable[[], None], after: Callable[[], None]) -> None:
    """The COMMIT of a transaction that has claimed the monitor's position, and of no other."""
    from sqlalchemy.engine.default import DefaultDialect

    claimed = False

    def claim(original: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        nonlocal claimed
        original(*arguments, **named)
        claimed = True

    def commit(original: Callable[..., Any], *arguments: Any) -> None:
        nonlocal claimed
        of_the_monitor, claimed = claimed, False
        if of_the_monitor:
            before()
        original(*arguments)
        if of_the_monitor:
            after()

    for owner in _stages_of_the_monitor():
        wrap(owner, "claim", claim)
    wrap(DefaultDialect, "do_commit", commit)


def _after_stored(name: str) -> Callable[[Callable[[], None]], None]:
    def install(pass_by: Callable[[], None]) -> None:
        for owner in _stages_of_the_monitor():
            if hasattr(owner, name):
                wrap(owner, name, _after(pass_by))

    return install


def _stages_of_the_monitor() -> list[Any]:
    from pipeline.stages import folding, judging, rolling

    return [folding, judging, rolling]


def _before(pass_by: Callable[[], None]) -> Callable[..., Any]:
    def around(original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        pass_by()
        return original(*arguments, **named)

    return around


def _after(pass_by: Callable[[], None]) -> Callable[..., Any]:
    def around(original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        pass_by()
        return result

    return around


_INSTALLERS: dict[Point | MonitorPoint, Callable[[Callable[[], None]], None]] = {
    "after poll": _after_poll,
    "in decode": _in_decode,
    "after inference": _after_inference,
    "after the compare-and-set": _after_cas,
    "before COMMIT": lambda pass_by: _around_commit(pass_by, lambda: None),
    "after COMMIT": lambda pass_by: _around_commit(lambda: None, pass_by),
    "before the log's commit": _before_log_commit,
    "in the rebalance listener": _in_listener,
    "in close": _in_close,
    "before any statement": _before_statement,
    "after the claim": _after_stored("claim"),
    "after the parts are deleted": _after_stored("delete_parts"),
    "after the ticks are stored": _after_stored("put_ticks"),
    "after the state is stored": _after_stored("put_state"),
    "after the checkpoints are stored": _after_stored("replace_checkpoints"),
    "after the verdicts are stored": _after_stored("put_verdicts"),
    "after the transitions are stored": _after_stored("add_transitions"),
    "after a level is made": _after_stored("note_made"),
    "before the monitor's COMMIT": lambda pass_by: _around_monitor_commit(pass_by, lambda: None),
    "after the monitor's COMMIT": lambda pass_by: _around_monitor_commit(lambda: None, pass_by),
}
