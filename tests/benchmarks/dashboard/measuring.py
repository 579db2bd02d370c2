"""What a server costs whom many look at: its queries alone, then the server's process by the visitors' clocks."""

import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import psutil
import streamlit as st
from playwright.sync_api import sync_playwright
from sqlalchemy import Engine, event
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard.board import Board, give
from dashboard.windows import to_ms
from pipeline.storage.read_only import open_read_only
from tests.benchmarks.coverage.check import Check, at_most
from tests.benchmarks.dashboard.visitor import Visitor
from tests.browser.seeded import NOW
from tests.browser.visiting import Visit, answers
from tests.services.processes import free_port, wait_until

APP = Path(dashboard.__file__).with_name("app.py")
REPETITIONS = 7
VISITORS = 20
_REFRESH_S = 10.0  # the pages' own
_MIB = 2**20
_DAYS = (1, 7, 14, 90)


def figures(url: str) -> Iterator[Check]:
    """All of one database."""
    yield _queries(url)
    with _server(url) as (process, port):
        yield from _paints(port)
        yield _refreshes(process, port)
        yield from _windows(port)
        yield _crowd(port)
        yield at_most("server's resident size after it all", process.memory_info().rss / _MIB, 300, " MiB")
        yield _browser(port)


def _queries(url: str) -> Check:
    """How long Overview holds connections, nothing being remembered; reading the rows is counted, too."""
    engine = open_read_only(url)
    held = _Held(engine)
    board = Board(
        engine,
        lambda: NOW,
        levels=(0.1, 0.25),
        budget_days=30,
        silent_after=timedelta(seconds=40),
        refresh_s=None,
    )
    give(board)
    times = []
    for _ in range(REPETITIONS + 1):
        st.cache_data.clear()
        held.seconds, held.times = 0.0, 0
        assert not AppTest.from_file(str(APP), default_timeout=60).run().exception
        times.append(1000 * held.seconds)
    engine.dispose()
    what = f"Overview's queries, {held.times} connections held, median of {REPETITIONS}"
    return at_most(what, statistics.median(times[1:]), 50, " ms")


class _Held:
    """Sums how long connections are out of the pool."""

    def __init__(self, engine: Engine) -> None:
        self.seconds, self.times = 0.0, 0
        self._since: dict[int, float] = {}
        event.listen(engine, "checkout", self._out)
        event.listen(engine, "checkin", self._back)

    def _out(self, _connection: object, record: object, _proxy: object) -> None:
        self._since[id(record)] = time.perf_counter()

    def _back(self, _connection: object, record: object) -> None:
        self.seconds += time.perf_counter() - self._since.pop(id(record))
        self.times += 1


@contextlib.contextmanager
def _server(url: str) -> Iterator[tuple[psutil.Process, int]]:
    port = free_port()
    command = [sys.executable, "-m", "tests.browser", url, "--port", str(port)]
    with subprocess.Popen(command) as child:
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}"), "the server", deadline_s=60)
            yield psutil.Process(child.pid), port
        finally:
            child.terminate()


def _paints(port: int) -> Iterator[Check]:
    """From an open connection until all of Overview has been sent."""
    first = _with_visitor(port, lambda one: one.go())
    yield at_most("first paint after a start, server side", first, 1, " s")
    again = [_with_visitor(port, lambda one: one.go()) for _ in range(REPETITIONS)]
    yield at_most(f"first paint of later visitors, median of {REPETITIONS}", statistics.median(again), 1, " s")


def _with_visitor(port: int, work: Callable[[Visitor], float]) -> float:
    visitor = Visitor.come(port)
    try:
        return work(visitor)
    finally:
        visitor.leave()


def _refreshes(process: psutil.Process, port: int) -> Check:
    """CPU time of the process, with all that it remembers grown old between two refreshes."""
    visitor = Visitor.come(port)
    visitor.go()
    spent = []
    for _ in range(5):
        time.sleep(_REFRESH_S)
        before = sum(process.cpu_times()[:2])
        visitor.refresh()
        spent.append(sum(process.cpu_times()[:2]) - before)
    visitor.leave()
    return at_most("a live tab, a refresh, median of 5", statistics.median(spent), 0.15, " CPU s")


def _windows(port: int) -> Iterator[Check]:
    """A link to a window that nobody has asked for; other ends, so that nothing is remembered."""
    visitor = Visitor.come(port)
    visitor.go()
    for days in _DAYS:
        for page in ("", "explore"):
            times = [visitor.go(page, _link(days, shift)) for shift in range(REPETITIONS)]
            what = f"{page or 'overview'} over {days} d, redrawn, median of {REPETITIONS}"
            yield at_most(what, statistics.median(times), 1, " s")
    visitor.leave()


def _crowd(port: int) -> Check:
    """One visitor asks for window after window while the others' tabs refresh, each at its own time."""
    over = threading.Event()

    def stay(visitor: Visitor, number: int) -> None:
        over.wait(_REFRESH_S * number / VISITORS)
        while not over.wait(_REFRESH_S):
            visitor.refresh()

    visitors = [Visitor.come(port) for _ in range(VISITORS)]
    for one in visitors:
        one.go()
    asking, *others = visitors
    with ThreadPoolExecutor(len(others)) as pool:
        staying = [pool.submit(stay, one, number) for number, one in enumerate(others)]
        over.wait(_REFRESH_S)
        times = [asking.go("", _link(1 + turn % 14, 20 + turn)) for turn in range(60)]
        over.set()
        for stayed in staying:
            stayed.result()
    for one in visitors:
        one.leave()
    slow = statistics.quantiles(times, n=20)[-1]
    return at_most(f"an interaction with {VISITORS} tabs open, 95 % of {len(times)}", slow, 2, " s")


def _link(days: int, shift: int) -> str:
    end = NOW - timedelta(minutes=7 * shift + 1)
    return f"from={to_ms(end - timedelta(days=days))}&to={to_ms(end)}"


def _browser(port: int) -> Check:
    """Chromium that has never been here, until nothing moves any more."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        times = []
        for _ in range(5):
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            visit = Visit(context.new_page(), f"http://127.0.0.1:{port}")
            began = time.perf_counter()
            visit.go("/")
            times.append(time.perf_counter() - began)
            context.close()
        browser.close()
    return Check("first paint in a Chromium without a cache, median of 5", f"{statistics.median(times):.2f} s")
