"""The day in one message: what is open, what came and went, how many images, whether all were seen. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any

from pipeline.alerts.incident import DIGEST, Incident, rank
from pipeline.alerts.plain import plain

#: What it looks back on.
DAY = timedelta(days=1)

_OPEN_SHOWN = 5
_ENDED_SHOWN = 3
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Digest:
    """What is stored of one deployment's day."""

    deployment: str
    model: str
    reference: str
    until: datetime  # the day's end
    incidents: Sequence[Incident]  # those that are open, and those that ended in that day
    images: int
    flagged: int
    normal: float  # share of flagged images
    dead: Mapping[str, int]  # dead letters by reason
    lost: int  # records that were never read
    waiting: int  # records, now

    @property
    def since(self) -> datetime:
        """The day's beginning."""
        return self.until - DAY

    @property
    def open(self) -> list[Incident]:
        """Worst first; those that page nobody are apart."""
        standing = [one for one in self.incidents if one.resolved_at is None and not one.provisional]
        return sorted(standing, key=lambda one: (-rank(one.state), one.onset))

    @property
    def raised(self) -> list[Incident]:
        """In which something was raised in that day, for good."""
        new = (one for one in self.incidents if any(self._within(alert.raised_at) for alert in one.alerts))
        return [one for one in new if not one.provisional]

    @property
    def ended(self) -> list[Incident]:
        """Newest first."""
        over = [one for one in self.incidents if not one.provisional and self._within(one.resolved_at)]
        return sorted(over, key=lambda one: one.resolved_at or self.since, reverse=True)

    @property
    def provisional(self) -> list[Incident]:
        """What was told to nobody, for too little is known of normal traffic."""
        return [one for one in self.incidents if one.provisional]

    def _within(self, at: datetime | None) -> bool:
        return at is not None and self.since <= at < self.until


def newest_due(at: time, now: datetime) -> datetime:
    """When the newest digest was to be told, at this time of each day, UTC."""
    today = datetime.combine(now.date(), at, now.tzinfo)
    return today if today <= now else today - DAY


def title(digest: Digest) -> str:
    """One line."""
    counts = f"{len(digest.open)} open, {len(digest.raised)} raised and {len(digest.ended)} resolved"
    return plain(f"DIGEST {digest.deployment} · the day until {_short(digest.until)}: {counts}", _LONGEST)


def lines(digest: Digest) -> list[str]:
    """The message, at most 15 lines."""
    return [plain(line, _LONGEST) for line in _lines(digest)]


def payload(digest: Digest, key: int, now: datetime) -> dict[str, Any]:
    """Webhook v1, as of something that is over; `digest` holds the message and its figures."""
    share = digest.flagged / digest.images if digest.images else None
    nothing = dict.fromkeys(
        ("alert", "from", "to", "segment", "warning", "critical", "n_effective", "onset", "matters", "trust", "why")
    )
    return {
        **nothing,
        "version": 1,
        "transition": None,
        "incident": key,
        "fingerprint": f"oodwatch/{digest.deployment[:200]}/{key}",
        "at": _iso(now),
        "kind": DIGEST,
        "who": "monitor",
        "severity": "info",
        "deployment": digest.deployment,
        "model": digest.model,
        "reference": digest.reference,
        "window": {"from": _iso(digest.since), "to": _iso(digest.until)},
        "unit": "share of images flagged",
        "value": share,
        "normal": digest.normal,
        "n": digest.images,
        "attribution": [],
        "cause": [],
        "links": {},
        "digest": {
            "title": title(digest),
            "lines": lines(digest),
            "open": [one.id for one in digest.open],
            "raised": [one.id for one in digest.raised],
            "resolved": [one.id for one in digest.ended],
            "provisional": [one.id for one in digest.provisional],
            "scored": digest.images,
            "dead": sum(digest.dead.values()),
            "lost": digest.lost,
            "waiting": digest.waiting,
        },
    }


def _lines(digest: Digest) -> Iterator[str]:
    if digest.images:
        share = digest.flagged / digest.images
        yield f"{digest.images:,} images, {share:.2%} unusual, normally {digest.normal:.2%}"
    else:
        yield "no image"
    yield _ledger(digest)
    counts = f"open now: {len(digest.open)}; raised in the day: {len(digest.raised)}"
    yield from _several(counts, digest.open, _OPEN_SHOWN, _standing)
    yield from _several(f"resolved: {len(digest.ended)}", digest.ended, _ENDED_SHOWN, _over)
    if digest.provisional:
        yield (
            f"provisional, told to nobody: {len(digest.provisional)}; until normal traffic is known,"
            " see `oodwatch baseline accept`"
        )


def _several(head: str, found: Sequence[Incident], most: int, say: Callable[[Incident], str]) -> Iterator[str]:
    yield head
    yield from (f"- {say(one)}" for one in found[:most])
    if len(found) > most:
        yield f"- and {len(found) - most} more: `oodwatch alerts --all`"


def _ledger(digest: Digest) -> str:
    dead = sum(digest.dead.values())
    total = digest.images + dead + digest.lost
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(digest.dead.items(), key=lambda one: -one[1]))
    said = [f"{dead:,} dead letters ({reasons})" if dead else "no dead letter", f"{digest.lost:,} never read"]
    if total:
        said.insert(0, f"{digest.images / total:.3%} of the records scored")
    return ", ".join([*said, f"{digest.waiting:,} wait now"])


def _standing(one: Incident) -> str:
    by = "" if one.handled_by is None else f" by {one.handled_by}"
    return f"{one.id}: {one.state} since {_short(one.onset)}, {_where(one)}, {one.handling}{by}"


def _over(one: Incident) -> str:
    assert one.resolved_at is not None
    return f"{one.id}: {one.peak} from {_short(one.onset)} to {_short(one.resolved_at)}, {_where(one)}"


def _where(one: Incident) -> str:
    """The worst of its alerts, and how many more there are."""
    alerts = one.open_alerts or one.alerts
    worst = max(alerts, key=lambda alert: (rank(alert.peak), bool(alert.segment)))
    more = f" and {len(alerts) - 1} more" if len(alerts) > 1 else ""
    return f"{worst.signal}{f' of {worst.segment}' if worst.segment else ''}{more}"


def _short(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%MZ}"


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
