import re
from xml.etree import ElementTree

import numpy as np

from pipeline.reports.charts import curves, histograms
from pipeline.reports.page import page, percent


def points(svg: str, tag: str) -> list[list[tuple[float, float]]]:
    found = [element.get("points", "") for element in ElementTree.fromstring(svg).iter(tag)]
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in path.split())] for path in found]


def test_a_perfect_curve_runs_along_the_edges() -> None:
    (path,) = points(curves({"energy": np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])}), "polyline")
    (x0, y0), (x1, y1), (x2, y2) = path
    assert (x0, y1) == (x1, y2)
    assert x2 > x1
    assert y0 > y1  # downwards on the screen is less


def test_histograms_share_one_scale_and_leave_out_the_open_bins() -> None:
    edges = np.array([0.0, 1.0, 2.0])
    svg = histograms(edges, np.array([0.5, 0.4, 0.1, 0.0]), np.array([0.0, 0.2, 0.2, 0.6]), 1.5, "nats")
    ids, oods = points(svg, "polygon")
    base = ids[0][1]
    heights = [base - min(y for _, y in path) for path in (ids, oods)]
    assert heights[1] / heights[0] == np.float64(0.5)
    assert len(ids) == 2 * 2 + 2
    assert 'stroke-dasharray="3 3"' in svg
    assert 'stroke-dasharray="3 3"' not in histograms(edges, np.full(4, 0.25), np.full(4, 0.25), 9.0, "nats")


def test_names_from_outside_are_escaped() -> None:
    svg = histograms(np.array([0.0, 1.0, 2.0]), np.full(4, 0.25), np.full(4, 0.25), 1.0, "<b>")
    assert "<b>" not in svg
    assert "<script>" not in page("<script>", "")


def test_a_page_is_one_document_and_percent_signs_stay_with_their_number() -> None:
    assert re.fullmatch(r"<!doctype html>.*</html>\n", page("a", "<p>95 %</p>"), flags=re.DOTALL)
    assert "95&nbsp;%" in page("a", "<p>95 %</p>")
    assert (percent(0.1234), percent(None)) == ("12.3\u00a0%", "–")
