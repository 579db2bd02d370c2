"""A value over time against its limits, as inline SVG. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

_W, _H = 960.0, 280.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 120.0, 26.0, 26.0
_TICKS = (5, 15, 30, 60, 180, 360, 720, 1440, 2880, 7200, 14400)  # minutes
_MOST_TICKS = 8
_LINE_PX = 14


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is drawn; steps without a value are gaps."""

    title: str
    window: tuple[datetime, datetime]
    step: timedelta
    points: Sequence[tuple[datetime, float]]
    limits: Sequence[tuple[str, float]]  # named levels, drawn where they fit
    normal: float | None
    wrong: tuple[datetime, datetime]  # from the onset on
    notes: Sequence[tuple[datetime, str]]  # what happened
    share: bool  # else a number


def timeline(drawn: Timeline) -> str:
    """The chart; every text is escaped."""
    top = _top(drawn)
    base = _H - _BOTTOM
    left, right = _x(drawn, drawn.wrong[0]), _x(drawn, drawn.wrong[1])
    parts = [
        f'<rect x="{left:.1f}" y="{_TOP}" width="{max(0.0, right - left):.1f}" height="{base - _TOP}"'
        ' fill="var(--ood)" fill-opacity=".1"/>',
        f'<line x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{base}" y2="{base}" stroke="var(--line)"/>',
        *_times(drawn),
        *_levels(drawn, top),
        f'<path d="{_path(drawn, top)}" fill="none" stroke="var(--energy)" stroke-width="2"/>',
        *_notes(drawn),
        f'<text x="{left + 4:.1f}" y="{_TOP + 10}">onset</text>',
    ]
    return f'<svg viewBox="0 0 {_W:g} {_H:g}" role="img"><title>{escape(drawn.title)}</title>{"".join(parts)}</svg>'


def _top(drawn: Timeline) -> float:
    highest = max((value for _, value in drawn.points), default=0.0)
    first = min((level for _, level in drawn.limits), default=0.0)
    top = max(1.15 * highest, 1.25 * first, 1.25 * (drawn.normal or 0.0)) or 1.0
    return min(top, 1.0) if drawn.share else top


def _path(drawn: Timeline, top: float) -> str:
    pieces, until = [], None
    for at, value in sorted(drawn.points):
        y = _y(min(value, top), top)
        x = _x(drawn, at)
        pieces.append(f"{'L' if at == until else 'M'}{x:.1f} {y:.1f}H{_x(drawn, at + drawn.step):.1f}")
        until = at + drawn.step
    return "".join(pieces)


def _times(drawn: Timeline) -> list[str]:
    start, end = drawn.window
    minutes = (end - start) / timedelta(minutes=1)
    every = next((one for one in _TICKS if minutes / one <= _MOST_TICKS), _TICKS[-1])
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    found = []
    at = midnight
    while at < end:
        if at >= start:
            text = f"{at.day} {at:%b}" if at.hour == at.minute == 0 or every >= 1440 else f"{at:%H:%M}"
            found.append(f'<text x="{_x(drawn, at):.1f}" y="{_H - 8}" text-anchor="middle">{text}</text>')
        at += timedelta(minutes=every)
    return found


def _levels(drawn: Timeline, top: float) -> list[str]:
    """Limits and what is normal, named at the right edge, moved apart where they would touch."""
    known = [(name, level, "3 3", "var(--warn)") for name, level in drawn.limits if level <= top]
    if drawn.normal is not None:
        known.append(("normal", drawn.normal, "1 4", "var(--soft)"))
    found, lowest = [], _H
    for name, level, dash, colour in sorted(known, key=lambda one: one[1]):
        y = _y(level, top)
        lowest = min(y + 4, lowest - _LINE_PX)
        found.append(
            f'<line x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}"'
            f' stroke-dasharray="{dash}"/>'
            f'<text x="{_W - _RIGHT + 6}" y="{lowest:.1f}">{escape(name)} {_value(drawn, level)}</text>'
        )
    ends = ((0.0, _H - _BOTTOM), (top, _TOP + 8))
    return found + [f'<text x="{_LEFT - 6}" y="{y}" text-anchor="end">{_value(drawn, v)}</text>' for v, y in ends]


def _notes(drawn: Timeline) -> list[str]:
    """What happened, at the top; of what would overlap, the first is named and the others are lines."""
    found, free = [], 0.0
    for at, text in sorted(drawn.notes):
        x = _x(drawn, at)
        found.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{_H - _BOTTOM}" stroke="var(--soft)"/>')
        if x >= free:
            found.append(f'<text x="{x + 3:.1f}" y="{_TOP - 10}">{escape(text[:40])}</text>')
            free = x + 10 + 6.2 * min(len(text), 40)
    return found


def _value(drawn: Timeline, value: float) -> str:
    return f"{100 * value:.3g} %" if drawn.share else f"{value:,.3g}"


def _x(drawn: Timeline, at: datetime) -> float:
    start, end = drawn.window
    share = (at - start) / (end - start)
    return _LEFT + min(max(share, 0.0), 1.0) * (_W - _LEFT - _RIGHT)


def _y(value: float, top: float) -> float:
    return _H - _BOTTOM - value / top * (_H - _TOP - _BOTTOM)
