"""What a process has told so far."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Told:
    """What has become of all attempts since the process began. Any thread may look."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)  # (channel, delivered | failed | given_up)
    renewals: Counter[tuple[str, str]] = field(default_factory=Counter)  # (channel, ok | failed)
    pings: Counter[str] = field(default_factory=lambda: Counter(ok=0, failed=0))
    waiting: Mapping[str, int] = field(default_factory=dict)  # by channel; empty while the database does not answer
