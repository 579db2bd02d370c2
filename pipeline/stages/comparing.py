"""Two windows of stored ticks, before an onset and since: what differs, and in which segments."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import Connection

from pipeline.alerts.answer import Attribution
from pipeline.alerts.attribution import Counted, attribute, is_significant, normal_share
from pipeline.alerts.profile import Profile, distance, moves
from pipeline.records import Reference
from pipeline.shift.baseline import Baseline
from pipeline.shift.covering import cover
from pipeline.shift.folding import POOLED
from pipeline.shift.histogram import expected_shares
from pipeline.shift.hours import hour_of
from pipeline.storage.evidence import SegmentSums, merged_ticks, segment_sums
from pipeline.storage.monitoring import made_levels
from pipeline.storage.ticks import first_start

_BACK_HOURS = (2, 6, 24)  # before the onset: the first of these with enough images
_ENOUGH = 1_000
_CLOSELY = 50  # segments
_LARGEST = 3
_MINUTE = timedelta(minutes=1)
#: From here on a segment has changed.
_REPEATS, _SCORES, _LOOKS = 0.1, 0.12, 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """[before_start, onset) and [onset, end). Flags, classes and scores are those of one reference."""

    before_start: datetime
    references: tuple[int, ...]  # that scored in either
    all: Counted  # since the onset, all traffic
    parts: Mapping[str, Counted]  # the same by segment
    before: Mapping[str, Profile]  # of the segments that were looked at closely
    now: Mapping[str, Profile]
    all_before: Profile
    all_now: Profile
    rate_before: float  # images a minute, whichever reference scored them
    rate_now: float

    @property
    def n(self) -> float:
        """Images since the onset."""
        return self.all.n

    @property
    def largest(self) -> list[str]:
        """The segments with most images since the onset."""
        return sorted(self.parts, key=lambda name: (-self.parts[name].n, name))[:_LARGEST]

    def profiles(self, names: Collection[str]) -> tuple[Profile, Profile]:
        """(before, now) of these segments together; of all traffic where none is named."""
        if not names:
            return self.all_before, self.all_now
        before = now = Profile.empty(len(self.all_now.class_counts))
        for name in names:
            before, now = before + self.before[name], now + self.now[name]
        return before, now

    def normal_of(self, names: Collection[str]) -> float:
        """The flagged share that is normal for these segments together, weighted by their images now."""
        n = sum(self.parts[name].n for name in names)
        return sum(self.parts[name].n * self.parts[name].q for name in names) / n if n else self.all.q


def compare(
    conn: Connection,
    deployment_id: int,
    reference: Reference,
    baseline: Baseline | None,
    accepted: float | None,
    onset: datetime,
    end: datetime,
    names: Mapping[int, str],
    segment: str = "",
) -> Windows:
    """What is stored of both windows; `segment`, where one is named, is always looked at closely.

    `accepted` is the flagged share that a person called normal, if one did.
    """
    assert reference.id is not None
    made = made_levels(conn, deployment_id)
    for hours in _BACK_HOURS:
        before_start = onset - timedelta(hours=hours)
        earlier = cover(before_start, onset, made)
        sums_before = segment_sums(conn, deployment_id, earlier)
        if _images(sums_before) >= _ENOUGH:
            break
    before_start = max(before_start, first_start(conn, deployment_id, 1, from_=before_start) or before_start)
    since = cover(onset, end, made)
    sums_now = segment_sums(conn, deployment_id, since)
    mine_before, mine_now = sums_before.get(reference.id, {}), sums_now.get(reference.id, {})
    pooled = mine_before.get(POOLED, SegmentSums(0, 0, 0))
    q_all = normal_share(pooled.flags, pooled.n, reference.target_fpr) if accepted is None else accepted
    parts = _parts(mine_before, mine_now, q_all, names, baseline, onset)
    close = _closely(parts, names, segment)
    contents_now = merged_ticks(conn, deployment_id, reference.id, [POOLED, *close], since)
    contents_before = {
        key: merged_ticks(conn, deployment_id, key, [POOLED, *close], earlier) for key in sorted(sums_before)
    }
    classes = len(reference.classes)

    def before_of(segment: int) -> Profile:
        own = contents_before.get(reference.id or 0, {}).get(segment)
        if own is not None:
            return Profile.of(own)
        others = [found[segment] for found in contents_before.values() if segment in found]
        return _stand_in(reference, [Profile.of(one) for one in others], q_all)

    def now_of(segment: int) -> Profile:
        found = contents_now.get(segment)
        return Profile.empty(classes) if found is None else Profile.of(found)

    total = mine_now.get(POOLED, SegmentSums(0, 0, 0))
    return Windows(
        before_start=before_start,
        references=tuple(sorted({*sums_before, *sums_now})),
        all=Counted(total.n, total.flags, q_all),
        parts=parts,
        before={names[key]: before_of(key) for key in close},
        now={names[key]: now_of(key) for key in close},
        all_before=before_of(POOLED),
        all_now=now_of(POOLED),
        rate_before=_images(sums_before) / max((onset - before_start) / _MINUTE, 1.0),
        rate_now=_images(sums_now) / max((end - onset) / _MINUTE, 1.0),
    )


def changed_segments(windows: Windows, d: float) -> list[str]:
    """Segments that differ from before, those with the largest excess of flags first.

    Flags beyond chance; or a tenth more repeats; or scores 0.12 apart; or a fifth of the images that look otherwise.
    """
    changed = [name for name in windows.now if _has_changed(windows, name, d)]
    return sorted(changed, key=lambda name: (-windows.parts[name].excess, name))


def shared_out(windows: Windows, classes: Sequence[str], d: float, segment: str = "") -> Attribution:
    """The excess of flagged images by segment and class.

    Where flags are no more than chance, images that repeat, and else images whose scores moved, by segment. With a
    `segment`, what it stands out by comes first, and it is named.
    """
    flagged = {name for name, part in windows.parts.items() if is_significant(part, d)}
    repeats = {name: _repeats(windows, name) for name in windows.now}
    repeating = {name for name, part in repeats.items() if part.excess > _REPEATS * part.n}
    apart = {name: distance(windows.before[name].histogram, now.histogram, d) for name, now in windows.now.items()}
    moved = {
        name: Counted(now.n, now.n * apart[name], 0.0) for name, now in windows.now.items() if apart[name] > _SCORES
    }
    by_flags = bool(flagged) or is_significant(windows.all, d)
    if segment not in flagged and segment in {*repeating, *moved}:
        by_flags = False
        repeating &= {segment}
    if by_flags:
        of_classes = attribute(_classes(windows, classes), d)
        return Attribution("flagged images above normal", attribute(windows.parts, d, named=segment), of_classes)
    if repeating:
        return Attribution("images that repeat the one before", attribute(repeats, d, named=segment), ())
    return Attribution("images whose scores moved", attribute(moved, d, named=segment), ())


def _has_changed(windows: Windows, name: str, d: float) -> bool:
    before, now = windows.before[name], windows.now[name]
    if not now.n:
        return False
    return (
        is_significant(windows.parts[name], d)
        or now.repeat_share - before.repeat_share > _REPEATS
        or distance(before.histogram, now.histogram, d) > _SCORES
        or max(move.moved for move in moves(before, now, d).values()) > _LOOKS
    )


def _repeats(windows: Windows, name: str) -> Counted:
    now = windows.now[name]
    return Counted(now.n, now.repeats, windows.before[name].repeat_share)


def _classes(windows: Windows, classes: Sequence[str]) -> dict[str, Counted]:
    """By predicted class: flagged images of it, against how many a normal image of all traffic brings."""
    before, now = windows.all_before, windows.all_now
    normal = before.class_flags / before.n if before.n else np.zeros(len(classes))
    return {
        name: Counted(float(now.n), float(k), float(q))
        for name, k, q in zip(classes, now.class_flags, normal, strict=True)
    }


def _parts(
    before: Mapping[int, SegmentSums],
    now: Mapping[int, SegmentSums],
    q_all: float,
    names: Mapping[int, str],
    baseline: Baseline | None,
    onset: datetime,
) -> dict[str, Counted]:
    """Each segment with its own normal: as before the onset, but not above what was accepted for that hour."""
    _, hour = hour_of(onset)
    parts = {}
    for key, sums in now.items():
        if key == POOLED:
            continue
        earlier = before.get(key, SegmentSums(0, 0, 0))
        q = normal_share(earlier.flags, earlier.n, q_all)
        own = None if baseline is None else baseline.of(names[key])
        if own is not None and own.high[hour] > 0:
            q = min(q, float(own.high[hour]))
        parts[names[key]] = Counted(sums.n, sums.flags, q)
    return parts


def _closely(parts: Mapping[str, Counted], names: Mapping[int, str], first: str) -> list[int]:
    """Keys of the segments that are looked at: `first`, those with the largest excess, then with most images."""
    keys = {name: key for key, name in names.items()}
    order = sorted(parts, key=lambda name: (name != first, -max(parts[name].excess, 0.0), -parts[name].n, name))
    return sorted(keys[name] for name in order[:_CLOSELY])


def _stand_in(reference: Reference, others: Sequence[Profile], q: float) -> Profile:
    """Before the reference scored: images as others saw them, scores and classes as calibrated."""
    looks = Profile.empty(0)
    for other in others:
        looks = looks + Profile(
            other.n, 0, other.repeats, np.zeros(0), np.zeros(0), np.zeros_like(other.histogram), other.properties
        )
    n = looks.n or float(reference.n)
    counts = reference.class_counts / max(reference.class_counts.sum(), 1)
    return Profile(
        n=n,
        flags=q * n,
        repeats=looks.repeats,
        class_counts=n * counts if reference.representative else np.zeros(len(counts)),
        class_flags=q * n * counts,
        histogram=n * expected_shares(reference.n),
        properties=looks.properties,
    )


def _images(sums: Mapping[int, Mapping[int, SegmentSums]]) -> int:
    """Of all references together."""
    return sum(of[POOLED].n for of in sums.values() if POOLED in of)
