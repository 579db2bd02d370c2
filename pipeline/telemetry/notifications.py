"""What a monitor has told, as Prometheus metrics, looked up at the scrape."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.stages.told import Told


class NotificationCollector(Collector):
    """The attempts of one process; what waits is of the whole outbox, and unknown while the database is away."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def collect(self) -> Iterator[Metric]:
        """Counters by channel and outcome, and what waits."""
        told = self._told
        for name, documentation, counts in (
            ("notifications", "Attempts to tell something: delivered, failed, given_up.", told.outcomes),
            ("renewals", "Times that what stands was told again: ok, failed.", told.renewals),
        ):
            attempts = CounterMetricFamily(f"oodwatch_{name}", documentation, labels=("channel", "outcome"))
            for labels, count in tuple(counts.items()):
                attempts.add_metric(labels, count)
            yield attempts
        pings = CounterMetricFamily("oodwatch_deadman_pings", "Pings of the dead-man service.", labels=("outcome",))
        for outcome, count in tuple(told.pings.items()):
            pings.add_metric((outcome,), count)
        yield pings
        waiting = GaugeMetricFamily(
            "oodwatch_notifications_waiting", "Notifications neither delivered nor given up.", labels=("channel",)
        )
        for channel, count in told.waiting.items():
            waiting.add_metric((channel,), count)
        yield waiting
