"""Where a worker dies by its own hand: product functions wrapped from outside, in the worker's process."""

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


@dataclass(frozen=True)
class Hook:
    """At the n-th passage of the point, send this process a signal: SIGKILL, or SIGSTOP to freeze it."""

    point: Point
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


_INSTALLERS: dict[Point, Callable[[Callable[[], None]], None]] = {
    "after poll": _after_poll,
    "in decode": _in_decode,
    "after inference": _after_inference,
    "after the compare-and-set": _after_cas,
    "before COMMIT": lambda pass_by: _around_commit(pass_by, lambda: None),
    "after COMMIT": lambda pass_by: _around_commit(lambda: None, pass_by),
    "before the log's commit": _before_log_commit,
    "in the rebalance listener": _in_listener,
    "in close": _in_close,
}
