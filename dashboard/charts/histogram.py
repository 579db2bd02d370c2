"""The histogram: scores now over those of the reference. Pure."""

from collections.abc import Sequence
from itertools import pairwise

from dashboard.charts.axes import Spec, framed
from dashboard.style import Palette


def histogram(
    edges: Sequence[float],
    now: Sequence[float],
    normal: Sequence[float],
    threshold: float,
    palette: Palette,
    *,
    what: str,
    height: int = 170,
) -> Spec:
    """Scores now as a line with its flagged tail filled, over those of the reference in grey; shares of images."""
    rows = [
        {"a": left, "now": share, "normal": usual, "odd": (left + right) / 2 > threshold}
        for (left, right), share, usual in zip(pairwise(edges), now, normal, strict=True)
    ]
    x: Spec = {
        "field": "a",
        "type": "quantitative",
        "scale": {"domain": [edges[0], edges[-1]], "nice": False, "zero": False},
        "axis": {"title": "score in nats: more unusual to the right", "grid": False, "tickCount": 6},
    }
    y: Spec = {"type": "quantitative", "axis": {"title": None, "format": ".0%", "tickCount": 3}}
    return {
        **framed(palette, 0),
        "description": f"{what}: {sum(r['now'] for r in rows if r['odd']):.1%} beyond the threshold {threshold:.1f}.",
        "width": "container",
        "height": height,
        "data": {"values": rows},
        "layer": [
            {
                "mark": {"type": "area", "interpolate": "step-after", "color": palette.other, "opacity": 0.3},
                "encoding": {"x": x, "y": {**y, "field": "normal"}},
            },
            {
                "transform": [{"filter": "datum.odd"}],
                "mark": {"type": "area", "interpolate": "step-after", "color": palette.alarm, "opacity": 0.8},
                "encoding": {"x": x, "y": {**y, "field": "now"}},
            },
            {
                "mark": {"type": "line", "interpolate": "step-after", "color": palette.line, "strokeWidth": 2},
                "encoding": {"x": x, "y": {**y, "field": "now"}},
            },
            {
                "data": {"values": [{"at": threshold, "text": "unusual beyond"}]},
                "mark": {"type": "rule", "color": palette.ink, "strokeWidth": 1},
                "encoding": {"x": {"field": "at", "type": "quantitative"}},
            },
            {
                "data": {"values": [{"at": threshold, "text": "unusual →"}]},
                "mark": {"type": "text", "align": "left", "dx": 4, "dy": 6, "fontSize": 11, "color": palette.ink},
                "encoding": {
                    "x": {"field": "at", "type": "quantitative"},
                    "y": {"value": 0},
                    "text": {"field": "text"},
                },
            },
        ],
    }
