"""What alerts rest on: the word of a detector's stream or of a health rule. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.alerts.incident import Key

#: What a detector's word leads with when it returns to ok only because it knows nothing any more.
BEGINS_ANEW = "begins anew"

_FRACTION = "fraction"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A signal's state from now on, as the detector or a health rule decided it."""

    kind: Literal["shift", "health"]
    signal: str
    segment: str
    reference_id: int
    state: str
    at: datetime  # of the decision, processing time
    newest: datetime  # of what it rests on: the newest image, event time
    onset: datetime
    provisional: bool = False
    detail: str = ""
    share: float | None = None
    low: float | None = None
    high: float | None = None
    k: float | None = None
    n: float | None = None
    transition_id: int | None = None
    withdrawn: bool = False  # it is ok only because the detector begins anew

    @property
    def key(self) -> Key:
        """Of the alert that it speaks of."""
        return self.signal, self.segment


@dataclass(frozen=True, slots=True)
class Stream:
    """What is known now of the stream behind an open alert."""

    newest: datetime  # its newest image, event time
    share: float | None = None  # of flagged images since the onset
    ended: bool = False  # its reference scores no more


def key_of(stream: str) -> Key:
    """The alert's key of a detector's stream: pooled, segment:NAME, histogram, histogram:NAME, low, ..."""
    signal, _, segment = stream.partition(":")
    return (_FRACTION if signal in {"pooled", "segment"} else signal), segment


def stream_of(key: Key) -> str:
    """The detector's stream of an alert's key."""
    signal, segment = key
    if signal == _FRACTION:
        return f"segment:{segment}" if segment else "pooled"
    return f"{signal}:{segment}" if segment else signal
