import pytest

from pipeline.errors import EnvironmentFault
from pipeline.stages.watchdog import Watchdog


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def idle_for(watchdog: Watchdog, clock: Clock, seconds: float, positions: dict[int, int], ends: dict[int, int]) -> None:
    """Polls that bring nothing, while the log says every 2 s how far it reaches."""
    for step in range(int(seconds * 10)):
        if step % 20 == 0:
            watchdog.hear(positions, ends)
        clock.now += 0.1
        watchdog.idle(positions, 0.1)


def test_a_partition_with_records_waiting_that_is_never_read_ends_the_worker() -> None:
    clock = Clock()
    watchdog = Watchdog(patience_s=10.0, clock=clock)
    idle_for(watchdog, clock, 9.9, {0: 100, 1: 50}, {0: 106, 1: 50})
    with pytest.raises(EnvironmentFault, match="partition 0 has records waiting at offset 100"):
        idle_for(watchdog, clock, 0.2, {0: 100, 1: 50}, {0: 106, 1: 50})


def test_a_few_markers_at_the_tail_are_no_stall() -> None:
    clock = Clock()
    idle_for(Watchdog(patience_s=10.0, clock=clock), clock, 60, {0: 100}, {0: 105})
    assert clock.now == pytest.approx(60)


def test_progress_starts_the_count_anew() -> None:
    clock = Clock()
    watchdog = Watchdog(patience_s=10.0, clock=clock)
    for position in range(100, 110):
        idle_for(watchdog, clock, 8, {0: position}, {0: 900})
    assert clock.now == pytest.approx(80)


def test_a_log_that_does_not_answer_is_waited_for() -> None:
    clock = Clock()
    watchdog = Watchdog(patience_s=10.0, clock=clock)
    watchdog.hear({0: 100}, {0: 900})
    for _ in range(36_000):  # an hour without a broker
        clock.now += 0.1
        watchdog.idle({0: 100}, 0.1)
    idle_for(watchdog, clock, 9.9, {0: 100}, {0: 900})
    with pytest.raises(EnvironmentFault, match="start the worker again"):
        idle_for(watchdog, clock, 0.2, {0: 100}, {0: 900})


def test_records_that_come_after_an_idle_hour_are_no_stall() -> None:
    clock = Clock()
    watchdog = Watchdog(patience_s=10.0, clock=clock)
    idle_for(watchdog, clock, 3600, {0: 100}, {0: 100})
    idle_for(watchdog, clock, 9, {0: 100}, {0: 900})
    assert clock.now == pytest.approx(3609)
