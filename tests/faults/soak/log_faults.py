"""Brokers that die, and topics that change."""

import contextlib
import time

from tests.faults.soak.worker_faults import storm
from tests.faults.soak.world import World


def broker_kills(world: World) -> None:
    """kill -9 of the only broker, and its restart."""
    world.fleet.start_many(2)
    world.send()
    while world.flows():
        world.wait_for_progress()
        world.pause(1.0, 6.0)
        kill_broker(world)
        world.fleet.refill()


def kill_broker(world: World) -> None:
    world.broker.kill()
    world.faults["broker kill -9"] += 1
    world.pause(0.5, 3.0)
    world.broker.start()


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


def more_partitions(world: World) -> None:
    """The topic grows from 4 to 8 partitions under load, among kills."""
    world.fleet.start_many(3)
    first = world.send(0.4)
    storm(world, armed_share=0.3)
    first.wait()
    world.kafka.add_partitions(8)
    world.faults["partitions added"] += 1
    world.send(0.6)
    storm(world, armed_share=0.3)


def aborted(world: World) -> None:
    """A transactional producer aborts 30 % of its transactions; workers are killed meanwhile."""
    world.fleet.start_many(3)
    world.send(sender=world.kafka.transactional_sender(world.journal, world.rng, 0.3))
    storm(world, armed_share=0.3)


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
