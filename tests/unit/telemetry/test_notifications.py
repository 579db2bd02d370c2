from prometheus_client import CollectorRegistry, generate_latest

from pipeline.stages.told import Told
from pipeline.telemetry.notifications import NotificationCollector


def test_a_scrape_shows_outcomes_by_channel_and_what_waits_only_while_that_is_known() -> None:
    told, registry = Told(), CollectorRegistry()
    registry.register(NotificationCollector(told))
    told.outcomes["on-call", "delivered"] += 2
    told.outcomes["on-call", "given_up"] += 1
    told.renewals["am", "failed"] += 1
    told.pings["ok"] += 3
    told.waiting = {"on-call": 4}
    shown = generate_latest(registry).decode()
    for line in (
        'oodwatch_notifications_total{channel="on-call",outcome="delivered"} 2.0',
        'oodwatch_notifications_total{channel="on-call",outcome="given_up"} 1.0',
        'oodwatch_renewals_total{channel="am",outcome="failed"} 1.0',
        'oodwatch_deadman_pings_total{outcome="ok"} 3.0',
        'oodwatch_deadman_pings_total{outcome="failed"} 0.0',
        'oodwatch_notifications_waiting{channel="on-call"} 4.0',
    ):
        assert line in shown.splitlines()
    told.waiting = {}
    assert "oodwatch_notifications_waiting{" not in generate_latest(registry).decode()
