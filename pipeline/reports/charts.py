"""Curves and histograms as inline SVG."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from pipeline.records import Float64s
from pipeline.reports.page import colour

_W, _H = 320.0, 190.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 6.0, 8.0, 32.0


def curves(by_score: Mapping[str, Float64s]) -> str:
    """ROC curves: x = OOD that passes, y = ID that is kept, each (points, 2); 95 % is marked."""
    parts = [_frame([0, 0.25, 0.5, 0.75, 1], "OOD that passes"), _level(0.95)]
    for name, points in by_score.items():
        path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" style="{colour(name)};stroke:var(--of)" stroke-width="1.8"/>'
        )
    parts += [_y_label(share) for share in (0.0, 0.5, 1.0)]
    return _svg("ROC curves: " + ", ".join(by_score), parts)


def histograms(edges: Float64s, ids: Float64s, oods: Float64s, threshold: float, unit: str) -> str:
    """ID and OOD over the score; `threshold` as a line. The two open end bins are left out."""
    low, high = float(edges[0]), float(edges[-1])
    top = float(max(ids[1:-1].max(), oods[1:-1].max(), 1e-9))
    ticks = _ticks(low, high)
    parts = [_frame([(tick - low) / (high - low) for tick in ticks], unit, [f"{tick:g}" for tick in ticks])]
    for shares, name in ((ids, "id"), (oods, "ood")):
        parts.append(_steps(shares[1:-1] / top, f"var(--{name})"))
    if low <= threshold <= high:
        at = _x((threshold - low) / (high - low))
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_H - _BOTTOM}" stroke="var(--ink)"'
            ' stroke-dasharray="3 3"/>'
        )
    return _svg(f"histograms of {unit}", parts)


def _steps(heights: Float64s, fill: str) -> str:
    xs = np.linspace(0, 1, len(heights) + 1)
    points = [(0.0, 0.0)]
    for i, height in enumerate(heights.tolist()):
        points += [(float(xs[i]), height), (float(xs[i + 1]), height)]
    points.append((1.0, 0.0))
    path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return f'<polygon points="{path}" fill="{fill}" fill-opacity=".45" stroke="{fill}" stroke-width="1.2"/>'


def _frame(ticks: Sequence[float], label: str, texts: Sequence[str] | None = None) -> str:
    named = texts or [f"{tick:.0%}".replace("%", " %") for tick in ticks]
    base = _H - _BOTTOM
    marks = "".join(
        f'<text x="{_x(tick):.1f}" y="{base + 14}" text-anchor="middle">{escape(text)}</text>'
        for tick, text in zip(ticks, named, strict=True)
    )
    return (
        f'<line x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{base}" y2="{base}" stroke="var(--line)"/>{marks}'
        f'<text x="{(_LEFT + _W - _RIGHT) / 2}" y="{_H - 3}" text-anchor="middle">{escape(label)}</text>'
    )


def _level(share: float) -> str:
    at = _y(share)
    return (
        f'<line x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="var(--soft)"'
        ' stroke-dasharray="2 4"/>'
    )


def _y_label(share: float) -> str:
    return f'<text x="{_LEFT - 5}" y="{_y(share) + 4:.1f}" text-anchor="end">{100 * share:.0f} %</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers."""
    span = high - low
    step = 10 ** np.floor(np.log10(span))
    step = next(size for size in (step, step / 2, step / 5) if span / size >= 4)
    first = np.ceil(low / step)
    return [float(round((first + i) * step, 10)) for i in range(int(np.floor(high / step) - first) + 1)]


def _svg(title: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_W:g} {_H:g}" role="img"><title>{escape(title)}</title>{"".join(parts)}</svg>'


def _x(share: float) -> float:
    return _LEFT + share * (_W - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _H - _BOTTOM - share * (_H - _TOP - _BOTTOM)
