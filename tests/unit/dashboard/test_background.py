import threading
from collections.abc import Callable
from typing import Any

import pytest

from dashboard.background import Desk, TimeIsUp, Watch, Work
from pipeline.errors import RefusedError


def ended(desk: Desk, what: str, do: Callable[[Watch], Any], *, limit_s: float = 10) -> Work:
    before = set(threading.enumerate())
    desk.begin(what, do, limit_s=limit_s)
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
    work = desk.of(what)
    assert work is not None
    assert work.done
    return work


def test_work_says_how_far_it_is_and_keeps_what_it_found() -> None:
    desk = Desk()

    def do(watch: Watch) -> int:
        watch(0.5, "half")
        return 7

    work = ended(desk, "a", do)
    assert (work.share, work.doing, work.result, work.failed) == (0.5, "half", 7, None)
    assert desk.of("b") is None


def test_work_ends_when_its_time_is_up() -> None:
    now = [0.0]
    seen: list[float] = []

    def do(watch: Watch) -> None:
        for step in range(100):
            now[0] += 1
            watch(step / 100, "on")
            seen.append(now[0])

    work = ended(Desk(lambda: now[0]), "a", do, limit_s=5)
    assert seen == [1, 2, 3, 4, 5]
    assert work.failed == "it was ended after 5 s; choose less"


def test_calculations_run_one_after_the_other_and_a_crowd_is_refused() -> None:
    desk, go = Desk(), threading.Event()
    seen: list[str] = []

    def do(name: str) -> Callable[[Watch], None]:
        def work(watch: Watch) -> None:
            seen.append(name)
            go.wait(30)
            seen.append(name)

        return work

    before = set(threading.enumerate())
    for name in "abcda":
        desk.begin(name, do(name), limit_s=10)
    assert (waits := desk.of("b")) is not None
    assert (waits.done, waits.doing) == (False, "another calculation runs first")
    with pytest.raises(RefusedError, match="4 calculations run or wait"):
        desk.begin("e", do("e"), limit_s=10)
    assert desk.of("e") is None
    go.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
    assert seen[::2] == seen[1::2]
    assert sorted(seen[::2]) == list("abcd")
    assert ended(desk, "b", lambda watch: 1).result == 1


def test_what_was_refused_is_said_and_a_fault_goes_into_the_log_alone() -> None:
    def refuse(watch: Watch) -> None:
        raise RefusedError("no image in it")

    def fail(watch: Watch) -> None:
        raise ZeroDivisionError("secret")

    assert ended(Desk(), "a", refuse).failed == "no image in it"
    assert ended(Desk(), "a", fail).failed == "it failed; the server's log says why"
    assert not issubclass(TimeIsUp, RefusedError)


def test_only_the_newest_results_are_kept() -> None:
    desk = Desk()
    for at in range(12):
        ended(desk, str(at), lambda watch: None)
    assert [desk.of(str(at)) is not None for at in range(12)] == [False] * 4 + [True] * 8
