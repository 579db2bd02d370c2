"""All scenarios: how each run is set up, and the function that does the damage. Its docstring says what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.faults.soak import database_faults, log_faults, worker_faults
from tests.faults.soak.world import World

Kind = Literal["sqlite", "postgres"]
BOTH: tuple[Kind, ...] = ("sqlite", "postgres")


@dataclass(frozen=True)
class Scenario:
    """How a run is set up, and what then happens."""

    act: Callable[[World], None]
    databases: tuple[Kind, ...] = BOTH
    source: Literal["kafka", "spool"] = "kafka"
    static: bool = False
    partitions: int = 4
    brokers: int = 1
    kafka: Mapping[str, object] = field(default_factory=dict)
    worker: Mapping[str, object] = field(default_factory=dict)
    proxied: bool = False
    small_disk: bool = False

    @property
    def name(self) -> str:
        return self.act.__name__

    @property
    def what(self) -> str:
        """The first line of the docstring."""
        return (self.act.__doc__ or "").splitlines()[0]


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(worker_faults.spool, source="spool"),
        Scenario(worker_faults.kills),
        Scenario(worker_faults.kills_static, static=True, kafka={"session_timeout_ms": 8_000}),
        Scenario(worker_faults.zombies, kafka={"session_timeout_ms": 4_000, "heartbeat_interval_ms": 1_000}),
        Scenario(worker_faults.permanent_zombies),
        Scenario(worker_faults.churn),
        Scenario(
            worker_faults.rolling_restart,
            static=True,
            kafka={"session_timeout_ms": 30_000, "heartbeat_interval_ms": 3_000},
        ),
        Scenario(worker_faults.frozen_in_transaction),
        Scenario(log_faults.broker_kills),
        Scenario(log_faults.leader_loss, brokers=3),
        Scenario(log_faults.more_partitions),
        Scenario(log_faults.aborted),
        Scenario(log_faults.retention, worker={"max_records_in_flight": 256}),
        Scenario(log_faults.recreated),
        Scenario(
            log_faults.recreated_while_frozen,
            kafka={"session_timeout_ms": 6_000, "heartbeat_interval_ms": 1_000},
            worker={"max_records_in_flight": 256},  # a backlog, and a gate that often closes
        ),
        Scenario(database_faults.database_crashes),
        Scenario(database_faults.hung_transaction),
        Scenario(database_faults.database_frozen, databases=("postgres",)),
        Scenario(database_faults.disk_full, small_disk=True),
        Scenario(database_faults.bad_network, databases=("postgres",), proxied=True),
        Scenario(database_faults.all_at_once, kafka={"session_timeout_ms": 4_000, "heartbeat_interval_ms": 1_000}),
    )
}
