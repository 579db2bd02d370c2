"""Settings → a running worker: everything is opened, watched and closed here."""

import threading
from collections.abc import Callable
from functools import partial

from sqlalchemy import Engine

from pipeline.assembly.job import Job
from pipeline.assembly.operating import Operations
from pipeline.assembly.parts import (
    ModelParts,
    make_isolated,
    matching_reference,
    open_database_of,
    open_model,
    owner_name,
    required_source,
    support_of,
)
from pipeline.assembly.sources import check_source, open_source, start_from
from pipeline.records import Float64s, Reference, utc_now
from pipeline.settings import Settings
from pipeline.stages.flow import Progress
from pipeline.stages.isolation import Isolation
from pipeline.stages.rows import Entry
from pipeline.storage.deployments import ensure_deployment
from pipeline.storage.engine import translated_errors
from pipeline.storage.references import reference_features
from pipeline.telemetry.metrics import WorkerMetrics


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
        reference, images, deployment_id = enlisted
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
        job = Job(
            settings,
            engine,
            parts,
            reference,
            source,
            begin,
            deployment,
            deployment_id,
            operations,
            _counting(operations, deployment, parts, reference, on_stored),
            support_of(images, parts.classifier),
        )
        worker = job.worker(isolation)
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


def _enlist(settings: Settings, engine: Engine, parts: ModelParts, deployment: str) -> tuple[Reference, Float64s, int]:
    """The reference to score against, the projected features of its images, and the deployment's key."""
    reference = matching_reference(
        engine, name=settings.reference, model_id=parts.package.model_id, dtype=parts.classifier.dtype
    )
    assert reference.id is not None
    with translated_errors(engine.url), engine.begin() as conn:
        key = ensure_deployment(conn, deployment, model_id=reference.model_id, reference_id=reference.id, now=utc_now())
        images = reference_features(conn, reference.id)
    return reference, images, key


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
