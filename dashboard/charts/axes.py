"""What charts share: how time and shares are drawn, and what surrounds a plot. Pure."""

from collections.abc import Mapping
from typing import Any

from dashboard.style import Palette
from dashboard.windows import Window, to_ms

Spec = dict[str, Any]

#: Plot areas of charts above one another begin and end alike.
MARGINS = LEFT, RIGHT = 104, 128


def ground(window: Window, utc: bool, *, axis: bool = True) -> Spec:
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
                **x_axis("from"),
                "scale": {"type": kind, "domain": ends, "nice": False, "clamp": True},
                "axis": shown if axis else None,
            },
            "x2": {"field": "to"},
        },
    }


def x_axis(field: str) -> Spec:
    """A field on the time that `ground` draws."""
    return {"field": field, "type": "temporal", "title": None}


def y_axis(field: str, top: float) -> Spec:
    """A share from 0 to `top`."""
    return {
        "field": field,
        "type": "quantitative",
        "scale": {"domain": [0, top], "clamp": True, "nice": False},
        "axis": {"title": None, "format": ".0%", "tickCount": 4},
    }


def text_mark(*, dx: int, size: int, weight: int) -> Spec:
    """A text that ends `dx` pixels to the right of its place."""
    return {"type": "text", "align": "right", "dx": dx, "fontSize": size, "fontWeight": weight}


def anchor() -> Spec:
    """Nothing, at the right edge: texts beyond a plot make it narrower by what the widest of them takes."""
    mark = {**text_mark(dx=RIGHT, size=9, weight=400), "color": "transparent"}
    return {"data": {"values": [{"text": "."}]}, "mark": mark, "encoding": _corner()}


def _corner() -> Spec:
    return {"x": {"value": "width"}, "y": {"value": 0}, "text": {"field": "text"}}


def framed(palette: Palette, left: int) -> Spec:
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


def plain(row: Any) -> Spec:
    """A row of a chart, with its middle, as JSON has it."""
    found = {name: getattr(row, name) for name in row.__dataclass_fields__}
    return {**found, "middle": (row.start + row.end) // 2}
