"""Workers that die, freeze, come and go."""

import signal
import time

import psutil

from tests.faults.soak.kill_points import POINTS, Hook, Point
from tests.faults.soak.world import World

_OF_THE_SPOOL: tuple[Point, ...] = tuple(
    point for point in POINTS if point not in ("in the rebalance listener", "before the log's commit", "in close")
)
OF_A_LIFE: tuple[Point, ...] = tuple(point for point in POINTS if point != "in close")


def storm(world: World, *, points: tuple[Point, ...] = OF_A_LIFE, armed_share: float = 0.5) -> None:
    """While records flow: somebody dies, at any moment of its work or at a kill point; the dead are replaced."""
    world.fleet.points = points
    while world.flows():
        world.wait_for_progress(4.0)
        world.pause(0.0, 1.0)
        unarmed = [member for member in world.fleet.alive() if member.hook is None and member.is_reading]
        at_work = [member for member in unarmed if world.watch.owned_by(member.pid)]
        if victims := at_work if world.rng.random() < 0.8 else unarmed:
            victim = world.rng.choice(victims)
            world.fleet.kill(victim)
            world.watch.killed(victim.pid)
        world.pause(0.0, 0.5)
        world.fleet.refill(armed_share=armed_share)


def spool(world: World) -> None:
    """The embedded log: one worker after another is killed, at any moment and at kill points."""
    world.fleet.start_many(1)
    world.send()
    storm(world, points=_OF_THE_SPOOL)


def kills(world: World) -> None:
    """Three dynamic members; kill -9 at any moment and at every kill point."""
    world.fleet.start_many(3)
    world.send()
    storm(world)


def kills_static(world: World) -> None:
    """The same with three static members, which come back under their name."""
    world.fleet.start_many(3)
    world.send()
    storm(world)


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


def frozen_in_transaction(world: World) -> None:
    """A worker freezes for 22 s right after its compare-and-set, while it holds the cursor's row."""
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
