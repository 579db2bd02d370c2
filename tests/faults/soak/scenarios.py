"""What is done to a run, one function each. The docstring says what; the oracle says whether it mattered."""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.faults.soak.kill_points import POINTS, Point
from tests.faults.soak.world import World

Kind = Literal["sqlite", "postgres"]
BOTH: tuple[Kind, ...] = ("sqlite", "postgres")

_OF_THE_SPOOL: tuple[Point, ...] = tuple(
    point for point in POINTS if point not in ("in the rebalance listener", "before the log's commit", "in close")
)
_OF_A_LIFE: tuple[Point, ...] = tuple(point for point in POINTS if point != "in close")


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


SCENARIOS: dict[str, Scenario] = {}


def _scenario(**setup: object) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    def register(act: Callable[[World], None]) -> Callable[[World], None]:
        SCENARIOS[act.__name__] = Scenario(act, **setup)  # type: ignore[arg-type]
        return act

    return register


def _storm(world: World, *, points: tuple[Point, ...] = _OF_A_LIFE, armed_share: float = 0.5) -> None:
    """While records flow: somebody dies, at any moment of its work or at a kill point; the dead are replaced."""
    world.fleet.points = points
    while world.flows():
        world.wait_for_progress(4.0)
        world.pause(0.0, 1.0)
        unarmed = [member for member in world.fleet.alive() if member.hook is None and member.is_reading]
        at_work = [member for member in unarmed if world.watch.owned_by(member.pid)]
        if victims := at_work if world.rng.random() < 0.8 else unarmed:
            world.fleet.kill(world.rng.choice(victims))
        world.pause(0.0, 0.5)
        world.fleet.refill(armed_share=armed_share)


@_scenario(source="spool")
def spool(world: World) -> None:
    """The embedded log: one worker after another is killed, at any moment and at kill points."""
    world.fleet.start_many(1)
    world.send()
    _storm(world, points=_OF_THE_SPOOL)


@_scenario()
def kills(world: World) -> None:
    """Three dynamic members; kill -9 at any moment and at every kill point."""
    world.fleet.start_many(3)
    world.send()
    _storm(world)


@_scenario(static=True, kafka={"session_timeout_ms": 8_000})
def kills_static(world: World) -> None:
    """The same with three static members, which come back under their name."""
    world.fleet.start_many(3)
    world.send()
    _storm(world)


@_scenario(kafka={"session_timeout_ms": 4_000, "heartbeat_interval_ms": 1_000})
def zombies(world: World) -> None:
    """SIGSTOP for 11-15 s, longer than session and poll interval; the others take over; SIGCONT."""
    world.fleet.start_many(3)
    world.send()
    while world.flows():
        world.wait_for_progress()
        world.fleet.refill()
        victims = world.rng.sample(world.fleet.alive(), world.rng.choice((1, 1, 2)))
        for victim in victims:
            victim.freeze()
            world.faults["SIGSTOP"] += 1
        world.pause(11.0, 15.0)
        for victim in victims:
            victim.thaw()
        world.pause(1.0, 3.0)


@_scenario()
def permanent_zombies(world: World) -> None:
    """Two workers, each of which believes for ever that it owns all partitions; both are killed now and then."""
    groups = {f"zombie-{i}": f"{world.home.name}-{i}" for i in (1, 2)}
    for slot, group in groups.items():
        world.fleet.start(slot, own_group=group)
    world.send()
    while world.flows():
        world.wait_for_progress(4.0)
        world.pause(1.0, 4.0)
        world.fleet.kill(world.rng.choice(world.fleet.alive()))
        for slot, group in groups.items():
            if slot not in world.fleet.members or not world.fleet.members[slot].is_alive:
                if slot in world.fleet.members:
                    world.fleet.bury(world.fleet.members[slot])
                world.fleet.start(slot, own_group=group)
    for slot in groups:
        world.fleet.kill(world.fleet.members[slot])


@_scenario()
def broker_kills(world: World) -> None:
    """kill -9 of the only broker, and its restart."""
    world.fleet.start_many(2)
    world.send()
    while world.flows():
        world.wait_for_progress()
        world.pause(1.0, 6.0)
        _kill_broker(world)
        world.fleet.refill()


def _kill_broker(world: World) -> None:
    world.broker.kill()
    world.faults["broker kill -9"] += 1
    world.pause(0.5, 3.0)
    world.broker.start()


@_scenario()
def database_crashes(world: World) -> None:
    """PostgreSQL: immediate restarts. SQLite: somebody holds the write lock for 6-18 s."""
    world.fleet.start_many(2)
    world.send()
    while world.flows():
        world.wait_for_progress()
        world.pause(1.0, 4.0)
        _hurt_database(world)
        world.fleet.refill()


