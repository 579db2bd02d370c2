"""Is the pipeline itself well? One rule a function, over what was read at one moment. Pure.

A rule says how it is and, where it is not well, since when, the value and the remedy; or nothing, where there is
nothing to go by: what is not known neither raises nor ends anything. What fires ends only well below the limit at
which it began.
"""

from datetime import datetime, timedelta

from pipeline.alerts.snapshot import Partition, Snapshot

_STUCK, _STUCK_ENDS = timedelta(minutes=10), timedelta(minutes=2)
_LATE, _LATE_ENDS = timedelta(minutes=15), timedelta(minutes=5)
_LOST, _LOST_ENDS = 0.001, 0.0005  # of all records: a ledger below 99.9 %
_DEAD, _DEAD_ENDS, _DEAD_LEAST = 0.01, 0.005, 20
_SKEWED, _SKEWED_ENDS, _SKEWED_LEAST = 0.05, 0.025, 20
_SILENT = timedelta(minutes=2)  # twelve heartbeats
_WARMING = timedelta(minutes=5)
_FREE, _FREE_MOST, _FREE_ENDS = 0.05, 10 * 2**30, 1.2
_LEFT_ENDS, _LEFT_ERROR = 1.25, 0.25  # of the headroom
_BEHIND, _BEHIND_ENDS = timedelta(minutes=10), timedelta(minutes=2)

#: State, since when, and why; None: there is nothing to go by.
Found = tuple[str, datetime, str] | None


def results(seen: Snapshot, firing: bool) -> Found:
    """Records wait, and nothing comes of them."""
    if not seen.partitions:
        return None
    limit = seen.pace * (_STUCK_ENDS if firing else _STUCK)
    stuck = [one for one in seen.partitions if one.waiting and seen.now - one.moved_at >= limit]
    if not stuck:
        return "ok", seen.now, "results come, or nothing waits"
    oldest = min(stuck, key=lambda one: one.moved_at)
    waiting = sum(one.waiting for one in stuck)
    return (
        "error",
        oldest.moved_at,
        f"no result from {oldest.name} for {_long(seen.now - oldest.moved_at)} while {waiting:,} records wait in"
        f" {len(stuck)} of {len(seen.partitions)} partitions: see what the workers say, `oodwatch health`, then their"
        " log",
    )


def lag(seen: Snapshot, firing: bool) -> Found:
    """Results come, of images that are old by then."""
    if not seen.partitions:
        return None
    limit = seen.pace * (_LATE_ENDS if firing else _LATE)
    moving = [one for one in seen.partitions if one.waiting and seen.now - one.moved_at < _STUCK * seen.pace]
    late = [one for one in moving if one.newest is not None and seen.now - one.newest >= limit]
    if not late:
        return "ok", seen.now, "what is scored is recent"
    oldest = min(one.newest for one in late if one.newest is not None)
    waiting = sum(one.waiting for one in late)
    rate = sum(one.images_per_second for one in seen.workers)
    pace = f", {_long(timedelta(seconds=waiting / rate))} of work at {rate:,.0f} images/s" if rate > 0 else ""
    return (
        "warning",
        seen.now,
        f"the images that are scored now are {_long(seen.now - oldest)} old and {waiting:,} wait{pace}: start more"
        " workers, up to one a partition, before the log's retention overtakes them",
    )


def retention(seen: Snapshot, firing: bool) -> Found:
    """Records that wait are about to be deleted by the log."""
    known = [(left, one) for one in seen.partitions if (left := one.left(seen.now)) is not None]
    if not known:
        return None
    limit = seen.headroom * (_LEFT_ENDS if firing else 1)
    close = [(left, one) for left, one in known if one.waiting and left < limit]
    if not close:
        return "ok", seen.now, "nothing that waits is about to be deleted"
    left, first = min(close, key=lambda one: one[0])
    return (
        "error" if left < seen.headroom * _LEFT_ERROR else "warning",
        seen.now,
        f"{_deadline(first, seen.now)}, {sum(one.waiting for _, one in close):,} wait in {len(close)} of"
        f" {len(seen.partitions)} partitions: let the log keep them for longer (retention.ms, retention.bytes), start"
        " more workers; what is deleted unread is never scored",
    )


def _deadline(partition: Partition, now: datetime) -> str:
    """When the log may delete what waits in a partition, in words."""
    if partition.kept is not None and partition.unread_since is not None:
        spare = partition.unread_since + partition.kept - now
        if partition.ahead is None or spare / partition.kept <= partition.ahead:
            when = f"in {_long(spare)}" if spare > timedelta(0) else "at any moment"
            return f"unread images of {partition.name} may be deleted {when}, as the log keeps {_long(partition.kept)}"
    return (
        f"only {partition.ahead or 0:.0%} of what the log holds of {partition.name}, which is limited by size, lie"
        " before its first unread image, and are deleted first"
    )


def ledger(seen: Snapshot, firing: bool) -> Found:
    """Records that were never read."""
    total = seen.scored + sum((seen.dead or {}).values()) + seen.lost
    if not total:
        return None
    share = seen.lost / total
    if share < (_LOST_ENDS if firing else _LOST):
        return "ok", seen.now, f"{1 - share:.3%} of the last hour's records were read"
    return (
        "error",
        seen.now,
        f"{seen.lost:,} of the last hour's {total:,} records ({share:.1%}) were never read, for the log no longer held"
        " them whole: keep it for longer, start more workers; `oodwatch ledger` shows where",
    )


