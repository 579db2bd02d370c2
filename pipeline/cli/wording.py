"""Changes of state in words, for whoever is on call."""

import re
from datetime import datetime

from pipeline.shift.verdict import BEGINS_ANEW, REPLACED, StreamVerdict

_SIGNALS = {
    "pooled": "all traffic",
    "histogram": "score histogram",
    "low": "low side",
    "classes": "class mix",
    "rate": "traffic rate",
}
_LEVELS = ("no_data", "ok", "shift", "warning", "critical")
_ENDS = {
    BEGINS_ANEW: "the detector begins anew, with another baseline or other settings",
    REPLACED: "its reference scores no more",
}
_HISTOGRAM_BET = re.compile(r"Beta\((\S+), (\S+)\)")


def change_in_words(tick: datetime, verdict: StreamVerdict, *, provisional: bool = False) -> str:
    """One line of a verdict that changed a state: when, which stream, from and to, since when, share, evidence."""
    change = verdict.transition
    assert change is not None
    told = [f"{tick:%Y-%m-%d %H:%MZ} {stream_in_words(verdict.stream)}: {change.before} → {change.after}"]
    ends = [_ENDS[change.leading]] if change.leading in _ENDS else []
    since = None if verdict.onset is None else f"since {_short(verdict.onset, tick)}"
    if verdict.stream == "silence":
        expected = f", at least {verdict.log_evidence:.0f} were to be expected" if change.after != "ok" else ""
        return ", ".join([*told, *(ends or [f"no image {since}{expected}"])])
    if verdict.share is not None and verdict.low is not None and verdict.high is not None:
        told.append(
            f"{verdict.share:.1%} flagged {since} ({change.k:g} of {change.n:g} images;"
            f" 95 %: {verdict.low:.1%} to {verdict.high:.1%})"
        )
    elif since is not None:
        told.append(since)
    if _LEVELS.index(change.after) < _LEVELS.index(change.before):
        return ", ".join([*told, *ends])  # what led up is no evidence for the way back
    told.append(f"evidence {verdict.log_evidence:.1f} nats")
    if (bet := _bet(verdict.stream, change.leading)) is not None:
        told.append(f"best explained by {bet}")
    if provisional:
        told.append("provisional: no accepted traffic tells yet how much normal traffic varies")
    return ", ".join(told)


def stream_in_words(stream: str) -> str:
    """A detector's stream, as people call it."""
    signal, _, segment = stream.partition(":")
    if signal == "segment":
        return f"segment {segment}"
    return f"{_SIGNALS.get(signal, signal)} of segment {segment}" if segment else _SIGNALS.get(signal, signal)


def _bet(stream: str, leading: str) -> str | None:
    """What the stream bet on, where that tells more than its name."""
    signal = stream.partition(":")[0]
    if signal == "histogram":
        shape = _HISTOGRAM_BET.fullmatch(leading)
        return f"many scores alike ({leading})" if shape is None else _tilt(float(shape[1]), float(shape[2]))
    return leading if signal in {"classes", "coverage", "rate"} else None


def _tilt(a: float, b: float) -> str:
    """In words where the density of Beta(a, b) is highest; scores rise with the argument."""
    if a != b:
        return "higher scores" if a > b else "lower scores"
    return "scores nearer to the middle" if a > 1 else "scores nearer to both ends"


def _short(at: datetime, tick: datetime) -> str:
    return f"{at:%H:%MZ}" if at.date() == tick.date() else f"{at:%Y-%m-%d %H:%MZ}"
