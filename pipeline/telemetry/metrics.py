"""Prometheus metrics of a worker. Counted once a batch; whatever only has a present is looked up at the scrape.

What is looked up cannot freeze: the lag of a revoked partition is not repeated for ever, it is gone.
Names: one prefix, base units, `_total` for counters; ratios and ages are left to the query.
"""

import threading
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pipeline.records import Float64s, Reason
from pipeline.stages.rows import Entry
from pipeline.storage.deployments import OVERFLOW_SEGMENT
from pipeline.telemetry.health import Pulse, WorkerState

#: Segments with series of their own. Those seen first keep theirs, so that no counter ever falls.
MAX_SEGMENTS = 50

_STAGE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LATENCY_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)
_BATCH_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Distribution(Collector):
    """A histogram that takes a whole batch in one call; a value on an edge belongs to the bucket below."""

    def __init__(self, name: str, documentation: str, unit: str, edges: Float64s, labels: Mapping[str, str]) -> None:
        self._family = (name, documentation, unit)
        self._labels = labels
        self._edges = np.unique(edges)
        self._lock = threading.Lock()
        self._counts = np.zeros(len(self._edges) + 1, np.int64)
        self._sum = 0.0

    def add(self, values: Float64s) -> None:
        """Count values."""
        counts = np.bincount(np.searchsorted(self._edges, values, side="left"), minlength=len(self._edges) + 1)
        with self._lock:
            self._counts += counts
            self._sum += float(values.sum())

    def collect(self) -> Iterator[Metric]:
        """The cumulative buckets."""
        with self._lock:
            cumulative, total = np.cumsum(self._counts).tolist(), self._sum
        name, documentation, unit = self._family
        family = HistogramMetricFamily(name, documentation, labels=tuple(self._labels), unit=unit)
        limits = [*map(floatToGoString, self._edges.tolist()), "+Inf"]
        family.add_metric(tuple(self._labels.values()), list(zip(limits, cumulative, strict=True)), total)
        yield family


