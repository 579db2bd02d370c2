"""The product with one safeguard removed: each must be caught, or the oracle proves nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """What is removed, how, and the scenario that must notice."""

    what: str
    install: Callable[[], None]
    scenario: str


def _no_compare_and_set() -> None:
    from sqlalchemy import Connection, update

    from pipeline.stages import sink
    from pipeline.storage.schema import StreamRow

    def advance(conn: Connection, stream_id: int, step: Any, **_who: Any) -> bool:
        values = {
            "next_offset": step.end,
            "scored": StreamRow.scored + step.scored,
            "dead": StreamRow.dead + step.dead,
            "holes": StreamRow.holes + step.holes,
        }
        conn.execute(update(StreamRow).where(StreamRow.id == stream_id).values(**values))
        return True

    vars(sink)["advance"] = advance


def _cursor_before_rows() -> None:
    from pipeline.stages import sink

    original = vars(sink)["advance"]

    def advance(conn: Any, stream_id: int, step: Any, **who: Any) -> bool:
        moved = original(conn, stream_id, step, **who)
        conn.exec_driver_sql("COMMIT")
        conn.exec_driver_sql("BEGIN")
        return bool(moved)

    vars(sink)["advance"] = advance


def _no_seek() -> None:
    from pipeline.stages.intake import Intake

    original = Intake._go_on_from

    def go_on_from(self: Any, answer: Any) -> bool:
        seek, self._subscription.seek = self._subscription.seek, lambda partition, offset: None
        try:
            return original(self, answer)
        finally:
            self._subscription.seek = seek

    Intake._go_on_from = go_on_from  # type: ignore[method-assign]


def _first_record_starts() -> None:
    from pipeline.stages.intake import Intake

    original = Intake._take

    def take(self: Any, number: int, fetched: Any) -> None:
        position = self._positions.get(number)
        if position is not None and fetched.records:
            position.start = fetched.records[0].offset
        original(self, number, fetched)

    Intake._take = take  # type: ignore[method-assign]


def _topic_id_not_checked() -> None:
    from pipeline.ingest.kafka_topic import KafkaTopic

    original = KafkaTopic.topic_id
    known: list[str] = []

    def topic_id(self: Any) -> str:
        if not known:
            known.append(original(self))
        return known[0]

    KafkaTopic.topic_id = topic_id  # type: ignore[method-assign]


def _resumed_one_by_one() -> None:
    from pipeline.ingest.kafka_subscription import KafkaSubscription

    pause, poll = KafkaSubscription.pause, KafkaSubscription.poll
    waiting: list[Any] = []

    def pause_all(self: Any) -> None:
        waiting.clear()
        pause(self)

    def resume_soon(self: Any) -> None:
        self._paused = False
        waiting[:] = self._consumer.assignment() if self._consumer is not None else ()

    def poll_after_one_more(self: Any, timeout_s: float) -> Any:
        if waiting and self._consumer is not None and (place := waiting.pop()) in self._consumer.assignment():
            self._consumer.resume(place)
        return poll(self, timeout_s)

    KafkaSubscription.pause = pause_all  # type: ignore[method-assign]
    KafkaSubscription.resume = resume_soon  # type: ignore[method-assign]
    KafkaSubscription.poll = poll_after_one_more  # type: ignore[method-assign]


MUTANTS: dict[str, Mutant] = {
    "no compare-and-set": Mutant("the cursor moves whatever it was", _no_compare_and_set, "permanent_zombies"),
    "cursor before rows": Mutant("the cursor is committed before the rows", _cursor_before_rows, "kills"),
    "no seek": Mutant("an assignment goes on where the client stands", _no_seek, "churn"),
    "topic id not checked": Mutant(
        "the id that was known first is believed for ever", _topic_id_not_checked, "recreated_while_frozen"
    ),
    "partitions resumed one by one": Mutant(
        "each poll resumes one partition more", _resumed_one_by_one, "recreated_while_frozen"
    ),
    "range starts at its first record": Mutant("holes are in no range", _first_record_starts, "aborted"),
}
