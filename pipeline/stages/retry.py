"""Trying again while the database or the log does not answer; anything else ends the worker."""

import logging
import random
from collections.abc import Callable, Collection
from threading import Event
from typing import TypeVar

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from pipeline.errors import EnvironmentFault
from pipeline.stages.flow import Progress
from pipeline.storage.engine import describe, is_transient, translated

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Retry:
    """Runs what needs the database or the log until it succeeds, and remembers who does not answer, and why."""

    def __init__(
        self,
        database: URL,
        give_up: Event,
        *,
        progress: Progress,
        beat: Callable[[], None] = lambda: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._give_up = give_up
        self._progress = progress
        self._beat = beat  # what is tried again for hours is no silent thread
        self._jitter = jitter
        self._troubles: dict[str, str] = {}  # what does not answer: why

    @property
    def trouble(self) -> str | None:
        """Why the database or the log is being tried again; None when both answer. Any thread may ask."""
        return "; ".join(tuple(self._troubles.values())) or None

    def __call__(
        self,
        attempt: Callable[[], T],
        is_wanted: Callable[[], bool] = lambda: False,
        *,
        asks: Collection[str] = ("database", "source"),
    ) -> T | None:
        """Run until it succeeds; None when it fails and is no longer wanted, or the worker has to end.

        `asks` says who has answered when it succeeds: trouble with the other one is not over by that.
        Raises what no waiting can mend.
        """
        pause_s = 0.2
        while True:
            try:
                result = attempt()
            except (DBAPIError, EnvironmentFault) as error:
                self._note(error)
            else:
                for which in asks:
                    if self._troubles.pop(which, None) is not None:
                        logger.info("the %s answers again", which)
                return result
            self._beat()
            # Full jitter: workers that lost the same database do not come back together.
            if self._give_up.wait(pause_s * self._jitter()) or not is_wanted():
                return None
            pause_s = min(pause_s * 2, 30.0)

    def _note(self, error: DBAPIError | EnvironmentFault) -> None:
        known = self.trouble
        if isinstance(error, EnvironmentFault):
            self._progress.source_retries += 1
            self._troubles["source"] = trouble = str(error)
        elif is_transient(error):
            self._progress.database_retries += 1
            self._troubles["database"] = trouble = describe(error, self._database)
        else:
            raise translated(error, self._database) from error
        if self.trouble != known:  # once, not at every attempt of an hour
            logger.warning("%s; trying again", trouble)