class WorkerMetrics:
    """What one worker has stored: `stored` is called by the writer thread after each commit."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        deployment: str,
        model: Mapping[str, str],
        energy_edges: Float64s,
        clock: Callable[[], datetime],
    ) -> None:
        self._deployment = deployment
        self._clock = clock
        self._segments: set[str] = set()
        self._newest: float | None = None
        by_segment = ("deployment", "segment")
        self._images = Counter(
            "oodwatch_images_scored",
            f"Images stored, drills left out; segments after the first {MAX_SEGMENTS} count as {OVERFLOW_SEGMENT}.",
            by_segment,
            registry=registry,
        )
        self._flagged = Counter(
            "oodwatch_images_flagged", "Images whose score is above the threshold.", by_segment, registry=registry
        )
        self._drills = Counter("oodwatch_drill_images", "Drills stored.", ("deployment",), registry=registry)
        self._dead = Counter(
            "oodwatch_dead_letters", "Records that could not be scored.", ("reason",), registry=registry
        )
        for reason in Reason:
            self._dead.labels(reason.value)  # a series that begins at 0 shows its first increase
        self._stages = Histogram(
            "oodwatch_batch_duration_seconds",
            "Time of a stage: prepare (from the poll to pixels, waiting included), infer, store (retries included).",
            ("stage",),
            registry=registry,
            buckets=_STAGE_S,
        )
        self._batches = Histogram(
            "oodwatch_batch_images", "Images in a batch.", registry=registry, buckets=_BATCH_IMAGES
        )
        self._newest_event = Gauge(
            "oodwatch_newest_event_timestamp_seconds",
            "Newest event time stored, seconds since 1970.",
            ("deployment",),
            registry=registry,
        )
        self._model = Info("oodwatch_model", "What scores.", registry=registry)
        self.describe(model)
        self._energy = Distribution(
            "oodwatch_energy_nats",
            "Energy of stored images, drills left out; the buckets are those of the first reference.",
            "nats",
            energy_edges,
            {"deployment": deployment},
        )
        self._latency = Distribution(
            "oodwatch_end_to_end_latency_seconds",
            "From the record's own time in the log to the commit.",
            "seconds",
            np.array(_LATENCY_S),
            {},
        )
        registry.register(self._energy)
        registry.register(self._latency)

    def describe(self, model: Mapping[str, str]) -> None:
        """From now on this model scores."""
        self._model.info({"deployment": self._deployment, **model})

    def stored(self, entry: Entry) -> None:
        """Count a committed batch."""
        batch = entry.batch
        seen = Tally(image.message.segment for image, c in zip(batch.images, entry.counted, strict=True) if c)
        hits = Tally(batch.images[i].message.segment for i in np.flatnonzero(entry.flags & entry.counted))
        for segment, count in seen.items():
            self._images.labels(self._deployment, self._label(segment)).inc(count)
            self._flagged.labels(self._deployment, self._label(segment)).inc(hits[segment])
        self._drills.labels(self._deployment).inc(len(batch.images) - seen.total())
        for reason, count in Tally(letter.reason for _, letter in batch.dead).items():
            self._dead.labels(reason.value).inc(count)
        self._batches.observe(len(batch.images))
        for stage, took_s in (("prepare", batch.prepare_s), ("infer", batch.infer_s), ("store", entry.store_s)):
            self._stages.labels(stage).observe(took_s)
        self._energy.add(batch.scores.energy[entry.counted])
        self._note_times(entry)

    def _note_times(self, entry: Entry) -> None:
        now_s = self._clock().timestamp()
        times = [record.timestamp for portion in entry.batch.ranges for record in portion.records]
        self._latency.add(now_s - np.array([at.timestamp() for at in times if at is not None], dtype=np.float64))
        events = [image.message.event_time for image, c in zip(entry.batch.images, entry.counted, strict=True) if c]
        if events:
            newest = max(events).timestamp()
            self._newest = newest if self._newest is None else max(newest, self._newest)
            self._newest_event.labels(self._deployment).set(self._newest)

    def _label(self, segment: str) -> str:
        if segment not in self._segments and len(self._segments) >= MAX_SEGMENTS:
            return OVERFLOW_SEGMENT
        self._segments.add(segment)
        return segment


class StateCollector(Collector):
    """What a worker is doing at the moment of the scrape."""

    def __init__(self, state: Callable[[], WorkerState], ready: Callable[[], bool], pulse: Pulse) -> None:
        self._state = state
        self._ready = ready
        self._pulse = pulse

    def collect(self) -> Iterator[Metric]:
        """Gauges, and counters that the writer keeps anyway."""
        state = self._state()
        yield self._lag(state)
        silence = GaugeMetricFamily(
            "oodwatch_thread_silence_seconds", "Since the thread last showed life.", labels=("thread",), unit="seconds"
        )
        for thread, silent_s in self._pulse.silence_s().items():
            silence.add_metric((thread,), silent_s)
        yield silence
        progress = state.progress
        for name, documentation, unit, value in (
            ("ready", "1 while /readyz answers 200.", "", self._ready()),
            ("paused", "1 while no records are fetched because enough are in flight.", "", state.paused),
            ("in_flight_records", "Records between poll and commit.", "records", state.in_flight_records),
            ("in_flight_bytes", "Memory that they are reckoned at.", "bytes", state.in_flight_bytes),
            ("batch_cap_images", "Images in one forward pass, at most.", "images", state.batch_cap),
            (
                "model_refused",
                "1 while the promoted model is refused and the one before goes on.",
                "",
                bool(state.refused),
            ),
        ):
            yield GaugeMetricFamily(f"oodwatch_{name}", documentation, float(value), unit=unit)
        for name, documentation, value in (
            ("fenced_ranges", "Ranges that another worker had stored already; dropped.", progress.fenced),
            ("expired_records", "Records that the log's retention deleted unread.", progress.expired),
            ("database_retries", "Times the database was tried again.", progress.database_retries),
            ("source_retries", "Times the log was tried again.", progress.source_retries),
        ):
            yield CounterMetricFamily(f"oodwatch_{name}", documentation, float(value))

    def _lag(self, state: WorkerState) -> Metric:
        family = GaugeMetricFamily(
            "oodwatch_consumer_lag_records",
            "Log's end minus cursor, of the partitions that this worker reads now.",
            labels=("topic", "partition"),
            unit="records",
        )
        for partition, lag in state.lag.items():
            family.add_metric((partition.topic, str(partition.number)), lag)
        return family
