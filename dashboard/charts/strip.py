"""The strip: segments over time, beyond their own normal. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from dashboard.charts.axes import LEFT, Spec, anchor, framed, ground, plain, text_mark, x_axis
from dashboard.style import Palette
from dashboard.windows import Window

_ROW_PX = 24


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
            "labelLimit": LEFT - 10,
            "domain": False,
            "ticks": False,
            "minExtent": LEFT,
            "maxExtent": LEFT,
            "labelColor": palette.ink,
        },
    }
    layers: list[Spec] = [
        ground(window, utc, axis=False),
        {
            "mark": {"type": "rect", "stroke": None},
            "encoding": {
                "x": x_axis("start"),
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
                "encoding": {"x": x_axis("a")},
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
                "mark": text_mark(dx=offset, size=12, weight=600 if field == "now" else 400),
                "encoding": {"x": {"value": "width"}, "y": y, "text": {"field": field}, "color": colour},
            }
        )
        layers.append(
            {
                "data": {"values": [{"text": field}]},
                "mark": {**text_mark(dx=offset, size=11, weight=400), "dy": -9, "color": palette.soft},
                "encoding": {"x": {"value": "width"}, "y": {"value": 0}, "text": {"field": "text"}},
            }
        )  # fmt: skip
    layers.append(anchor())
    told = "; ".join(f"{row.name} {row.now}, normally {row.normal}" for row in rows)
    return {
        **framed(palette, 0),
        "description": f"Segments as excess over their own normal: {told}.",
        "width": "container",
        "height": {"step": _ROW_PX},
        "data": {"values": [plain(one) for one in cells]},
        "layer": layers,
    }
