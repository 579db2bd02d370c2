"""What a rebalance does to a member."""

from collections.abc import Collection
from typing import Any

from kafka import ConsumerRebalanceListener, TopicPartition


class Changes:
    """Partitions taken and given, until the polling thread hears of it: the two never run at once."""

    def __init__(self) -> None:
        self.held: frozenset[int] = frozenset()
        self.joined = False
        self._revoked: frozenset[int] = frozenset()
        self._assigned: frozenset[int] = frozenset()

    def revoke(self, numbers: frozenset[int]) -> None:
        """These are no longer ours."""
        self._revoked |= numbers
        self._assigned -= numbers
        self.held -= numbers
        self.joined = False

    def assign(self, numbers: frozenset[int]) -> None:
        """These are ours."""
        self._assigned |= numbers
        self.held |= numbers
        self.joined = True

    def take(self) -> tuple[frozenset[int], frozenset[int]]:
        """What was revoked, and assigned after that, since the last call."""
        taken = self._revoked, self._assigned
        self._revoked = self._assigned = frozenset()
        return taken


class Listener(ConsumerRebalanceListener):  # type: ignore[misc] # kafka-python has no types
    """Works in memory only: waiting would be an error, and raising would read from a wrong place."""

    def __init__(self, consumer: Any, changes: Changes) -> None:
        self._consumer = consumer
        self._changes = changes

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Given back, all of them, for the protocol is eager; perhaps none were held."""
        self._changes.revoke(frozenset(place.partition for place in revoked))

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        """Taken away."""
        self.on_partitions_revoked(lost)

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Where to read, the database says; until then nothing may be fetched, nor any offset be asked for."""
        for place in assigned:
            self._consumer.seek(place, 0)
            self._consumer.pause(place)
        self._changes.assign(frozenset(place.partition for place in assigned))


def finish_joins(consumer: Any) -> None:
    """Make the client finish every join that it has begun.

    kafka-python 3.0.12 asks before each poll whether there is still a reason to rejoin. A leader whose
    reason was new metadata has none any more once it has handed out the partitions; if that poll's time
    is up before the answer is there, the answer is never read: no partition is fetched from again, no
    heartbeat is sent, and the member does not notice. Java asks whether a join is pending, too.
    """
    coordinator = consumer._coordinator
    has_reason = coordinator.need_rejoin
    coordinator.need_rejoin = lambda: coordinator.rejoining or has_reason()
