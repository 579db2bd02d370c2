"""What a monitor has done, and its Prometheus metrics: all looked up at the scrape, so that nothing can freeze."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.telemetry.health import Pulse


@dataclass(slots=True)
class Work:
    """What one monitor has done since it began. Any thread may look."""

    parts: int = 0
    images: int = 0
    late_images: int = 0
    too_late_images: int = 0
    revised_ticks: int = 0
    ticks: int = 0
    transitions: int = 0
    incident_events: int = 0
    superseded: int = 0
    runs: Counter[str] = field(default_factory=lambda: Counter(ok=0, error=0, missed=0, overlapped=0))
    run_at: datetime | None = None  # when the last run had ended well
    deployments: int = 0  # that there are to watch
    leading: frozenset[str] = frozenset()  # of them: those that this monitor leads
    watermarks: dict[str, datetime] = field(default_factory=dict)


class MonitorCollector(Collector):
    """A monitor at the moment of the scrape."""

    def __init__(
        self, work: Work, ready: Callable[[], bool], pulse: Pulse, database_retries: Callable[[], int]
    ) -> None:
        self._work = work
        self._ready = ready
        self._pulse = pulse
        self._database_retries = database_retries

    def collect(self) -> Iterator[Metric]:
        """Counters that the monitor keeps anyway, and where it stands."""
        work = self._work
        for name, documentation, value in (
            ("parts_folded", "Roll-up parts added to ticks.", work.parts),
            ("images_folded", "Images in them.", work.images),
            ("late_images", "Images that came after their tick was evaluated.", work.late_images),
            ("too_late_images", "Of them: in the roll-ups, but not in the evidence.", work.too_late_images),
            ("ticks_revised", "Complete ticks, of all lengths, that late images changed.", work.revised_ticks),
            ("ticks_evaluated", "Ticks that went through the detector.", work.ticks),
            ("transitions", "Changes of state of all streams of evidence.", work.transitions),
            (
                "incident_events",
                "What happened to incidents: raised, told again, ended, and so on.",
                work.incident_events,
            ),
            ("superseded_transactions", "Transactions given up because another monitor was quicker.", work.superseded),
            ("database_retries", "Times the database was tried again.", self._database_retries()),
        ):
            yield CounterMetricFamily(f"oodwatch_{name}", documentation, float(value))
        runs = CounterMetricFamily("oodwatch_monitor_runs", "Runs of the scheduled job.", labels=("outcome",))
        for outcome, count in tuple(work.runs.items()):
            runs.add_metric((outcome,), count)
        yield runs
        yield GaugeMetricFamily("oodwatch_ready", "1 while /readyz answers 200.", float(self._ready()))
        if work.run_at is not None:
            yield GaugeMetricFamily(
                "oodwatch_monitor_last_success_timestamp_seconds",
                "When the last run had ended well, seconds since 1970.",
                work.run_at.timestamp(),
                unit="seconds",
            )
        leader = GaugeMetricFamily("oodwatch_leader", "1 for the deployments that it leads.", labels=("deployment",))
        for name in work.leading:
            leader.add_metric((name,), 1.0)
        yield leader
        yield from self._times()

    def _times(self) -> Iterator[Metric]:
        watermark = GaugeMetricFamily(
            "oodwatch_watermark_timestamp_seconds",
            "Event time up to which all active partitions have come, seconds since 1970.",
            labels=("deployment",),
            unit="seconds",
        )
        for name, at in tuple(self._work.watermarks.items()):
            if name in self._work.leading:
                watermark.add_metric((name,), at.timestamp())
        yield watermark
        silence = GaugeMetricFamily(
            "oodwatch_thread_silence_seconds", "Since the thread last showed life.", labels=("thread",), unit="seconds"
        )
        for thread, silent_s in self._pulse.silence_s().items():
            silence.add_metric((thread,), silent_s)
        yield silence