def dead_letters(seen: Snapshot, firing: bool) -> Found:
    """Records that could not be scored."""
    if seen.dead is None:
        return None
    dead = sum(seen.dead.values())
    total = seen.scored + dead
    if not total:
        return None
    share = dead / total
    if share < (_DEAD_ENDS if firing else _DEAD) or (dead < _DEAD_LEAST and not firing):
        return "ok", seen.now, f"{share:.2%} of the last hour's records could not be scored"
    reason = max(seen.dead, key=lambda name: (seen.dead or {})[name])
    return (
        "warning",
        seen.now,
        f"{dead:,} of the last hour's {total:,} records ({share:.1%}) could not be scored, {seen.dead[reason]:,} of"
        f" them for {reason}: `oodwatch dead-letters` shows which; mend what produces them",
    )


def clocks(seen: Snapshot, firing: bool) -> Found:
    """Producers whose clock is wrong."""
    if not seen.skewed:
        return None
    limit = _SKEWED_ENDS if firing else _SKEWED
    bad = {
        name: late / n
        for name, (late, n) in seen.skewed.items()
        if n and late / n >= limit and (firing or late >= _SKEWED_LEAST)
    }
    if not bad:
        return "ok", seen.now, "images come with a usable time"
    name = max(bad, key=lambda one: bad[one])
    late, n = seen.skewed[name]
    return (
        "warning",
        seen.now,
        f"segment {name}: {late:,} of the last hour's {n:,} images ({late / n:.0%}) had no time that could be used, and"
        f" count when they came{_more(len(bad) - 1, 'segment')}: set the clocks of what produces them",
    )


def workers(seen: Snapshot, firing: bool) -> Found:
    """Workers that were killed and not replaced, or that all wait."""
    if not seen.workers:
        return None
    limit = seen.pace * (_SILENT / 2 if firing else _SILENT)
    warming = seen.pace * _WARMING
    silent = [one for one in seen.workers if seen.now - one.beat_at >= limit]
    alive = [one for one in seen.workers if seen.now - one.beat_at < limit]
    gone = sorted(silent, key=lambda one: one.beat_at)
    for _ in (one for one in alive if gone and one.started_at >= gone[0].beat_at):
        gone = gone[1:]  # each has come in place of one
    if gone:
        return (
            "error",
            gone[0].beat_at,
            f"worker {gone[0].name} has been silent for {_long(seen.now - gone[0].beat_at)}"
            f"{_more(len(gone) - 1, 'worker')}, {len(alive)} beat: see its log, start it again",
        )
    moved = max((one.moved_at for one in seen.partitions), default=None)
    still = moved is not None and seen.now - moved >= warming
    if still and not any(one.ready for one in alive) and all(seen.now - one.started_at >= warming for one in alive):
        assert moved is not None
        reasons = next((one.reasons for one in alive if one.reasons), ("no reason given",))
        return "error", moved, f"no worker is ready, {len(alive)} beat: {'; '.join(reasons)}"
    return "ok", seen.now, f"{len(alive)} workers beat"


def disk(seen: Snapshot, firing: bool) -> Found:
    """The database's disk fills up."""
    if seen.disk is None:
        return None
    needed = min(_FREE * seen.disk.total, _FREE_MOST) * (_FREE_ENDS if firing else 1)
    share = seen.disk.free / max(seen.disk.total, 1)
    told = f"{seen.disk.free / 2**30:,.1f} GiB ({share:.1%}) are free where {seen.disk.path} lies"
    if seen.disk.free >= needed:
        return "ok", seen.now, told
    return (
        "error",
        seen.now,
        f"{told}: make room, or keep less ([retention] days, [samples] max_samples); a full disk stops workers and"
        " monitor, and loses nothing",
    )


def judging(seen: Snapshot, firing: bool) -> Found:
    """Images are counted, and no detector judges them."""
    if seen.imaged is None:
        return None
    first, newest = seen.imaged
    since = seen.judged_until or first
    if newest - since < seen.pace * (_BEHIND_ENDS if firing else _BEHIND):
        return "ok", seen.now, "minutes are judged as they come"
    return (
        "error",
        since,
        f"no minute was judged since {since:%Y-%m-%dT%H:%MZ}, though images came until {newest:%Y-%m-%dT%H:%MZ}:"
        " nothing would be noticed; the monitor's log says why, `oodwatch baseline show` what it judges by",
    )


def model(seen: Snapshot, _firing: bool) -> Found:
    """Scores that cannot be held against the reference."""
    if seen.mixed is not None:
        return "baseline_invalid", seen.now, seen.mixed
    return ("ok", seen.now, "one model, one reference") if seen.scored else None


def handover(seen: Snapshot, _firing: bool) -> Found:
    """Somebody has chosen a model, and workers do not take it."""
    if seen.refused is not None:
        since, workers, why = seen.refused
        return (
            "error",
            since,
            f"{workers} worker{'s' * (workers > 1)} refused the model that was chosen, and the former one still scores:"
            f" {why}; promote one that is whole, or `oodwatch models rollback`",
        )
    return ("ok", seen.now, "the model that was chosen scores") if seen.chosen else None


def _long(duration: timedelta) -> str:
    minutes = duration / timedelta(minutes=1)
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 72 * 60 else f"{minutes / 1440:.0f} days"


def _more(count: int, what: str) -> str:
    return f", and {count} more {what}{'s' * (count > 1)}" if count else ""
