"""Settings → a running worker: the one place where its parts are put together."""

import threading
import time
from collections.abc import Callable
from functools import partial

from sqlalchemy import Engine

from pipeline.assembly.operating import Operations
from pipeline.assembly.parts import (
    ModelParts,
    decode_threads,
    make_isolated,
    matching_reference,
    open_database_of,
    open_model,
    owner_name,
    required_source,
    score_of,
)
from pipeline.assembly.sources import Source, check_source, open_source, start_from
from pipeline.records import DeadLetter, Outputs, PreparedImage, Range, Record, Reference, utc_now
from pipeline.settings import Settings
from pipeline.stages.cursors import Cursors, StartAt
from pipeline.stages.flow import Flow, InFlight, Progress
from pipeline.stages.inference import Inference
from pipeline.stages.intake import Intake
from pipeline.stages.isolation import Isolation
from pipeline.stages.retry import Retry
from pipeline.stages.rows import Entry
from pipeline.stages.sampling import Sampler, SamplingLimits
from pipeline.stages.sink import Sink
from pipeline.stages.writer import Writer
from pipeline.storage.deployments import ensure_deployment
from pipeline.storage.engine import translated_errors
from pipeline.storage.partitions import drop_expired_day, ensure_days_ahead
from pipeline.storage.retention import RetentionLimits, delete_expired
from pipeline.telemetry.metrics import WorkerMetrics
from pipeline.worker import Pace, Worker

_RETENTION_INTERVAL_S = 60.0
_LOG_END_INTERVAL_S = 2.0


def run_worker(
    settings: Settings,
    *,
    start_at: str,
    drain: bool,
    stop: threading.Event,
    on_stored: Callable[[Entry], None] = lambda entry: None,
    say: Callable[[str], None] = lambda text: None,
) -> Progress:
    """Open everything, work until told to stop or drained, close everything.

    `on_stored` hears of each batch after its commit, in the writer thread. A database that does not
    answer is waited for, except by a run that only drains.
    """
    url = required_source(settings)
    check_source(url, settings.source.kafka)
    begin = start_from(start_at)
    listen = settings.http.listen
    with Operations("worker", name=owner_name(), listen=listen, stop=stop, patient=not drain) as operations:
        engine = operations.patiently("opening the database", partial(open_database_of, settings))
        if engine is None:
            return Progress()
        operations.enter("loading the model")
        parts = open_model(settings)
        deployment = settings.deployment or parts.package.spec.name
        enlisted = operations.patiently("reading the reference", partial(_enlist, settings, engine, parts, deployment))
        if enlisted is None:
            return Progress()
        reference, deployment_id = enlisted
        source = open_source(
            url,
            settings.source.kafka,
            group=deployment,
            max_records=settings.worker.max_batch * 2,
            max_bytes=settings.worker.max_megabytes_in_flight * 2**20 // 4,
        )
        targets = source.topic.bounds() if drain else None
        operations.enter("warming the model up")
        parts.classifier.warm_up(settings.worker.max_batch)
        isolation = Isolation(partial(make_isolated, settings), clock=utc_now)
        stored = _counting(operations, deployment, parts, reference, on_stored)
        worker = _assemble(
            settings, engine, parts, reference, source, begin, isolation, deployment, deployment_id, operations, stored
        )
        operations.watch(worker.state)
        say(
            f"{deployment}: {parts.package.model_id} on {parts.classifier.device}, reference {reference.name}"
            f" (threshold {reference.threshold:.4f}), reading {url}"
        )
        try:
            return worker.run(stop, drain_to=targets)
        finally:
            isolation.close()
            source.topic.close()
            engine.dispose()


def _enlist(settings: Settings, engine: Engine, parts: ModelParts, deployment: str) -> tuple[Reference, int]:
    """The reference to score against, and the deployment's key."""
    reference = matching_reference(
        engine, name=settings.reference, model_id=parts.package.model_id, dtype=parts.classifier.dtype
    )
    assert reference.id is not None
    with translated_errors(engine.url), engine.begin() as conn:
        key = ensure_deployment(conn, deployment, model_id=reference.model_id, reference_id=reference.id, now=utc_now())
    return reference, key


