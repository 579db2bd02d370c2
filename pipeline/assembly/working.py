"""Settings → a running worker: the one place where its parts are put together."""

import queue
import threading
import time
from collections.abc import Callable
from functools import partial

from sqlalchemy import Engine

from pipeline.assembly.parts import (
    ModelParts,
    decode_threads,
    make_isolated,
    open_database_of,
    open_model,
    owner_name,
    required_source,
    score_of,
)
from pipeline.assembly.sources import Source, open_source, start_from
from pipeline.errors import UsageError
from pipeline.ingest.decode import DECODER
from pipeline.records import Range, Reference, utc_now
from pipeline.settings import Settings
from pipeline.stages.flow import Answer, Fence, InFlight, PositionRequest
from pipeline.stages.inference import Inference
from pipeline.stages.intake import Intake
from pipeline.stages.isolation import Isolation
from pipeline.stages.rows import Entry
from pipeline.stages.sampling import Sampler, SamplingLimits
from pipeline.stages.sink import Sink
from pipeline.stages.writer import Progress, StartAt, Writer
from pipeline.storage.deployments import ensure_deployment
from pipeline.storage.engine import reading, translated_errors
from pipeline.storage.references import find_reference
from pipeline.storage.retention import RetentionLimits, delete_expired
from pipeline.worker import Pace, Worker

_RETENTION_INTERVAL_S = 60.0
_LOG_END_INTERVAL_S = 2.0


def run_worker(
    settings: Settings,
    *,
    start_at: str,
    drain: bool,
    stop: threading.Event,
    on_progress: Callable[[int], None] = lambda done: None,
    on_stored: Callable[[Entry], None] = lambda entry: None,
    say: Callable[[str], None] = lambda text: None,
) -> Progress:
    """Open everything, work until told to stop or drained, close everything."""
    url = required_source(settings)
    begin = start_from(start_at)
    engine = open_database_of(settings)
    parts = open_model(settings)
    reference = _matching_reference(settings, engine, parts)
    deployment = settings.deployment or parts.package.spec.name
    source = open_source(
        url,
        group=deployment,
        max_records=settings.worker.max_batch * 2,
        max_bytes=settings.worker.max_megabytes_in_flight * 2**20 // 4,
    )
    targets = source.topic.bounds() if drain else None
    parts.classifier.warm_up(settings.worker.max_batch)
    isolation = Isolation(partial(make_isolated, settings), clock=utc_now)
    worker = _assemble(settings, engine, parts, reference, source, begin, isolation, deployment, on_progress, on_stored)
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


def _matching_reference(settings: Settings, engine: Engine, parts: ModelParts) -> Reference:
    """The reference to score against; refused where energies would not be comparable with it."""
    with translated_errors(engine.url), reading(engine).connect() as conn:
        reference = find_reference(conn, name=settings.reference, model_id=parts.package.model_id)
    for what, has, needs in (
        ("decoder", DECODER, reference.decoder),
        ("dtype", parts.classifier.dtype, reference.dtype),
    ):
        if has != needs:
            raise UsageError(
                f"reference {reference.name} was made with {what} {needs!r}, this worker has {has!r}: energies"
                " would not be comparable; run `oodwatch calibrate` here, or install what the reference used"
            )
    return reference


def _assemble(
    settings: Settings,
    engine: Engine,
    parts: ModelParts,
    reference: Reference,
    source: Source,
    begin: StartAt,
    isolation: Isolation,
    deployment: str,
    on_progress: Callable[[int], None],
    on_stored: Callable[[Entry], None],
) -> Worker:
    from pipeline.models.device import free_memory, is_fatal, is_out_of_memory

    limits = settings.worker
    fence = Fence()
    side = parts.package.spec.preprocessing.input_size
    in_flight = InFlight(
        max_records=max(limits.max_records_in_flight, limits.max_batch),
        max_bytes=limits.max_megabytes_in_flight * 2**20,
        bytes_per_record=side * side * 3 + 2048,
    )
    requests: queue.SimpleQueue[PositionRequest] = queue.SimpleQueue()
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    give_up = threading.Event()
    with translated_errors(engine.url), engine.begin() as conn:
        assert reference.id is not None
        deployment_id = ensure_deployment(
            conn, deployment, model_id=reference.model_id, reference_id=reference.id, now=utc_now()
        )
    places = settings.samples.per_segment_and_minute
    writer = Writer(
        engine,
        source.topic,
        Sink(deployment_id, reference, owner_name(), limits.max_segments, places),
        Sampler(SamplingLimits(places, settings.samples.pictures), parts.preparation.picture),
        fence=fence,
        in_flight=in_flight,
        requests=requests,
        answers=answers,
        start_at=begin,
        isolation_span=limits.max_records_in_flight,
        clock=utc_now,
        give_up=give_up,
        on_stored=_reporting(on_progress, on_stored),
    )
    inference = Inference(
        parts.classifier,
        score_of(reference, parts.classifier),
        reference,
        max_batch=limits.max_batch,
        is_out_of_memory=is_out_of_memory,
        is_fatal=is_fatal,
        free_memory=free_memory,
        score_alone=isolation.score,
        clock=utc_now,
    )

    def intake(forward: Callable[[Range], None]) -> Intake:
        return Intake(
            source.subscription,
            fence=fence,
            in_flight=in_flight,
            requests=requests,
            answers=answers,
            forward=forward,
            max_range=limits.max_batch,
        )

    return Worker(
        subscription=source.subscription,
        intake=intake,
        preparation=parts.preparation,
        inference=inference,
        writer=writer,
        in_flight=in_flight,
        give_up=give_up,
        pace=Pace(limits.max_batch, limits.max_wait_ms / 1000, decode_threads(settings)),
        housekeeping=Housekeeping(engine, writer, settings),
    )


def _reporting(on_progress: Callable[[int], None], on_stored: Callable[[Entry], None]) -> Callable[[Entry], None]:
    done = 0

    def report(entry: Entry) -> None:
        nonlocal done
        done += len(entry.batch.images) + len(entry.batch.dead)
        on_progress(done)
        on_stored(entry)

    return report


class Housekeeping:
    """What the writer thread does between batches: log ends every 2 s, retention every minute."""

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
            self._writer.refresh_log_ends()
            self._next_log_end = now_s + _LOG_END_INTERVAL_S
        if now_s >= self._next_retention:
            left = self._writer.retrying(self._delete_expired)
            self._next_retention = now_s if left else now_s + _RETENTION_INTERVAL_S

    def _delete_expired(self) -> int:
        with self._engine.begin() as conn:
            return delete_expired(conn, self._limits, now=utc_now())
