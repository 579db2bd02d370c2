"""Charts as Vega-Lite specifications: dictionaries, which cost a server next to nothing. Pure.

Times are milliseconds since 1970 on a UTC scale (or the browser's own, where a reader wants that): Vega would
otherwise show the browser's zone. Lists of rows go inline; no chart has more than 320 of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dashboard.style import Palette
from dashboard.windows import Window, to_ms

Spec = dict[str, Any]

#: Plot areas of charts above one another begin and end alike.
MARGINS = _LEFT, _RIGHT = 104, 128
_LABEL_PX = 15
_ROW_PX = 24


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
class Cell:
    """One bucket of a segment in the strip."""

    row: str
    start: int
    end: int
    excess: float
    share: float
    n: int
    when: str


@dataclass(frozen=True, slots=True)
class Row:
    """A segment in the strip, now and normally."""

    name: str
    now: str
    normal: str
    alarming: bool


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
    margins: tuple[int, int] = (_LEFT, _RIGHT),
) -> Spec:
    """Share of flagged images over time: normal as a band, limits labelled at the edge, the onset shaded."""
    top = _top(points, levels[0])
    shown = [one for one in points if one.share is not None]
    layers: list[Spec] = [_ground(window, utc)]
    if onset is not None:
        layers.append(
            {
                "data": {"values": [{"a": onset, "b": until or to_ms(window.end)}]},
                "mark": {"type": "rect", "color": palette.alarm, "opacity": 0.09},
                "encoding": {"x": _x("a"), "x2": {"field": "b"}},
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
            "mark": {"type": "point", "filled": False, "color": palette.line, "size": 22, "strokeWidth": 1.2},
            "encoding": {"x": _x("middle"), "y": _y("share", top)},
        }
    )
    layers.append(_hover())
    if onset is not None:
        layers.append(_flag(onset, began, palette.alarm, window, 0))
    layers += [_flag(at, text, palette.soft, window, 12) for at, text in marks]
    layers += [_edge(_edge_labels(shown, labels, levels, top, height), palette), _anchor()] if margins[1] else []
    what = labels.name
    last = f", {100 * (shown[-1].share or 0):.1f} % now" if shown else ", no image"
    return {
        **_frame(palette, margins[0]),
        "description": f"Share of unusual images over time, {what}{last}; {labels.normal}.",
        "height": height,
        "width": "container",
        "data": {"values": [_plain(one) for one in points]},
        "layer": layers,
    }


def strip(
    cells: Sequence[Cell], rows: Sequence[Row], window: Window, palette: Palette, *, onset: int | None, utc: bool
) -> Spec:
    """Segments over time, as excess over their own normal: what is normal is next to nothing."""
    names = [row.name for row in rows]
    y = {
        "field": "row",
        "type": "nominal",
        "sort": names,
        "scale": {"domain": names, "paddingInner": 0.18},
        "axis": {
            "title": None,
            "labelOverlap": False,
            "labelLimit": _LEFT - 10,
            "domain": False,
            "ticks": False,
            "minExtent": _LEFT,
            "maxExtent": _LEFT,
            "labelColor": palette.ink,
        },
    }
    layers: list[Spec] = [
        _ground(window, utc, axis=False),
        {
            "mark": {"type": "rect", "stroke": None},
            "encoding": {
                "x": _x("start"),
                "x2": {"field": "end"},
                "y": y,
                "color": {
                    "field": "excess",
                    "type": "quantitative",
                    "scale": {
                        "domain": [0, 0.25],
                        "clamp": True,
                        "range": [palette.calm, palette.alarm],
                        "interpolate": "rgb",
                    },
                    "legend": None,
                },
                "tooltip": [
                    {"field": "row", "title": "segment"},
                    {"field": "when", "title": "from"},
                    {"field": "share", "title": "unusual", "format": ".1%"},
                    {"field": "n", "title": "images", "type": "quantitative"},
                ],
            },
        },
    ]
    if onset is not None:
        layers.append(
            {
                "data": {"values": [{"a": onset}]},
                "mark": {"type": "rule", "color": palette.alarm, "strokeWidth": 1.2},
                "encoding": {"x": _x("a")},
            }
        )
    texts = [{"row": row.name, "now": row.now, "normal": row.normal, "alarming": row.alarming} for row in rows]
    for field, offset in (("now", 60), ("normal", 116)):
        colour: Spec = {"value": palette.soft}
        if field == "now":
            colour = {"condition": {"test": "datum.alarming", "value": palette.alarm}, "value": palette.ink}
        layers.append(
            {
                "data": {"values": texts},
                "mark": _text(dx=offset, size=12, weight=600 if field == "now" else 400),
                "encoding": {"x": {"value": "width"}, "y": y, "text": {"field": field}, "color": colour},
            }
        )
        layers.append(
            {
                "data": {"values": [{"text": field}]},
                "mark": {**_text(dx=offset, size=11, weight=400), "dy": -9, "color": palette.soft},
                "encoding": {"x": {"value": "width"}, "y": {"value": 0}, "text": {"field": "text"}},
            }
        )  # fmt: skip
    layers.append(_anchor())
    told = "; ".join(f"{row.name} {row.now}, normally {row.normal}" for row in rows)
    return {
        **_frame(palette, 0),
        "description": f"Segments as excess over their own normal: {told}.",
        "width": "container",
        "height": {"step": _ROW_PX},
        "data": {"values": [_plain(one) for one in cells]},
        "layer": layers,
    }


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
        **_frame(palette, 0),
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


def spread(at: Sequence[float], gap: float) -> list[float]:
    """The places moved apart as little as keeps their order and `gap` between neighbours, the lowest first."""
    order = sorted(range(len(at)), key=lambda i: at[i])
    moved = list(at)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + gap)
    return moved


def _text(*, dx: int, size: int, weight: int) -> Spec:
    return {"type": "text", "align": "right", "dx": dx, "fontSize": size, "fontWeight": weight}


def _top(points: Sequence[Point], warning: float) -> float:
    highest = max([one.share for one in points if one.share is not None and not one.hollow], default=0.0)
    band = max([one.high for one in points if one.high is not None and not one.hollow], default=0.0)
    return max(1.25 * warning, 1.12 * highest, min(band, 1.6 * highest, 1.0))


def _ground(window: Window, utc: bool, *, axis: bool = True) -> Spec:
    """Nothing, from end to end: the one layer that says how time is drawn. Where several say so, even if they agree,
    Vega-Lite joins their domains, and draws none."""
    days = window.length.total_seconds() / 86_400
    kind, hours, minutes, form = (
        ("utc", "utchours", "utcminutes", "utcFormat") if utc else ("time", "hours", "minutes", "timeFormat")
    )
    day = f"{form}(datum.value, '%e %b')"
    midnight = f"{hours}(datum.value) == 0 && {minutes}(datum.value) == 0"
    label = day if days > 4 else f"{midnight} ? {day} : {form}(datum.value, '%H:%M')"
    ends = [to_ms(window.start), to_ms(window.end)]
    shown: Spec = {"title": None, "grid": False, "labelExpr": label, "labelOverlap": True, "tickCount": 8}
    return {
        "data": {"values": [{"from": ends[0], "to": ends[1]}]},
        "mark": {"type": "rect", "opacity": 0},
        "encoding": {
            "x": {
                **_x("from"),
                "scale": {"type": kind, "domain": ends, "nice": False, "clamp": True},
                "axis": shown if axis else None,
            },
            "x2": {"field": "to"},
        },
    }


def _x(field: str) -> Spec:
    return {"field": field, "type": "temporal", "title": None}


def _y(field: str, top: float) -> Spec:
    return {
        "field": field,
        "type": "quantitative",
        "scale": {"domain": [0, top], "clamp": True, "nice": False},
        "axis": {"title": None, "format": ".0%", "tickCount": 4},
    }


def _area(low: str, high: str, colour: str, opacity: float, top: float) -> Spec:
    return {
        "mark": {"type": "area", "interpolate": "step-after", "color": colour, "opacity": opacity},
        "encoding": {"x": _x("start"), "y": _y(low, top), "y2": {"field": high}},
    }


def _step(field: str, colour: str, width: float, top: float) -> Spec:
    return {
        "mark": {"type": "line", "interpolate": "step-after", "color": colour, "strokeWidth": width},
        "encoding": {"x": _x("start"), "y": _y(field, top)},
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
            "x": _x("middle"),
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
    x = _x("a")
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
        "mark": {"type": "text", "align": "left", "dx": 7, "fontSize": 12, "limit": _RIGHT - 8},
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


def _anchor() -> Spec:
    """Nothing, at the right edge: texts beyond a plot make it narrower by what the widest of them takes."""
    mark = {**_text(dx=_RIGHT, size=9, weight=400), "color": "transparent"}
    return {"data": {"values": [{"text": "."}]}, "mark": mark, "encoding": _corner()}


def _corner() -> Spec:
    return {"x": {"value": "width"}, "y": {"value": 0}, "text": {"field": "text"}}


def _frame(palette: Palette, left: int) -> Spec:
    """What surrounds every plot; an axis of fixed extent keeps plots aligned."""
    extent: Mapping[str, int] = {"minExtent": left, "maxExtent": left} if left else {}
    return {
        "padding": {"left": 0, "right": 2, "top": 14, "bottom": 2},
        "background": "transparent",
        "autosize": {"type": "fit", "contains": "padding"},
        "config": {
            "view": {"stroke": None},
            "axis": {
                "labelColor": palette.soft,
                "titleColor": palette.soft,
                "titleFontWeight": 400,
                "titleFontSize": 12,
                "labelFontSize": 12,
                "gridColor": palette.hair,
                "domainColor": palette.hair,
                "tickColor": palette.hair,
            },
            "axisY": {"domain": False, "ticks": False, **extent},
            "font": "Source Sans, sans-serif",
        },
    }


def _plain(row: Point | Cell) -> dict[str, Any]:
    found = {name: getattr(row, name) for name in row.__dataclass_fields__}
    return {**found, "middle": (row.start + row.end) // 2}
