"""A promoted model takes over in a running worker: no restart, no pause but for the batch at work.

    writer thread   every 2 s: does the registry name another model? → asks for it; later: swaps it in, or says why not
    side thread     package → verified, loaded, warm generation

A candidate that cannot be taken leaves the old one serving; it is tried again when the registry changes.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, Engine

from pipeline.errors import OodwatchError
from pipeline.stages.retry import Retry
from pipeline.stages.serving import Generation, Serving
from pipeline.storage.deployments import serve
from pipeline.storage.engine import is_transient, reading
from pipeline.storage.model_events import REFUSED, Activation, add_event, newest_activation

logger = logging.getLogger(__name__)

INTERVAL_S = 2.0

#: Verify, load and warm up. Called in the side thread; raises whatever speaks against the candidate.
Load = Callable[[Activation], Generation]


@dataclass(frozen=True, slots=True)
class Coming:
    """A candidate in the side thread's hands."""

    activation: Activation
    generation: "Future[Generation]"


class Handover:
    """Called by the writer thread between batches."""

    def __init__(
        self,
        engine: Engine,
        serving: Serving,
        load: Load,
        *,
        deployment_id: int,
        seen: int,
        owner: str,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        on_swap: Callable[[Generation], None] = lambda generation: None,
    ) -> None:
        self._engine = engine
        self._serving = serving
        self._load = load
        self._deployment_id = deployment_id
        self._seen = seen  # the registry's revision that is answered: taken or refused
        self._owner = owner
        self._clock = clock
        self._monotonic = monotonic
        self._on_swap = on_swap
        self._side = ThreadPoolExecutor(1, thread_name_prefix="registry")
        self.coming: Coming | None = None  # what the side thread is at
        self._next_look = 0.0

    def __call__(self, retry: Retry) -> None:
        """Look, or conclude, if it is time to; never waits for the side thread."""
        if self.coming is not None:
            if self.coming.generation.done():
                coming, self.coming = self.coming, None
                self._conclude(coming, retry)
            return
        if self._monotonic() < self._next_look:
            return
        newest = retry(self._newest, asks=("database",))
        self._next_look = self._monotonic() + INTERVAL_S
        if newest is None or newest.id == self._seen:
            return
        current = self._serving.current
        if newest.chooses == (current.package, current.reference.id):  # back from what was refused
            self._seen, self._serving.refused = newest.id, None
        else:
            self.coming = Coming(newest, self._side.submit(self._load, newest))

    def close(self) -> None:
        """The side thread is not waited for."""
        self._side.shutdown(wait=False, cancel_futures=True)

    def _newest(self) -> Activation | None:
        with reading(self._engine).connect() as conn:
            return newest_activation(conn, self._deployment_id)

    def _conclude(self, coming: Coming, retry: Retry) -> None:
        why = coming.generation.exception()
        if why is None:
            self._take(coming.activation, coming.generation.result(), retry)
        elif is_transient(why.__cause__ or why):
            logger.warning("the promoted model could not be read (%s); trying again", why)
        else:
            self._refuse(coming.activation, reason(why), retry)

    def _take(self, activation: Activation, generation: Generation, retry: Retry) -> None:
        """First the database says what scores, then it does."""
        if not retry(partial(self._enlist, activation, generation), lambda: True, asks=("database",)):
            generation.close()  # the registry has changed meanwhile, or the worker ends
            return
        former, self._serving.current, self._serving.refused = self._serving.current, generation, None
        self._seen = activation.id
        logger.warning(
            "model %s, reference %s takes over from %s (%s by %s)",
            generation.model_id,
            generation.reference.name,
            former.model_id,
            activation.kind,
            activation.who,
        )
        self._on_swap(generation)

    def _enlist(self, activation: Activation, generation: Generation) -> bool:
        assert generation.reference.id is not None
        with self._engine.begin() as conn:
            if newest_activation(conn, self._deployment_id) != activation:
                return False
            serve(
                conn,
                self._deployment_id,
                model_id=generation.model_id,
                reference_id=generation.reference.id,
                now=self._clock(),
            )
        return True

    def _refuse(self, activation: Activation, why: str, retry: Retry) -> None:
        def note() -> None:
            with self._engine.begin() as conn:
                note_refused(conn, self._deployment_id, activation, self._owner, why, now=self._clock())

        logger.error("the promoted model is refused, %s goes on: %s", self._serving.current.model_id, why)
        self._serving.refused = why
        retry(note, lambda: True, asks=("database",))
        self._seen = activation.id


def note_refused(
    conn: Connection, deployment_id: int, activation: Activation, owner: str, why: str, *, now: datetime
) -> None:
    """Tell the registry that a worker does not take what it names."""
    add_event(
        conn,
        REFUSED,
        deployment_id=deployment_id,
        package=activation.package,
        reference_id=activation.reference_id,
        of_event=activation.id,
        who=owner,
        why=why,
        now=now,
    )


def reason(error: BaseException) -> str:
    """Why a candidate is refused, in one line; its own code may have raised anything."""
    said = " ".join(str(error).split()) or "no reason was given"
    return said if isinstance(error, OodwatchError) else f"{type(error).__name__}: {said}"
