"""Databases that crash, hang, freeze or are full, behind a bad network; and everything at once."""

import time

from tests.faults.soak.log_faults import kill_broker
from tests.faults.soak.worker_faults import OF_A_LIFE
from tests.faults.soak.world import World


def database_crashes(world: World) -> None:
    """PostgreSQL: immediate restarts. SQLite: somebody holds the write lock for 6-18 s."""
    world.fleet.start_many(2)
    world.send()
    while world.flows():
        world.wait_for_progress()
        world.pause(1.0, 4.0)
        hurt_database(world)
        world.fleet.refill()


def hurt_database(world: World) -> None:
    if world.database.kind == "postgres":
        world.postgres.crash()
        world.faults["immediate restart of the database"] += 1
    else:
        with world.database.locked():
            world.pause(6.0, 18.0)
        world.faults["write lock of 6-18 s"] += 1


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


def all_at_once(world: World) -> None:
    """Kills, kill points, SIGSTOP, broker kills and database faults, in random order and overlapping."""
    world.fleet.start_many(3)
    world.fleet.points = OF_A_LIFE
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
                kill_broker(world)
            case "database":
                hurt_database(world)
        for member in world.fleet.alive():
            if member.frozen and time.monotonic() > frozen_until[member.slot]:
                member.thaw()
        world.fleet.refill(armed_share=0.5)
