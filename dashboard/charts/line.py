"""The line: the share of flagged images over time. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dashboard.charts.axes import MARGINS, RIGHT, Spec, anchor, framed, ground, plain, x_axis, y_axis
from dashboard.style import Palette
from dashboard.windows import Window, to_ms

_LABEL_PX = 15


@dataclass(frozen=True, slots=True)
class Point:
    """One bucket of the line; shares of flagged images."""

    start: int  # ms
    end: int
    share: float | None
    low: float | None  # of its lowest tick
    high: float | None
    of_all: float | None  # of all traffic
    calm_low: float  # what is normal
    calm_high: float
    n: int
    hollow: bool  # too few images, or not complete
    when: str


@dataclass(frozen=True, slots=True)
class Labels:
    """What stands at the right edge of the line."""

    name: str
    all_traffic: str | None  # None: the line is that of all traffic
    normal: str


def line(
    points: Sequence[Point],
    window: Window,
    palette: Palette,
    *,
    labels: Labels,
    levels: tuple[float, float],
    onset: int | None,
    until: int | None,
    marks: Sequence[tuple[int, str]],
    utc: bool,
    began: str = "began",
    height: int = 300,
    margins: tuple[int, int] = MARGINS,
) -> Spec:
    """Share of flagged images over time: normal as a band, limits labelled at the edge, the onset shaded."""
    top = _top(points, levels[0])
    shown = [one for one in points if one.share is not None]
    layers: list[Spec] = [ground(window, utc)]
    if onset is not None:
        layers.append(
            {
                "data": {"values": [{"a": onset, "b": until or to_ms(window.end)}]},
                "mark": {"type": "rect", "color": palette.alarm, "opacity": 0.09},
                "encoding": {"x": x_axis("a"), "x2": {"field": "b"}},
            }
        )
    layers += [
        _area("calm_low", "calm_high", palette.other, 0.22, top),
        _area("low", "high", palette.line, 0.2, top),
    ]
    layers += [
        _limit(name, level, palette)
        for name, level in zip(("warning", "critical"), levels, strict=True)
        if level <= top
    ]
    if labels.all_traffic is not None:
        layers.append(_step("of_all", palette.other, 1.2, top))
    layers.append(_step("share", palette.line, 2.2, top))
    layers.append(
        {
            "transform": [{"filter": "datum.hollow && isValid(datum.share)"}],
            "mark": {
                "type": "point",
                "filled": False,
                "color": palette.line,
                "size": 22,
                "strokeWidth": 1.2,
                "aria": False,
            },
            "encoding": {"x": x_axis("middle"), "y": y_axis("share", top)},
        }
    )
    layers.append(_hover())
    if onset is not None:
        layers.append(_flag(onset, began, palette.alarm, window, 0))
    layers += [_flag(at, text, palette.soft, window, 12) for at, text in marks]
    layers += [_edge(_edge_labels(shown, labels, levels, top, height), palette), anchor()] if margins[1] else []
    what = labels.name
    last = f", {100 * (shown[-1].share or 0):.1f} % now" if shown else ", no image"
    return {
        **framed(palette, margins[0]),
        "description": f"Share of unusual images over time, {what}{last}; {labels.normal}.",
        "height": height,
        "width": "container",
        "data": {"values": [plain(one) for one in points]},
        "layer": layers,
    }


def spread(at: Sequence[float], gap: float) -> list[float]:
    """The places moved apart as little as keeps their order and `gap` between neighbours, the lowest first."""
    order = sorted(range(len(at)), key=lambda i: at[i])
    moved = list(at)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + gap)
    return moved


def _top(points: Sequence[Point], warning: float) -> float:
    highest = max([one.share for one in points if one.share is not None and not one.hollow], default=0.0)
    band = max([one.high for one in points if one.high is not None and not one.hollow], default=0.0)
    return max(1.25 * warning, 1.12 * highest, min(band, 1.6 * highest, 1.0))


def _area(low: str, high: str, colour: str, opacity: float, top: float) -> Spec:
    return {
        "mark": {"type": "area", "interpolate": "step-after", "color": colour, "opacity": opacity},
        "encoding": {"x": x_axis("start"), "y": y_axis(low, top), "y2": {"field": high}},
    }


def _step(field: str, colour: str, width: float, top: float) -> Spec:
    return {
        "mark": {"type": "line", "interpolate": "step-after", "color": colour, "strokeWidth": width},
        "encoding": {"x": x_axis("start"), "y": y_axis(field, top)},
    }


def _limit(name: str, level: float, palette: Palette) -> Spec:
    dash = [2, 3] if name == "warning" else [7, 3]
    return {
        "data": {"values": [{"level": level}]},
        "mark": {"type": "rule", "color": palette.soft, "strokeDash": dash, "strokeWidth": 1},
        "encoding": {"y": {"field": "level", "type": "quantitative"}},
    }


def _hover() -> Spec:
    return {
        "transform": [{"filter": "isValid(datum.share)"}],
        "mark": {"type": "rule", "opacity": 0, "strokeWidth": 6},
        "encoding": {
            "x": x_axis("middle"),
            "tooltip": [
                {"field": "when", "title": "from"},
                {"field": "share", "title": "unusual", "format": ".1%"},
                {"field": "low", "title": "lowest", "format": ".1%"},
                {"field": "high", "title": "highest", "format": ".1%"},
                {"field": "n", "title": "images", "type": "quantitative"},
            ],
        },
    }


def _flag(at: int, text: str, colour: str, window: Window, drop: int) -> Spec:
    right = at > to_ms(window.start) + 0.93 * (to_ms(window.end) - to_ms(window.start))
    x = x_axis("a")
    rule: Spec = {"mark": {"type": "rule", "color": colour, "strokeWidth": 1}, "encoding": {"x": x}}
    return {
        "data": {"values": [{"a": at, "text": text}]},
        "layer": [
            rule,
            {
                "mark": {
                    "type": "text",
                    "align": "right" if right or drop else "left",
                    "dx": -5 if right or drop else 5,
                    "dy": 7 + drop,
                    "fontSize": 11,
                    "color": colour,
                    "limit": 160,
                },
                "encoding": {"x": x, "y": {"value": 0}, "text": {"field": "text"}},
            },
        ],
    }


def _edge_labels(
    shown: Sequence[Point], labels: Labels, levels: tuple[float, float], top: float, height: int
) -> list[dict[str, Any]]:
    found: list[tuple[float, str, str]] = []
    if shown:
        last = shown[-1]
        found.append((min(last.share or 0.0, top), labels.name, "line"))
        if labels.all_traffic is not None and last.of_all is not None:
            found.append((min(last.of_all, top), labels.all_traffic, "other"))
        found.append(((last.calm_low + last.calm_high) / 2, labels.normal, "other"))
    found += [
        (level, f"{name} {100 * level:.0f} %", "soft")
        for name, level in zip(("warning", "critical"), levels, strict=True)
        if level <= top
    ]
    places = spread([at for at, _, _ in found], _LABEL_PX * top / height)
    return [{"at": at, "text": text, "of": of} for at, (_, text, of) in zip(places, found, strict=True)]


def _edge(values: list[dict[str, Any]], palette: Palette) -> Spec:
    colours = {"line": palette.line, "other": palette.soft, "soft": palette.soft}
    return {
        "data": {"values": values},
        "mark": {"type": "text", "align": "left", "dx": 7, "fontSize": 12, "limit": RIGHT - 8},
        "encoding": {
            "x": {"value": "width"},
            "y": {"field": "at", "type": "quantitative"},
            "text": {"field": "text"},
            "color": {
                "field": "of",
                "type": "nominal",
                "scale": {"domain": list(colours), "range": list(colours.values())},
                "legend": None,
            },
        },
    }
