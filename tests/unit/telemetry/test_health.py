from dataclasses import replace

import pytest

from pipeline.records import Partition
from pipeline.stages.flow import Progress
from pipeline.telemetry.health import Pulse, WorkerState, notes, unready

PLACE = Partition("images", "id-1", 0)
AT_WORK = WorkerState(
    lag={PLACE: 3},
    unpositioned=0,
    standby=None,
    trouble=None,
    paused=False,
    in_flight_records=0,
    in_flight_bytes=0,
    batch_cap=16,
    progress=Progress(),
    model="m@0",
    reference="m-r1",
)


class Clock:
    """Seconds that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_expected_of_a_thread_that_has_not_begun() -> None:
    clock = Clock()
    pulse = Pulse({"poll": 60.0}, clock=clock)
    clock.now += 1e6
    assert (pulse.silent(), pulse.silence_s()) == ([], {})


def test_a_thread_is_silent_beyond_its_own_limit_and_no_sooner() -> None:
    clock = Clock()
    pulse = Pulse({"poll": 60.0, "model": 600.0}, clock=clock)
    pulse.beat("poll")
    pulse.beat("model")
    clock.now += 60.0
    assert pulse.silent() == []
    clock.now += 0.5
    (silence,) = pulse.silent()
    assert (silence.thread, silence.silent_s, silence.limit_s) == ("poll", 60.5, 60.0)
    assert str(silence) == "thread poll has shown no life for 60 s (limit 60 s)"
    pulse.beat("poll")
    assert pulse.silent() == []
    assert pulse.silence_s() == {"poll": 0.0, "model": 60.5}


@pytest.mark.parametrize(
    ("state", "reasons"),
    [
        (AT_WORK, []),
        (replace(AT_WORK, lag={}, standby="host:7"), []),
        (replace(AT_WORK, unpositioned=2), []),
        (replace(AT_WORK, lag={}), ["no partition is assigned yet"]),
        (replace(AT_WORK, lag={}, unpositioned=2), ["2 partitions wait for their cursor from the database"]),
        (replace(AT_WORK, trouble="db: down"), ["db: down"]),
        (replace(AT_WORK, trouble="db: down", lag={}), ["db: down", "no partition is assigned yet"]),
    ],
)
def test_a_worker_is_ready_while_it_reads_or_stands_by_and_the_database_answers(
    state: WorkerState, reasons: list[str]
) -> None:
    assert unready(state) == reasons


def test_a_refused_model_is_a_note_and_no_reason_against() -> None:
    state = replace(AT_WORK, refused="package 0123 is corrupt")
    assert unready(state) == []
    assert notes(state) == ["the promoted model is refused, m@0 goes on: package 0123 is corrupt"]
    assert notes(AT_WORK) == []
