"""Work that takes longer than a page may: in threads, bounded in time, one after the other for the whole server."""

import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from pipeline.errors import OodwatchError, RefusedError

logger = logging.getLogger(__name__)

_KEPT = 8  # results
_MOST = 4  # that run or wait


class TimeIsUp(Exception):
    """It took longer than was allowed; whoever works may catch it, and return what is there."""


@dataclass
class Work:
    """How far it is; `result` or `failed` when it is done."""

    share: float = 0.0
    doing: str = ""
    done: bool = False
    result: Any = None
    failed: str | None = None


class Watch:
    """Is told how far work is, and ends it in time."""

    def __init__(self, work: Work, ends_at: float, clock: Callable[[], float]) -> None:
        self._work, self._ends_at, self._clock = work, ends_at, clock

    def __call__(self, share: float, doing: str) -> None:
        """So much of it is done. Raises TimeIsUp."""
        self._work.share, self._work.doing = share, doing
        if self._clock() > self._ends_at:
            raise TimeIsUp


class Desk:
    """Where work is handed in, and asked for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # held by who runs
        self._works: dict[Hashable, Work] = {}

    def of(self, what: Hashable) -> Work | None:
        """That work, running or done; None: nobody has begun it."""
        return self._works.get(what)

    def begin(self, what: Hashable, do: Callable[[Watch], Any], *, limit_s: float) -> None:
        """Begin it anew, after what others have begun; what runs or waits already goes on.

        Raises RefusedError where many wait.
        """
        with self._lock:
            busy = [key for key, work in self._works.items() if not work.done]
            if what in busy:
                return
            if len(busy) >= _MOST:
                raise RefusedError(f"{len(busy)} calculations run or wait on this server; try again when one has ended")
            self._works.pop(what, None)
            done = [key for key, work in self._works.items() if work.done]
            for old in done[: max(0, len(self._works) - _KEPT + 1)]:
                del self._works[old]
            work = self._works[what] = Work(doing="another calculation runs first" if busy else "")
        threading.Thread(target=self._run, args=(work, do, limit_s), daemon=True).start()

    def _run(self, work: Work, do: Callable[[Watch], Any], limit_s: float) -> None:
        with self._turn:
            self._do(work, do, limit_s)

    def _do(self, work: Work, do: Callable[[Watch], Any], limit_s: float) -> None:
        work.doing = ""
        try:
            work.result = do(Watch(work, self._clock() + limit_s, self._clock))
        except TimeIsUp:
            work.failed = f"it was ended after {limit_s:g} s; choose less"
        except OodwatchError as error:
            work.failed = str(error)
        except Exception:  # nobody is above this thread: the reason belongs into the log alone
            logger.exception("a calculation failed")
            work.failed = "it failed; the server's log says why"
        finally:
            work.done = True


DESK = Desk()
