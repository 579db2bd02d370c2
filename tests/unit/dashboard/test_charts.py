import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import altair
import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import charts
from dashboard.style import DARK, LIGHT
from dashboard.windows import Window, to_ms

END = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
DAY = Window(END - timedelta(days=1), END)


def point(at: int, share: float | None, *, hollow: bool = False) -> charts.Point:
    start = to_ms(DAY.start + timedelta(minutes=5 * at))
    return charts.Point(start, start + 300_000, share, share, share, 0.02, 0.01, 0.03, 40, hollow, "02:00")


def line(points: list[charts.Point], **changed: Any) -> charts.Spec:
    given_: dict[str, Any] = {
        "labels": charts.Labels("ring/west", "all traffic", "normal 2.0 %"),
        "levels": (0.1, 0.25),
        "onset": to_ms(END - timedelta(hours=2)),
        "until": None,
        "marks": [(to_ms(END - timedelta(hours=3)), "deploy")],
        "utc": True,
    }
    return charts.line(points, DAY, LIGHT, **(given_ | changed))


def strip() -> charts.Spec:
    cells = [charts.Cell("a", to_ms(DAY.start), to_ms(DAY.start) + 900_000, 0.1, 0.12, 50, "02:00")]
    return charts.strip(cells, [charts.Row("a", "12 %", "2.0 %", True)], DAY, DARK, onset=None, utc=True)


def histogram() -> charts.Spec:
    return charts.histogram([-3.0, -2.0, -1.0], [0.4, 0.6], [0.9, 0.1], -2.0, LIGHT, what="Scores")


@pytest.mark.parametrize("spec", [line([point(i, 0.02) for i in range(288)]), line([]), strip(), histogram()])
def test_a_specification_is_valid_and_small(spec: charts.Spec) -> None:
    altair.LayerChart.from_dict(spec)
    assert len(json.dumps(spec)) < 120_000


def test_a_week_has_a_row_where_a_bound_changes_and_breaks_where_it_is_not_known() -> None:
    night = [0.02 if hour % 24 < 6 else 0.03 for hour in range(168)]
    spec = charts.week(
        [charts.Hours("this window", night, True), charts.Hours("now", [None] * 100 + [0.05] * 68, False)],
        DARK,
        form=".1%",
    )
    altair.Chart.from_dict(spec)
    rows = [(one["name"], one["hour"], one["value"]) for one in spec["data"]["values"]]
    assert rows[:3] == [("this window", 0, 0.02), ("this window", 6, 0.03), ("this window", 24, 0.02)]
    assert rows[-3:] == [("now", 0, None), ("now", 100, 0.05), ("now", 167, 0.05)]
    assert len(rows) == 14 + 1 + 3


def test_vega_lite_refuses_what_is_not_valid() -> None:
    spec = strip()
    spec["layer"][1]["encoding"]["x"]["type"] = "temporl"
    with pytest.raises(jsonschema.ValidationError, match="temporl"):
        altair.LayerChart.from_dict(spec)


def test_time_is_drawn_in_utc_by_one_layer_alone() -> None:
    for utc, kind in ((True, "utc"), (False, "time")):
        spec = line([point(0, 0.02)], utc=utc)
        scales = [layer["encoding"]["x"]["scale"] for layer in _layers(spec) if "scale" in _x(layer)]
        assert [scale["type"] for scale in scales] == [kind]
        assert scales[0]["domain"] == [to_ms(DAY.start), to_ms(DAY.end)]


def test_a_gap_is_no_zero() -> None:
    spec = line([point(0, 0.02), point(1, None), point(2, 0.02)])
    assert [row["share"] for row in spec["data"]["values"]] == [0.02, None, 0.02]


def test_a_handful_of_images_does_not_set_the_scale() -> None:
    few = line([point(0, 0.02), point(1, 1.0, hollow=True)])
    many = line([point(0, 0.02), point(1, 1.0)])
    tops = [_y_domain(spec)[1] for spec in (few, many)]
    assert tops == [pytest.approx(0.125), pytest.approx(1.12)]


def test_a_chart_says_in_words_what_it_shows() -> None:
    assert line([point(0, 0.28)])["description"] == (
        "Share of unusual images over time, ring/west, 28.0 % now; normal 2.0 %."
    )


@given(st.lists(st.floats(0, 1), max_size=6), st.floats(0.01, 0.1))
def test_labels_keep_their_order_and_their_distance(at: list[float], gap: float) -> None:
    moved = charts.spread(at, gap)
    order = sorted(range(len(at)), key=lambda i: at[i])
    assert all(moved[b] - moved[a] >= gap - 1e-9 for a, b in itertools.pairwise(order))
    assert all(after >= before for after, before in zip(moved, at, strict=True))


def _layers(spec: charts.Spec) -> list[charts.Spec]:
    found: list[charts.Spec] = []
    for layer in spec["layer"]:
        found += layer.get("layer", [layer])
    return found


def _x(layer: charts.Spec) -> dict[str, Any]:
    x: dict[str, Any] = layer["encoding"].get("x", {})
    return x


def _y_domain(spec: charts.Spec) -> list[float]:
    return next(
        layer["encoding"]["y"]["scale"]["domain"]
        for layer in _layers(spec)
        if "scale" in layer["encoding"].get("y", {})
    )
