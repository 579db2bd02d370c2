"""Charts as Vega-Lite specifications: dictionaries, which cost a server next to nothing. Pure.

Times are milliseconds since 1970 on a UTC scale (or the browser's own, where a reader wants that): Vega would
otherwise show the browser's zone. Lists of rows go inline; no chart has more than 320 of them.
"""

from dashboard.charts.axes import MARGINS, Spec
from dashboard.charts.clickable import clickable
from dashboard.charts.histogram import histogram
from dashboard.charts.line import Labels, Point, line, spread
from dashboard.charts.strip import Cell, Row, strip
from dashboard.charts.support import SupportPoint, support
from dashboard.charts.week import Hours, week

__all__ = [
    "MARGINS",
    "Cell",
    "Hours",
    "Labels",
    "Point",
    "Row",
    "Spec",
    "SupportPoint",
    "clickable",
    "histogram",
    "line",
    "spread",
    "strip",
    "support",
    "week",
]
