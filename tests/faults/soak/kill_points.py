"""Where a worker or a monitor dies by its own hand: product functions wrapped from outside, in its process."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.faults.soak.monitor_points import MONITOR_INSTALLERS, MonitorPoint
from tests.faults.soak.wrapping import Installer, after, before, wrap

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

    wrap(Preparation, "prepare_all", before(pass_by))


def _after_inference(pass_by: Callable[[], None]) -> None:
    from pipeline.stages.inference import Inference

    wrap(Inference, "score_ranges", after(pass_by))


def _after_cas(pass_by: Callable[[], None]) -> None:
    from pipeline.stages import sink

    wrap(sink, "advance", after(pass_by))


def _around_commit(ahead: Callable[[], None], behind: Callable[[], None]) -> None:
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
            ahead()
        original(*arguments)
        if of_a_batch:
            behind()

    wrap(Sink, "write", write)
    wrap(DefaultDialect, "do_commit", commit)


def _before_log_commit(pass_by: Callable[[], None]) -> None:
    for subscription in _subscriptions():
        wrap(subscription, "acknowledge", before(pass_by))


def _in_listener(pass_by: Callable[[], None]) -> None:
    from kafka import KafkaConsumer

    def subscribe(original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        listener = named.get("listener") or arguments[-1]
        wrap(listener, "on_partitions_assigned", after(pass_by))
        return original(*arguments, **named)

    wrap(KafkaConsumer, "subscribe", subscribe)


def _in_close(pass_by: Callable[[], None]) -> None:
    for subscription in _subscriptions():
        wrap(subscription, "close", before(pass_by))


_INSTALLERS: dict[str, Installer] = {
    "after poll": _after_poll,
    "in decode": _in_decode,
    "after inference": _after_inference,
    "after the compare-and-set": _after_cas,
    "before COMMIT": lambda pass_by: _around_commit(pass_by, lambda: None),
    "after COMMIT": lambda pass_by: _around_commit(lambda: None, pass_by),
    "before the log's commit": _before_log_commit,
    "in the rebalance listener": _in_listener,
    "in close": _in_close,
    **MONITOR_INSTALLERS,
}
