"""What a played scene must show, and tables of what it did show."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from tests.incident.scenes import MINUTE, Scene
from tests.incident.stage import Change, Played

_WITHIN = timedelta(minutes=10)
_ONSET_TICKS = 2
_LADDER = ("no_data", "ok", "shift", "warning", "critical")
_HEADINGS = ("min", "stream", "from", "to", "since min", "share", "95 %", "flags/images", "evidence", "best bet")


@dataclass(frozen=True)
class Check:
    """One thing that must hold, and what was found."""

    what: str
    found: str
    holds: bool


def minutes(scene: Scene, change: Change) -> float:
    """From the onset to the moment, in event time, at which a live monitor says so."""
    return (change.decided - scene.onset) / MINUTE


def checks(scene: Scene, played: Played) -> Iterator[Check]:
    """Of an incident in one segment."""
    (segment,) = scene.wrong.segments or ()
    stream = f"segment:{segment}"
    own = [change for change in played.changes if change.stream == stream]
    warned = next((change for change in own if change.after in {"warning", "critical"}), None)
    early = [change for change in played.changes if change.tick < scene.onset]
    yield Check("nothing raised before the onset", _names(early), not early)
    if warned is None:
        yield Check(f"{stream} reaches warning", "never", False)
        return
    after = warned.decided - scene.onset
    yield Check(f"{stream} at warning within 10 min", f"{after / MINUTE:g} min", after <= _WITHIN)
    assert warned.onset is not None
    off = (warned.onset - scene.onset) / MINUTE
    yield Check(f"its onset within {_ONSET_TICKS} ticks of the truth", f"{off:+g} min", abs(off) <= _ONSET_TICKS)
    evidence = {name: value for name, value in played.evidence.items() if name.startswith("segment:")}
    ranked = sorted(evidence, key=lambda name: -evidence[name])
    found = ", ".join(f"{name.removeprefix('segment:')} {evidence[name]:.1f}" for name in ranked[:2])
    yield Check(f"{segment} on top of all segments then", found, ranked[:1] == [stream])
    yield from _afterwards(scene, played, own)


def _afterwards(scene: Scene, played: Played, own: Sequence[Change]) -> Iterator[Check]:
    (segment,) = scene.wrong.segments or ()
    back = {change.stream: change for change in played.changes if change.after == "ok"}
    raised = {change.stream for change in played.changes if change.is_raise}
    end = own[-1]
    late = (end.decided - scene.relief) / MINUTE
    yield Check(f"{own[0].stream} back at ok", f"{late:g} min after the end", end.after == "ok")
    open_still = sorted(raised - back.keys())
    yield Check("every raised stream back at ok", ", ".join(open_still) or "all", not open_still)
    # What holds the incident's images may be raised while it lasts; nothing else may, and nothing afterwards.
    explained = {"pooled", "histogram", "low", "classes", f"segment:{segment}", f"histogram:{segment}"}
    others = [
        change
        for change in played.changes
        if change.is_raise and (change.stream not in explained or change.tick >= scene.relief)
    ]
    yield Check("nothing raised that it does not explain", _names(others), not others)


def changes_table(scene: Scene, played: Played) -> str:
    """Every transition; minutes count from the onset, at the moment of the decision."""
    rows = [_HEADINGS, *(_row(scene, change) for change in played.changes)]
    return table(rows)


def found_by(scene: Scene, played: Played) -> str:
    """Each stream that was raised: how far up, and when first; segments that did the same together."""
    firsts: dict[str, Change] = {}
    tops: dict[str, str] = {}
    for change in played.changes:
        if change.is_raise:
            firsts.setdefault(change.stream, change)
            tops[change.stream] = max(tops.get(change.stream, "ok"), change.after, key=_LADDER.index)
    together: dict[tuple[float, str, str], list[str]] = {}
    for stream, first in firsts.items():
        signal, _, segment = stream.partition(":")
        together.setdefault((minutes(scene, first), signal, tops[stream]), []).append(segment)
    told = []
    for (after, signal, top), segments in sorted(together.items()):
        if "" in segments:
            told.append(f"{signal} {top} {after:g}")
        named = [segment for segment in segments if segment]
        if named:
            told.append(
                f"{signal} of {'all' if len(named) == len(scene.segments) else ' '.join(named)} {top} {after:g}"
            )
    return ", ".join(told)


def first_found(scene: Scene, played: Played) -> str:
    """Minutes from the onset to the first raise, of whatever stream."""
    raises = [minutes(scene, change) for change in played.changes if change.is_raise and change.tick >= scene.onset]
    return f"{min(raises):g}" if raises else "not found"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first row above a line."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * sum(widths, 2 * (len(widths) - 1)), *lines[1:]])


def _row(scene: Scene, change: Change) -> tuple[str, ...]:
    share = interval = counts = since = ""
    if change.onset is not None:
        since = f"{(change.onset - scene.onset) / MINUTE:+g}"
    if change.share is not None and change.low is not None and change.high is not None:
        share, interval = f"{change.share:.1%}", f"{change.low:.1%}..{change.high:.1%}"
        counts = f"{change.k:g}/{change.n:g}"
    evidence = f"{change.log_evidence:.1f}" if math.isfinite(change.log_evidence) else ""
    return (
        f"{minutes(scene, change):+g}",
        change.stream,
        change.before,
        change.after,
        since,
        share,
        interval,
        counts,
        evidence,
        change.leading,
    )


def _names(changes: Sequence[Change]) -> str:
    return ", ".join(f"{change.stream} → {change.after} at {change.tick:%H:%M}" for change in changes) or "nothing"
