"""Which metrics there are: asked of the collectors themselves, with nothing to tell yet."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from prometheus_client import CollectorRegistry

from pipeline.stages.flow import Progress
from pipeline.stages.told import Told
from pipeline.telemetry.health import Pulse, WorkerState
from pipeline.telemetry.metrics import StateCollector, WorkerMetrics
from pipeline.telemetry.monitoring import MonitorCollector, Work
from pipeline.telemetry.notifications import NotificationCollector

Role = Literal["worker", "monitor"]

_SAMPLES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",)}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric of one role."""

    role: Role
    name: str
    kind: str  # counter, gauge, histogram, info
    documentation: str
    unit: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which it is scraped."""
        return tuple(self.name + ending for ending in _SAMPLES[self.kind])


def families(now: datetime) -> list[Family]:
    """All metrics of workers, then all of monitors, by name; each name once a role."""
    registries: dict[Role, CollectorRegistry] = {"worker": _of_worker(now), "monitor": _of_monitor(now)}
    return [
        Family(role, metric.name, metric.type, metric.documentation, metric.unit)
        for role, registry in registries.items()
        for metric in sorted(registry.collect(), key=lambda metric: metric.name)
    ]


def series(known: list[Family]) -> Iterator[str]:
    """Every name that can be asked for."""
    for family in known:
        yield from family.series


def _of_worker(now: datetime) -> CollectorRegistry:
    registry, idle = CollectorRegistry(), WorkerState({}, 0, None, None, False, 0, 0, 0, Progress(), "", "")
    WorkerMetrics(registry, deployment="", model={}, energy_edges=np.zeros(1), clock=lambda: now)
    registry.register(StateCollector(lambda: idle, _ready, _pulse()))
    return registry


def _of_monitor(now: datetime) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(MonitorCollector(Work(run_at=now), _ready, _pulse(), lambda: 0))
    registry.register(NotificationCollector(Told()))
    return registry


def _ready() -> bool:
    return True


def _pulse() -> Pulse:
    return Pulse({}, clock=lambda: 0.0)