def _counting(
    operations: Operations,
    deployment: str,
    parts: ModelParts,
    reference: Reference,
    on_stored: Callable[[Entry], None],
) -> Callable[[Entry], None]:
    """Metrics, and then whoever else wants to hear of a stored batch."""
    metrics = WorkerMetrics(
        operations.registry,
        deployment=deployment,
        model={
            "model": parts.package.spec.name,
            "version": parts.package.spec.version,
            "digest": parts.package.digest,
            "reference": reference.name,
            "device": str(parts.classifier.device),
            "dtype": parts.classifier.dtype,
        },
        energy_edges=reference.edges,
        clock=utc_now,
    )

    def stored(entry: Entry) -> None:
        metrics.stored(entry)
        on_stored(entry)

    return stored


def _assemble(
    settings: Settings,
    engine: Engine,
    parts: ModelParts,
    reference: Reference,
    source: Source,
    begin: StartAt,
    isolation: Isolation,
    deployment: str,
    deployment_id: int,
    operations: Operations,
    on_stored: Callable[[Entry], None],
) -> Worker:
    from pipeline.models.device import free_memory, is_fatal, is_out_of_memory

    limits = settings.worker
    side = parts.package.spec.preprocessing.input_size
    flow = Flow(
        InFlight(
            max_records=max(limits.max_records_in_flight, limits.max_batch),
            max_bytes=limits.max_megabytes_in_flight * 2**20,
            bytes_per_record=side * side * 3 + 2048,
        )
    )
    give_up = threading.Event()
    places = settings.samples.per_segment_and_minute
    cursors = Cursors(
        engine,
        source.topic,
        flow,
        deployment_id=deployment_id,
        owner=owner_name(),
        start_at=begin,
        isolation_span=limits.max_records_in_flight,
        clock=utc_now,
    )
    writer = Writer(
        engine,
        source.topic,
        Sink(deployment_id, reference, owner_name(), limits.max_segments, places),
        Sampler(SamplingLimits(places, settings.samples.pictures), parts.preparation.picture),
        cursors,
        flow=flow,
        retry=Retry(engine.url, give_up, progress=flow.progress, beat=partial(operations.pulse.beat, "writer")),
        clock=utc_now,
        on_stored=on_stored,
        farewell=operations.farewell,
    )

    def score_alone(record: Record) -> tuple[PreparedImage, Outputs] | DeadLetter:
        operations.pulse.beat("model")  # a child process may take a minute for each record
        return isolation.score(record)

    inference = Inference(
        parts.classifier,
        score_of(reference, parts.classifier),
        reference,
        max_batch=limits.max_batch,
        is_out_of_memory=is_out_of_memory,
        is_fatal=is_fatal,
        free_memory=free_memory,
        score_alone=score_alone,
        clock=utc_now,
    )

    def intake(forward: Callable[[Range], None]) -> Intake:
        return Intake(
            source.subscription,
            flow=flow,
            forward=forward,
            max_range=limits.max_batch,
            stall_s=limits.stall_seconds,
        )

    return Worker(
        subscription=source.subscription,
        intake=intake,
        preparation=parts.preparation,
        inference=inference,
        writer=writer,
        in_flight=flow.in_flight,
        give_up=give_up,
        pace=Pace(limits.max_batch, limits.max_wait_ms / 1000, decode_threads(settings)),
        pulse=operations.pulse,
        housekeeping=(Housekeeping(engine, writer, settings), operations.heartbeat(engine, writer, deployment)),
    )


class Housekeeping:
    """What the writer thread does between batches: log ends every 2 s, retention and days ahead every minute."""

    def __init__(self, engine: Engine, writer: Writer, settings: Settings) -> None:
        self._engine = engine
        self._writer = writer
        self._limits = RetentionLimits(settings.retention.keep, settings.samples.max_samples)
        self._next_log_end = 0.0
        self._next_retention = 0.0

    def __call__(self) -> None:
        """Do what is due, in short transactions."""
        now_s = time.monotonic()
        if now_s >= self._next_log_end:
            self._writer.retry(self._writer.cursors.refresh_log_ends, asks=("source",))
            self._next_log_end = now_s + _LOG_END_INTERVAL_S
        if now_s >= self._next_retention:
            left = self._writer.retry(self._keep_to_retention)
            self._next_retention = now_s if left else now_s + _RETENTION_INTERVAL_S

    def _keep_to_retention(self) -> int:
        now = utc_now()
        with self._engine.begin() as conn:
            ensure_days_ahead(conn, now=now)
            deleted = delete_expired(conn, self._limits, now=now)
        with self._engine.begin() as conn:
            return deleted + drop_expired_day(conn, now - self._limits.keep)
