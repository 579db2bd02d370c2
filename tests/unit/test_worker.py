"""The worker's watch over its own threads, with clocks that a test moves."""

import subprocess
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import StuckThread
from pipeline.ingest.source import Poll
from pipeline.records import ScoredBatch
from pipeline.stages.flow import Progress
from pipeline.stages.serving import Serving
from pipeline.telemetry.health import Pulse
from pipeline.worker import Pace, Worker
from tests.faults.scored import score_ranges


class Parts:
    """A worker whose poll, or whose writer, may hang until the test lets go."""

    def __init__(
        self,
        *,
        poll: Callable[[], None] = lambda: None,
        write: Callable[[], None] = lambda: None,
        generation: Any = None,
        in_flight: int = 0,
    ) -> None:
        self.now_s = 0.0
        self.released = 0
        self.closed = 0
        give_up = threading.Event()
        intake = SimpleNamespace(
            step=lambda timeout_s: poll(), stop_fetching=lambda: None, partitions=(), unpositioned=0, paused=False
        )
        writer = SimpleNamespace(
            progress=Progress(),
            retry=SimpleNamespace(trouble=None),
            cursors=SimpleNamespace(lag=lambda partition: 0),
            answer_requests=write,
            store=lambda batch: None,
            end=self._release,
        )
        pulse = Pulse({"poll": 60.0, "model": 600.0, "writer": 600.0}, clock=lambda: self.now_s)
        anything: Any = SimpleNamespace
        model = anything(inference=anything(cap=16), model_id="m@0", reference=anything(name="m-r1"))
        self.serving = Serving(generation or model)
        self.forward: Callable[[Any], None] = lambda portion: None

        def make_intake(forward: Callable[[Any], None]) -> Any:
            self.forward = forward
            return intake

        self.worker = Worker(
            subscription=anything(standby="host:1", trouble=None, poll=lambda timeout_s: Poll(), close=self._close),
            intake=make_intake,
            serving=self.serving,
            writer=anything(**vars(writer)),
            in_flight=anything(records=in_flight, bytes=0),
            give_up=give_up,
            pace=Pace(drain_deadline_s=0.5),
            pulse=pulse,
        )

    def _release(self) -> None:
        self.released += 1

    def _close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(("thread", "limit_s"), [("poll", 60.0), ("writer", 600.0)])
def test_a_thread_that_shows_no_life_ends_the_worker_with_its_name_and_place(
    thread: str, limit_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    let_go = threading.Event()

    def hang() -> None:
        parts.now_s = limit_s + 1.0
        let_go.wait()

    parts = Parts(poll=hang) if thread == "poll" else Parts(write=hang)
    with pytest.raises(StuckThread, match=f"thread {thread} has shown no life for {limit_s + 1:.0f} s"):
        parts.worker.run(threading.Event())
    let_go.set()
    assert (parts.released, parts.closed) == (0, 0)
    assert "in hang\n    let_go.wait()" in caplog.text


def test_a_worker_that_is_told_to_stop_ends_in_order() -> None:
    parts, stop = Parts(), threading.Event()
    stop.set()
    parts.worker.run(stop)
    assert (parts.released, parts.closed) == (1, 1)


@pytest.mark.parametrize(("thread", "closed"), [("poll", 0), ("writer", 1)])
def test_a_thread_that_does_not_end_is_left_and_only_the_poll_thread_is_waited_for_to_leave_the_group(
    thread: str, closed: int
) -> None:
    let_go, stop, hanging = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        let_go.wait()

    def stop_once_it_hangs() -> None:
        hanging.wait()
        stop.set()

    parts = Parts(poll=hang) if thread == "poll" else Parts(write=hang)
    threading.Thread(target=stop_once_it_hangs, daemon=True).start()
    parts.worker.run(stop)
    assert parts.closed == closed
    assert parts.released == (thread == "poll")
    let_go.set()


def test_the_state_of_a_worker_that_stands_by_says_for_whom() -> None:
    state = Parts().worker.state()
    assert (state.standby, dict(state.lag), state.batch_cap) == ("host:1", {}, 16)


def test_a_batch_has_one_model_and_the_former_one_is_closed_when_nothing_of_it_is_left() -> None:
    told: list[tuple[str, list[str]]] = []
    both = threading.Event()

    def made(name: str) -> Any:
        def score(ranges: list[Any], prepared: list[list[str]]) -> ScoredBatch:
            told.append((name, [item for items in prepared for item in items]))
            if len(told) == 2:
                both.set()
            return score_ranges([])

        preparation = SimpleNamespace(prepare_all=lambda records: [f"{name} prepared {record}" for record in records])
        close = lambda: told.append((name, ["closed"]))  # noqa: E731
        inference = SimpleNamespace(score_ranges=score, cap=16)
        return SimpleNamespace(preparation=preparation, inference=inference, close=close)

    first, second = made("first"), made("second")
    parts = Parts(generation=first, in_flight=4)
    for current, records in ((first, ("a",)), (first, ("b", "c")), (second, ("d",))):
        parts.serving.current = current
        parts.forward(SimpleNamespace(isolated=False, records=records))
    stop = threading.Event()

    def stop_after_both() -> None:
        both.wait(30)
        stop.set()

    threading.Thread(target=stop_after_both, daemon=True).start()
    parts.worker.run(stop)
    assert told == [
        ("first", ["first prepared a", "first prepared b", "first prepared c"]),
        ("first", ["closed"]),
        ("second", ["second prepared d"]),
    ]


STUCK = """
import threading
from concurrent.futures import ThreadPoolExecutor
from pipeline.cli import app
from pipeline.errors import StuckThread

def stuck():
    begun = threading.Event()
    def hang():
        begun.set()
        threading.Event().wait()
    pool = ThreadPoolExecutor(1)
    threading.Thread(target=lambda: pool.submit(hang), daemon=True).start()  # as the poll thread does
    begun.wait()
    raise StuckThread("thread model has shown no life, postgresql://u:secret@h")

app.app = stuck
app.main()
"""


def test_a_thread_that_never_returns_does_not_keep_the_process_alive() -> None:
    ended = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 4
    assert ended.stderr == "oodwatch: thread model has shown no life, postgresql://u:***@h\n"
