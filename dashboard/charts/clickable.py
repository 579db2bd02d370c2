"""A picture that can be clicked on: over it a grid that nobody sees, whose cell a click chooses. Pure."""

import base64
from collections.abc import Sequence

from dashboard.charts.axes import Spec
from dashboard.style import Palette

SIDE = 352  # screen pixels, so that it fits a phone
_CELLS = 44  # along a side: with a mark for each, a browser draws as fast as the hand moves


def clickable(
    png: bytes,
    size: tuple[int, int],
    palette: Palette,
    *,
    points: Sequence[tuple[float, float, int]],
    box: tuple[float, float, float, float] | None,
) -> Spec:
    """A picture of `size` (width, height) with what was pointed at; clicks and boxes come in its own pixels.

    The selection `click` has the middle of a cell (x, y); `drag` the ranges of `left` and `top`.
    """
    width, height = size
    scale = SIDE / max(size)
    across, down = max(1, round(_CELLS * width / max(size))), max(1, round(_CELLS * height / max(size)))
    x: Spec = {"type": "quantitative", "scale": {"domain": [0, width], "nice": False}, "axis": None}
    y: Spec = {"type": "quantitative", "scale": {"domain": [height, 0], "nice": False}, "axis": None}
    shown = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    wide, high = round(width * scale), round(height * scale)
    layers: list[Spec] = [
        {
            "data": {"values": [{}]},
            "mark": {
                "type": "image",
                "url": shown,
                "width": wide,
                "height": high,
                "align": "left",
                "baseline": "top",
                "aspect": False,
            },
            "encoding": {"x": {"value": 0}, "y": {"value": 0}},
        }
    ]
    if box is not None:
        layers.append(
            {
                "data": {"values": [dict(zip(("a", "b", "c", "d"), box, strict=True))]},
                "mark": {"type": "rect", "fillOpacity": 0, "stroke": palette.alarm, "strokeWidth": 2},
                "encoding": {
                    "x": {"field": "a", **x},
                    "x2": {"field": "c"},
                    "y": {"field": "b", **y},
                    "y2": {"field": "d"},
                },
            }
        )
    for inside in (1, 0):
        layers.append(
            {
                "data": {"values": [{"a": a, "b": b} for a, b, where in points if where == inside]},
                "mark": {
                    "type": "point",
                    "filled": True,
                    "opacity": 1,
                    "shape": "circle" if inside else "cross",
                    "size": 130,
                    "color": palette.alarm if inside else palette.line,
                    "stroke": "white",
                    "strokeWidth": 2,
                },
                "encoding": {"x": {"field": "a", **x}, "y": {"field": "b", **y}},
            }
        )
    layers.append(
        {
            "data": {"sequence": {"start": 0, "stop": across * down, "as": "i"}},
            "transform": [
                {"calculate": f"datum.i % {across} * {width / across}", "as": "left"},
                {"calculate": f"floor(datum.i / {across}) * {height / down}", "as": "top"},
                {"calculate": f"datum.left + {width / across}", "as": "right"},
                {"calculate": f"datum.top + {height / down}", "as": "bottom"},
                {"calculate": f"datum.left + {width / across / 2}", "as": "x"},
                {"calculate": f"datum.top + {height / down / 2}", "as": "y"},
            ],
            "params": [
                {"name": "click", "select": {"type": "point", "fields": ["x", "y"], "toggle": False}},
                {"name": "drag", "select": {"type": "interval"}},
            ],
            "mark": {"type": "rect", "opacity": 0, "cursor": "crosshair", "aria": False},
            "encoding": {
                "x": {"field": "left", **x},
                "x2": {"field": "right"},
                "y": {"field": "top", **y},
                "y2": {"field": "bottom"},
            },
        }
    )
    return {
        "description": f"The image, {width} by {height} pixels; a click marks a point, dragging draws a box.",
        "width": wide,
        "height": high,
        "padding": {"left": 0, "right": 0, "top": 0, "bottom": 1},  # where it is 0, Streamlit makes it 20
        "background": "transparent",
        "autosize": {"type": "none"},
        "config": {"view": {"stroke": None}},
        "layer": layers,
    }
