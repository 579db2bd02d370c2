"""P-precision over time: how well the reference's images support those of production. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from dashboard.charts.axes import MARGINS, RIGHT, Spec, anchor, framed, ground, plain, x_axis
from dashboard.charts.line import spread
from dashboard.style import Palette
from dashboard.windows import Window

_LABEL_PX = 15


@dataclass(frozen=True, slots=True)
class SupportPoint:
    """One bucket; means of support, 0..1."""

    start: int  # ms
    end: int
    mean: float | None
    of_all: float | None  # of all traffic
    n: int
    hollow: bool  # too few images
    when: str


def support(
    points: Sequence[SupportPoint],
    window: Window,
    palette: Palette,
    *,
    name: str,
    of_all: str | None,
    normal: tuple[float, float] | None,
    utc: bool,
    height: int = 240,
    margins: tuple[int, int] = MARGINS,
) -> Spec:
    """The segment in view beside all traffic; normal as a band. The axis is as long as the figures need."""
    shown = [one for one in points if one.mean is not None]
    values = [one.mean for one in shown if one.mean is not None and not one.hollow]
    values += [one.of_all for one in points if one.of_all is not None] + list(normal or ())
    low, high = max(0.0, min(values, default=0.0) - 0.03), min(1.0, max(values, default=1.0) + 0.03)
    scale: Spec = {"domain": [low, high], "clamp": True, "nice": False, "zero": False}
    axis: Spec = {"title": None, "format": ".2f", "tickCount": 4}

    def y(field: str) -> Spec:
        return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}

    layers: list[Spec] = [ground(window, utc)]
    labels = [(shown[-1].mean or 0.0, name, palette.line)] if shown else []
    if normal is not None:
        band = {"data": {"values": [{"low": normal[0], "high": normal[1]}]}}
        mark = {"type": "rect", "color": palette.other, "opacity": 0.22}
        layers.append({**band, "mark": mark, "encoding": {"y": y("low"), "y2": {"field": "high"}}})
        labels.append((sum(normal) / 2, "normal", palette.soft))
    if of_all is not None:
        layers.append(_step("of_all", palette.other, 1.2, y("of_all")))
        last = next((one.of_all for one in reversed(points) if one.of_all is not None), None)
        labels += [] if last is None else [(last, of_all, palette.soft)]
    layers.append(_step("mean", palette.line, 2.2, y("mean")))
    layers.append(
        {
            "transform": [{"filter": "datum.hollow && isValid(datum.mean)"}],
            "mark": {
                "type": "point",
                "filled": False,
                "color": palette.line,
                "size": 22,
                "strokeWidth": 1.2,
                "aria": False,
            },
            "encoding": {"x": x_axis("middle"), "y": y("mean")},
        }
    )
    layers.append(
        {
            "transform": [{"filter": "isValid(datum.mean)"}],
            "mark": {"type": "rule", "opacity": 0, "strokeWidth": 6},
            "encoding": {
                "x": x_axis("middle"),
                "tooltip": [
                    {"field": "when", "title": "from"},
                    {"field": "mean", "title": "P-precision", "format": ".3f"},
                    {"field": "n", "title": "images", "type": "quantitative"},
                ],
            },
        }
    )
    if margins[1]:
        places = spread([at for at, _, _ in labels], _LABEL_PX * (high - low) / height)
        layers += [_edge(at, text, colour) for at, (_, text, colour) in zip(places, labels, strict=True)]
        layers.append(anchor())
    said = f"{shown[-1].mean:.2f} now" if shown else "no image"
    return {
        **framed(palette, margins[0]),
        "description": f"P-precision over time, {name}: {said}.",
        "height": height,
        "width": "container",
        "data": {"values": [plain(one) for one in points]},
        "layer": layers,
    }


def _step(field: str, colour: str, width: float, y: Spec) -> Spec:
    return {
        "mark": {"type": "line", "interpolate": "step-after", "color": colour, "strokeWidth": width},
        "encoding": {"x": x_axis("start"), "y": y},
    }


def _edge(at: float, text: str, colour: str) -> Spec:
    return {
        "data": {"values": [{"at": at, "text": text}]},
        "mark": {"type": "text", "align": "left", "dx": 7, "fontSize": 12, "limit": RIGHT - 8, "color": colour},
        "encoding": {
            "x": {"value": "width"},
            "y": {"field": "at", "type": "quantitative"},
            "text": {"field": "text"},
        },
    }