def _hurt_database(world: World) -> None:
    if world.database.kind == "postgres":
        world.postgres.crash()
        world.faults["immediate restart of the database"] += 1
    else:
        with world.database.locked():
            world.pause(6.0, 18.0)
        world.faults["write lock of 6-18 s"] += 1


@_scenario()
def hung_transaction(world: World) -> None:
    """Somebody's transaction holds every cursor for 20 s and then goes away."""
    world.fleet.start_many(2)
    world.send()
    while world.flows():
        world.wait_for_progress()
        with world.database.locked():
            world.pause(20.0, 20.0)
        world.faults["hung transaction"] += 1
        world.pause(1.0, 4.0)
        world.fleet.refill()


@_scenario(databases=("postgres",))
def database_frozen(world: World) -> None:
    """PostgreSQL answers nothing for 13 s, longer than the poll interval; a worker is killed meanwhile."""
    world.fleet.start_many(3)
    world.send()
    while world.flows():
        world.wait_for_progress()
        world.postgres.server.freeze()
        try:
            world.pause(3.0, 6.0)
            world.fleet.kill(world.rng.choice(world.fleet.alive()))
            world.pause(7.0, 10.0)
        finally:
            world.postgres.server.thaw()
        world.faults["database frozen"] += 1
        world.fleet.refill()
        world.pause(3.0, 6.0)


@_scenario()
def churn(world: World) -> None:
    """A third member joins and leaves every few seconds; one in four leaves by kill -9."""
    world.fleet.start_many(2)
    world.send()
    while world.flows():
        guest = world.fleet.start("guest")
        guest.wait_until_reading()
        world.pause(1.0, 3.0)
        if world.rng.random() < 0.25:
            world.fleet.kill(guest)
        else:
            guest.terminate()
            guest.wait()
            world.faults["joined and left"] += 1
        world.fleet.bury(guest)
        world.fleet.refill()
        world.pause(0.5, 1.5)


@_scenario()
def more_partitions(world: World) -> None:
    """The topic grows from 4 to 8 partitions under load, among kills."""
    world.fleet.start_many(3)
    first = world.send(0.4)
    _storm(world, armed_share=0.3)
    first.wait()
    world.kafka.add_partitions(8)
    world.faults["partitions added"] += 1
    world.send(0.6)
    _storm(world, armed_share=0.3)


@_scenario(kafka={"session_timeout_ms": 4_000, "heartbeat_interval_ms": 1_000})
def all_at_once(world: World) -> None:
    """Kills, kill points, SIGSTOP, broker kills and database faults, in random order and overlapping."""
    world.fleet.start_many(3)
    world.fleet.points = _OF_A_LIFE
    world.send()
    frozen_until: dict[str, float] = {}
    while world.flows():
        world.wait_for_progress(5.0)
        world.pause(0.0, 2.0)
        lively = [member for member in world.fleet.alive() if not member.frozen and member.hook is None]
        match world.rng.choices(("kill", "freeze", "broker", "database"), (10, 3, 1, 1))[0]:
            case "kill" if lively:
                world.fleet.kill(world.rng.choice(lively))
            case "freeze" if len(lively) > 1:
                victim = world.rng.choice(lively)
                victim.freeze()
                frozen_until[victim.slot] = time.monotonic() + world.rng.uniform(5.0, 15.0)
                world.faults["SIGSTOP"] += 1
            case "broker":
                _kill_broker(world)
            case "database":
                _hurt_database(world)
        for member in world.fleet.alive():
            if member.frozen and time.monotonic() > frozen_until[member.slot]:
                member.thaw()
        world.fleet.refill(armed_share=0.5)


@_scenario()
def aborted(world: World) -> None:
    """A transactional producer aborts 30 % of its transactions; workers are killed meanwhile."""
    world.fleet.start_many(3)
    world.send(sender=world.kafka.transactional_sender(world.journal, world.rng, 0.3))
    _storm(world, armed_share=0.3)


@_scenario(worker={"max_records_in_flight": 256})
def retention(world: World) -> None:
    """DeleteRecords beyond the cursor: while the workers live but cannot write, then while they are down."""
    world.fleet.start_many(2)
    for live in (True, False, True, False):
        world.send(0.05).wait()
        with contextlib.ExitStack() as stack:
            if live:
                stack.enter_context(world.database.locked())
            else:
                for member in world.fleet.alive():
                    world.fleet.kill(member)
            world.send(0.2, rate=None).wait()
            world.kafka.delete_records({number: end - 50 for number, end in world.kafka.ends().items()})
            world.faults["records deleted before they were read"] += 1
        world.fleet.refill()
        world.drain(alive=2)


