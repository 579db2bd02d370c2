"""The images themselves, which stay in the log; who serves the pages may give access to it, or not."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Original(NamedTuple):
    """An image as it was scored, encoded anew: nothing of its metadata is left."""

    png: bytes
    width: int  # of the image itself: the picture may be smaller
    height: int
    format: str  # that it was sent in, as jpeg
    bytes: int  # that it had


class Expired(NamedTuple):
    """The log holds the record no longer."""

    earliest: int  # offset that the partition begins with now
    end: int


class Originals(Protocol):
    """The log that samples came from."""

    def read(self, sample_id: int) -> Original | Expired:
        """A sample's original. Raises OodwatchError, in one line, where it cannot be had."""

    def read_all(self, sample_ids: Sequence[int]) -> Mapping[int, bytes]:
        """Originals as PNG by sample, without those that cannot be had. Raises OodwatchError where no log answers."""
