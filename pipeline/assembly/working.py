"""Settings → a running worker: everything is opened, watched and closed here."""

import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial

from sqlalchemy import Engine

from pipeline.assembly.generations import Beginning, Generations, deployment_name
from pipeline.assembly.job import Job
from pipeline.assembly.operating import Operations
from pipeline.assembly.parts import open_database_of, owner_name, required_source
from pipeline.assembly.sources import check_source, open_source, start_from
from pipeline.settings import Settings
from pipeline.stages.flow import Progress
from pipeline.stages.handover import Handover, note_refused
from pipeline.stages.rows import Entry
from pipeline.stages.serving import Generation, Serving
from pipeline.storage.deployments import ensure_deployment
from pipeline.storage.engine import translated_errors
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
    clock = settings.clock.now
    with Operations(
        "worker", name=owner_name(), listen=listen, stop=stop, patient=not drain, clock=clock
    ) as operations:
        engine = operations.patiently("opening the database", partial(open_database_of, settings))
        if engine is None:
            return Progress()
        deployment = deployment_name(settings)
        generations = Generations(settings, engine, deployment, operations.pulse)
        beginning = operations.patiently("loading the model", generations.first)
        if beginning is None:
            return Progress()
        key = operations.patiently("enlisting in the database", partial(_enlist, engine, beginning, deployment, clock))
        if key is None:
            return Progress()
        source = open_source(
            url,
            settings.source.kafka,
            group=deployment,
            max_records=settings.worker.max_batch * 2,
            max_bytes=settings.worker.max_megabytes_in_flight * 2**20 // 4,
        )
        targets = source.topic.bounds() if drain else None
        serving = Serving(beginning.generation, beginning.refused_because)
        metrics = WorkerMetrics(
            operations.registry,
            deployment=deployment,
            model=serving.current.description,
            energy_edges=serving.current.reference.edges,
            clock=clock,
        )

        def swapped(generation: Generation) -> None:
            metrics.describe(generation.description)
            say(f"{deployment}: from now on {generation}")

        handover = _handover(engine, serving, generations, key, beginning.seen, clock, swapped)
        job = Job(
            settings,
            engine,
            serving,
            handover,
            source,
            begin,
            deployment,
            key,
            operations,
            partial(_tell, (metrics.stored, on_stored)),
        )
        worker = job.worker()
        operations.watch(worker.state)
        say(f"{deployment}: {serving.current}, reading {url}")
        for note in beginning.notes(settings):
            say(note)
        try:
            return worker.run(stop, drain_to=targets)
        finally:
            handover.close()
            worker.close()
            source.topic.close()
            engine.dispose()


def _enlist(engine: Engine, beginning: Beginning, deployment: str, clock: Callable[[], datetime]) -> int:
    """The deployment's key: it is what scores here from now on. The registry hears what is not taken, and why."""
    generation, now = beginning.generation, clock()
    assert generation.reference.id is not None
    with translated_errors(engine.url), engine.begin() as conn:
        key = ensure_deployment(
            conn, deployment, model_id=generation.model_id, reference_id=generation.reference.id, now=now
        )
        for activation, why in beginning.refused:
            note_refused(conn, key, activation, owner_name(), why, now=now)
    return key


def _handover(
    engine: Engine,
    serving: Serving,
    generations: Generations,
    deployment_id: int,
    seen: int,
    clock: Callable[[], datetime],
    swapped: Callable[[Generation], None],
) -> Handover:
    return Handover(
        engine,
        serving,
        generations.load,
        deployment_id=deployment_id,
        seen=seen,
        owner=owner_name(),
        clock=clock,
        on_swap=swapped,
    )


def _tell(listeners: tuple[Callable[[Entry], None], ...], entry: Entry) -> None:
    for listener in listeners:
        listener(entry)
