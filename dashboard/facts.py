"""What the stored figures mean for whoever was woken up: can they be trusted, what is wrong, where. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pipeline.alerts.precision import Raised
from pipeline.shift.folding import POOLED
from pipeline.storage.incident_pages import AlertLine, IncidentLine, VerdictLine
from pipeline.storage.incidents import EventLine
from pipeline.storage.processes import Process
from pipeline.storage.series import Totals
from pipeline.storage.streams import LedgerLine

Severity = Literal["ok", "shift", "warning", "critical", "error", "unknown"]

_RANKS = {"shift": 1, "warning": 2, "error": 3, "baseline_invalid": 3, "critical": 4}
_NORMAL_WEIGHT = 200  # images of all traffic that a segment's own normal share is drawn towards

#: Below, a share says next to nothing.
FEW = 30

#: Signals in the order of the page's foot, and what they are called.
SIGNALS: Mapping[str, str] = {
    "fraction": "unusual images",
    "histogram": "score histogram",
    "low": "low scores",
    "classes": "class mix",
    "coverage": "coverage",
    "rate": "traffic",
    "silence": "silence",
}


@dataclass(frozen=True, slots=True)
class Trust:
    """Whether the figures can be believed."""

    data_to: datetime | None  # event time of the newest image
    age: timedelta | None
    stale: str | None  # why the figures are old, in words
    scored: float | None  # of the records that were read and should have been scored
    waiting: int
    workers: int
    silent: int
    reservations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Excess:
    """A segment's flagged images beyond its own normal."""

    segment: str
    n: int
    flags: int
    normal: float
    of_all: float  # share of the excess of all segments, 0..1

    @property
    def share(self) -> float | None:
        """Flagged now; None: no image."""
        return self.flags / self.n if self.n else None

    @property
    def images(self) -> float:
        """Flagged images that normal traffic would not have brought; at least 0."""
        return max(0.0, self.flags - self.normal * self.n)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The page's one sentence, and where it comes from."""

    severity: Severity
    onset: datetime | None
    segment: str | None  # None: all traffic
    more_segments: int  # that are raised as well
    signal: str
    provisional: bool
    incident: IncidentLine | None
    share: float | None
    low: float | None
    high: float | None


def raised(incident: IncidentLine) -> Raised:
    """Which images an incident is about."""
    return Raised.of(incident.onset, incident.resolved_at, (alert.segment for alert in incident.alerts))


def rank(state: str) -> int:
    """How bad a state is; 0: not at all."""
    return _RANKS.get(state, 0)


def trust(
    ledger: Iterable[LedgerLine],
    processes: Iterable[Process],
    newest: datetime | None,
    evaluated_until: datetime | None,
    *,
    now: datetime,
    stale_after: timedelta,
    silent_after: timedelta,
) -> Trust:
    """How old the newest image is, what was not scored, who is silent."""
    lines, running = list(ledger), list(processes)
    scored, missed = sum(line.scored for line in lines), sum(line.dead + line.expired for line in lines)
    waiting = sum(line.waiting for line in lines)
    workers = [one for one in running if one.role == "worker"]
    monitors = [one for one in running if one.role == "monitor"]
    silent = sum(now - one.beat_at > silent_after for one in workers)
    age = None if newest is None else now - newest
    said: list[str] = []
    if workers and silent:
        said.append(f"{silent} of {len(workers)} workers silent")
    if not workers:
        said.append("no worker runs")
    if not [one for one in monitors if now - one.beat_at <= silent_after]:
        said.append("no monitor runs: nothing is judged" if not monitors else "the monitor is silent")
    if missed and scored and missed / (scored + missed) > 0.01:
        said.append(f"{missed:,} images could not be scored")
    stale = None
    if age is not None and age > stale_after:
        stale = "No new image for"
    elif newest is not None and evaluated_until is not None and newest - evaluated_until > 2 * stale_after:
        stale = "Judged only up to"
    return Trust(
        newest, age, stale, scored / (scored + missed) if scored + missed else None, waiting, len(workers), silent,
        tuple(said),
    )  # fmt: skip


