"""One worker's job, and the worker that does it: stages put together, nothing opened."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Engine

from pipeline.assembly.housekeeping import Housekeeping
from pipeline.assembly.operating import Operations
from pipeline.assembly.parts import decode_threads, owner_name
from pipeline.assembly.sources import Source
from pipeline.records import Range
from pipeline.settings import Settings
from pipeline.stages.cursors import Cursors, StartAt
from pipeline.stages.flow import Flow, InFlight
from pipeline.stages.handover import Handover
from pipeline.stages.intake import Intake
from pipeline.stages.retry import Retry
from pipeline.stages.rows import Entry
from pipeline.stages.sampling import Sampler, SamplingLimits
from pipeline.stages.serving import Serving
from pipeline.stages.sink import Sink
from pipeline.stages.writer import Writer
from pipeline.worker import Pace, Worker


@dataclass(frozen=True, slots=True)
class Job:
    """What is scored, against what, from where, to where. Everything in it is open."""

    settings: Settings
    engine: Engine
    serving: Serving
    handover: Handover
    source: Source
    start_at: StartAt
    deployment: str
    deployment_id: int
    operations: Operations
    on_stored: Callable[[Entry], None]

    def worker(self) -> Worker:
        """All four stages, joined."""
        limits = self.settings.worker
        side = self.serving.current.preparation.preprocessing.input_size
        flow = Flow(
            InFlight(
                max_records=max(limits.max_records_in_flight, limits.max_batch),
                max_bytes=limits.max_megabytes_in_flight * 2**20,
                bytes_per_record=side * side * 3 + 2048,
            )
        )
        give_up = threading.Event()
        writer = self._writer(flow, give_up)
        return Worker(
            subscription=self.source.subscription,
            intake=partial(self._intake, flow),
            serving=self.serving,
            writer=writer,
            in_flight=flow.in_flight,
            give_up=give_up,
            pace=Pace(limits.max_batch, limits.max_wait_ms / 1000, decode_threads(self.settings)),
            pulse=self.operations.pulse,
            housekeeping=(
                Housekeeping(self.engine, writer, self.settings),
                self.operations.heartbeat(self.engine, writer, self.deployment),
                partial(self.handover, writer.retry),
            ),
        )

    def _intake(self, flow: Flow, forward: Callable[[Range], None]) -> Intake:
        limits = self.settings.worker
        return Intake(
            self.source.subscription,
            flow=flow,
            forward=forward,
            max_range=limits.max_batch,
            stall_s=limits.stall_seconds,
        )

    def _writer(self, flow: Flow, give_up: threading.Event) -> Writer:
        limits, samples = self.settings.worker, self.settings.samples
        places = samples.per_segment_and_minute
        cursors = Cursors(
            self.engine,
            self.source.topic,
            flow,
            deployment_id=self.deployment_id,
            owner=owner_name(),
            start_at=self.start_at,
            isolation_span=limits.max_records_in_flight,
            clock=self.settings.clock.now,
        )
        return Writer(
            self.engine,
            self.source.topic,
            Sink(self.deployment_id, owner_name(), limits.max_segments, places),
            Sampler(SamplingLimits(places, samples.pictures), self.serving.current.preparation.picture),
            cursors,
            flow=flow,
            retry=Retry(
                self.engine.url, give_up, progress=flow.progress, beat=partial(self.operations.pulse.beat, "writer")
            ),
            clock=self.settings.clock.now,
            on_stored=self.on_stored,
            farewell=self.operations.farewell,
        )