@_scenario()
def recreated(world: World) -> None:
    """The topic is deleted and made anew while the workers live: at once four times, then after 3 s."""
    world.fleet.start_many(2)
    for turn in range(5):
        world.send(0.18, rate=1_000).wait()
        if turn % 2:  # else what was not read is gone with the topic
            world.drain(alive=2)
        world.kafka.recreate(pause=lambda: time.sleep(3.0) if turn == 4 else None)  # noqa: B023 called at once
        world.faults["topic deleted and made anew"] += 1
        world.fleet.refill()
    world.send(0.1).wait()


@_scenario(kafka={"session_timeout_ms": 6_000, "heartbeat_interval_ms": 1_000})
def recreated_while_frozen(world: World) -> None:
    """The topic is made anew, and grows beyond the old offsets, while all workers are frozen."""
    world.fleet.start_many(2)
    world.send(0.3, rate=1_000).wait()
    world.drain(alive=2)
    world.send(0.02, rate=None).wait()
    for member in world.fleet.alive():
        member.freeze()
        world.faults["SIGSTOP"] += 1
    world.kafka.recreate()
    world.faults["topic deleted and made anew"] += 1
    world.send(0.68, rate=None).wait()
    world.fleet.thaw()


@_scenario()
def frozen_in_transaction(world: World) -> None:
    """A worker freezes for 22 s right after its compare-and-set, while it holds the cursor's row."""
    import signal

    import psutil

    from tests.faults.soak.kill_points import Hook

    world.fleet.start_many(2)
    world.send()
    while world.flows():
        victim = world.fleet.start("frozen", hook=Hook("after the compare-and-set", 10, signal.SIGSTOP))
        give_up = time.monotonic() + 30
        while psutil.Process(victim.pid).status() != psutil.STATUS_STOPPED and time.monotonic() < give_up:
            world.pause(0.05, 0.05)
        world.faults["frozen in its transaction"] += 1
        world.pause(22.0, 22.0)
        victim.thaw()
        world.pause(3.0, 6.0)
        world.fleet.kill(victim)
        world.fleet.bury(victim)
        world.fleet.refill()


@_scenario(brokers=3)
def leader_loss(world: World) -> None:
    """Three brokers, three copies; the leader of a partition is killed with -9 and comes back."""
    world.fleet.start_many(2)
    world.send()
    while world.flows():
        world.wait_for_progress()
        world.pause(2.0, 5.0)
        leader = world.brokers[world.kafka.leader(world.rng.randrange(4)) - 1]
        leader.kill()
        world.faults["leader kill -9"] += 1
        world.pause(3.0, 8.0)
        leader.start()
        world.fleet.refill()


@_scenario(small_disk=True)
def disk_full(world: World) -> None:
    """The database's disk fills up for 10 s, then somebody makes room."""
    world.fleet.start_many(2)
    world.send()
    while world.flows():
        world.wait_for_progress()
        world.pause(1.0, 4.0)
        with world.disk.filled():
            world.pause(10.0, 10.0)
        if world.database.kind == "postgres":
            world.postgres.revive()
        world.faults["disk full"] += 1
        world.fleet.refill()


@_scenario(databases=("postgres",), proxied=True)
def bad_network(world: World) -> None:
    """Between worker and PostgreSQL: answers to COMMIT are lost, the line is half-open, or slow."""
    world.fleet.start_many(2)
    world.send()
    while world.flows():
        world.wait_for_progress()
        before = world.proxy.dropped_commits
        world.proxy.drop_commit_replies(world.rng.randrange(1, 4))
        world.wait_for_progress()
        world.faults["COMMIT's answer lost"] += world.proxy.dropped_commits - before
        world.proxy.latency_s = 0.15
        world.faults["latency of 300 ms"] += 1
        world.pause(3.0, 6.0)
        world.proxy.latency_s = 0.0
        world.proxy.silence()
        world.faults["half-open"] += 1
        world.pause(8.0, 14.0)
        world.proxy.restore()
        world.fleet.refill()


@_scenario(static=True, kafka={"session_timeout_ms": 30_000, "heartbeat_interval_ms": 3_000})
def rolling_restart(world: World) -> None:
    """Two static workers are stopped in order and started again, one after the other, under load."""
    world.fleet.start_many(2)
    world.send()
    while world.flows():
        for slot in ("worker-1", "worker-2"):
            member = world.fleet.members[slot]
            world.pause(3.0, 5.0)
            member.terminate()
            member.wait()
            world.faults["restart in order"] += 1
            world.fleet.bury(member)
            world.fleet.start(slot).wait_until_reading()
            world.wait_for_progress()