def excess(
    now: Mapping[int, Totals], before: Mapping[int, Totals], names: Mapping[int, str], floor: float
) -> list[Excess]:
    """Segments by the excess over their own normal, the largest first.

        normal_s = (k_s + w·q) / (n_s + w),   w = 200 images,   of what came before

    so that a new segment is held against all others. q is that of all traffic; of none, `floor`.
    """
    every = before.get(POOLED, Totals(0, 0))
    q = every.flags / every.n if every.n >= _NORMAL_WEIGHT else floor
    found = []
    for key, name in names.items():
        own, past = now.get(key, Totals(0, 0)), before.get(key, Totals(0, 0))
        normal = (past.flags + _NORMAL_WEIGHT * q) / (past.n + _NORMAL_WEIGHT)
        found.append(Excess(name, own.n, own.flags, normal, 0.0))
    whole = sum(one.images for one in found)
    shared = [Excess(one.segment, one.n, one.flags, one.normal, one.images / whole if whole else 0.0) for one in found]
    return sorted(shared, key=lambda one: (-one.images, -(one.share or 0.0), one.segment))


def leading(alerts: Sequence[AlertLine]) -> AlertLine | None:
    """The worst open alert, flagged shares and segments before the rest; of a closed incident the worst ever."""
    open_ones = [alert for alert in alerts if alert.resolved_at is None]

    def importance(alert: AlertLine) -> tuple[int, bool, bool, float]:
        state = alert.state if open_ones else alert.peak
        return rank(state), alert.signal == "fraction", bool(alert.segment), -alert.onset.timestamp()

    return max(open_ones or alerts, key=importance, default=None)


def worst(incidents: Iterable[IncidentLine]) -> IncidentLine | None:
    """The open incident that matters most: not provisional, of the images and not of the pipeline (the trust strip
    tells of that in any case), worst, nobody's, longest."""
    open_ones = [one for one in incidents if one.resolved_at is None]
    return max(
        open_ones,
        key=lambda one: (
            not one.provisional,
            one.kind == "shift",
            rank(one.state),
            one.handling == "open",
            -one.onset.timestamp(),
        ),
        default=None,
    )


def verdict_of_incident(incident: IncidentLine) -> Verdict:
    """What its alerts say."""
    lead = leading(incident.alerts)
    open_ones = [one for one in incident.alerts if one.resolved_at is None and one.segment]
    state = incident.state if incident.resolved_at is None else incident.peak
    segments = {one.segment for one in open_ones} - {lead.segment if lead else ""}
    return Verdict(
        severity=_severity(state),
        onset=incident.onset,
        segment=(lead.segment or None) if lead else None,
        more_segments=len(segments),
        signal=lead.signal if lead else "fraction",
        provisional=incident.provisional,
        incident=incident,
        share=lead.share if lead else None,
        low=lead.low if lead else None,
        high=lead.high if lead else None,
    )


def verdict_of_streams(verdicts: Sequence[VerdictLine]) -> Verdict:
    """What the detector says where no incident is open."""
    raised = [line for line in verdicts if rank(line.state)]
    lead = max(raised, key=lambda line: (rank(line.state), *_importance(line.stream)), default=None)
    if lead is None:
        return Verdict("ok", None, None, 0, "fraction", False, None, None, None, None)
    signal, segment = signal_of(lead.stream)
    segments = {found[1] for line in raised if (found := signal_of(line.stream))[1]} - {segment}
    return Verdict(
        _severity(lead.state), lead.onset, segment or None, len(segments), signal, lead.provisional, None, lead.share,
        lead.low, lead.high,
    )  # fmt: skip


def signal_of(stream: str) -> tuple[str, str]:
    """(signal, segment) of a stream of evidence; the segment is empty for all traffic."""
    name, _, segment = stream.partition(":")
    return {"pooled": "fraction", "segment": "fraction"}.get(name, name), segment


def newest_answer(events: Sequence[EventLine]) -> dict[str, Any]:
    """The last answer that was told; empty where none was."""
    return next((event.payload for event in reversed(events) if event.payload), {})


def _importance(stream: str) -> tuple[bool, bool]:
    signal, segment = signal_of(stream)
    return signal == "fraction", bool(segment)


def _severity(state: str) -> Severity:
    if state in ("shift", "warning", "critical", "ok"):
        return state  # type: ignore[return-value]
    return "error" if rank(state) else "ok"
