"""A week of hours: what normal traffic stays within, as it is now and as a window would have it. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from dashboard.charts.axes import Spec, framed
from dashboard.style import Palette

_HOURS = 168
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Hours(NamedTuple):
    """A bound by hour of the week, Monday 00:00 UTC first; None where it is not known."""

    name: str
    values: Sequence[float | None]
    is_new: bool


def week(series: Sequence[Hours], palette: Palette, *, form: str, height: int = 150) -> Spec:
    """Steps over a week: the window's own in the line's colour, what counts now grey and dashed."""
    rows = [
        {"hour": hour, "value": value, "name": one.name, "when": f"{_DAYS[hour // 24]} {hour % 24:02d}h UTC"}
        for one in series
        for hour, value in enumerate(one.values)
        if hour in (0, _HOURS - 1) or value != one.values[hour - 1]  # steps: what stays needs no row
    ]
    names = list(dict.fromkeys(one.name for one in series))
    new = {one.name: one.is_new for one in series}
    labels = " : ".join(f"datum.value == {24 * day} ? '{name}'" for day, name in enumerate(_DAYS)) + " : ''"
    return {
        "data": {"values": rows},
        "height": height,
        "mark": {"type": "line", "interpolate": "step-after", "invalid": "break-paths-show-domains"},
        "encoding": {
            "x": {
                "field": "hour",
                "type": "quantitative",
                "scale": {"domain": [0, _HOURS], "nice": False},
                "axis": {"title": None, "values": [24 * day for day in range(7)], "labelExpr": labels, "grid": True},
            },
            "y": {
                "field": "value",
                "type": "quantitative",
                "scale": {"zero": True},
                "axis": {"title": None, "format": form, "tickCount": 3},
            },
            "color": {
                "field": "name",
                "scale": {"domain": names, "range": [palette.line if new[one] else palette.other for one in names]},
                "legend": {"title": None, "orient": "top", "labelColor": palette.soft, "symbolType": "stroke"},
            },
            "strokeDash": {
                "field": "name",
                "scale": {"domain": names, "range": [[1, 0] if new[one] else [4, 3] for one in names]},
                "legend": None,
            },
            "tooltip": [
                {"field": "when", "title": "hour"},
                {"field": "name", "title": " "},
                {"field": "value", "format": form},
            ],
        },
        **framed(palette, 44),
    }
