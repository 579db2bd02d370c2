"""What a window teaches: rates by the hour, dispersion, classes, clumping, beside what counts now."""

from collections.abc import Sequence
from html import escape
from typing import Any

import streamlit as st

from dashboard import charts, data, frame, markup
from dashboard.charts import Hours
from dashboard.data import Standing
from dashboard.frame import Page
from dashboard.times import percent
from pipeline.shift.baseline import Baseline
from pipeline.shift.hours import HOURS_OF_DAY, HOURS_OF_WEEK
from pipeline.storage.baselines import BaselineLine

_SATURDAY = 5


def learnt(page: Page, stands: Standing, line: BaselineLine) -> None:
    """Its figures beside those of the baseline that counts."""
    known = data.baselines(page.key, stands.deployment.id, stands.deployment.reference_id)
    present = next((one for one in known if one.version == stands.baseline), None)
    rows = [
        (escape(name), escape(now), escape("" if present is None else was))
        for (name, now), (_, was) in zip(_figures(line), _figures(line if present is None else present), strict=True)
    ]
    counts = "none counts now" if present is None else f"beside baseline {present.version}, which counts now"
    st.html(markup.heading("What is learnt", counts))
    st.html(markup.table(("", "this window", "now" if present is not None else ""), rows))


def _figures(line: BaselineLine) -> list[tuple[str, str]]:
    """What a summary says, one figure a line; summaries of older releases say less."""
    summary = line.summary
    pooled, rates, classes = (summary.get(name) or {} for name in ("pooled", "rates", "classes"))
    most = [
        f"{one['class']} {one['share']:.0%}".replace("%", "\u00a0%") for one in classes.get("most_frequent", ())[:3]
    ]
    return [
        ("flagged, at most", _rate(pooled, "highest")),
        ("flagged, at least", _rate(pooled, "lowest")),
        ("dispersion D, images that count as one", _plain(pooled.get("d"))),
        ("images a minute, at most", _rate(rates, "highest", share=False)),
        ("images a minute, at least", _rate(rates, "lowest", share=False)),
        ("clumping φ, variance of arrivals over mean", _plain(rates.get("phi"))),
        ("hours of the week that are known", _plain(rates.get("hours_known"))),
        ("classes, most frequent", ", ".join(most)),
        ("dispersion of classes", _plain(classes.get("d"))),
        ("coverage is held against", str(summary.get("coverage") or "nothing: too few blocks")),
    ]


def _rate(of: dict[str, Any], name: str, *, share: bool = True) -> str:
    if (value := of.get(name)) is None:
        return "not known"
    at = of.get(f"{name}_at")
    return (percent(value) if share else f"{value:.3g}") + ("" if at is None else f" ({at})")


def _plain(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3g}"


def week(page: Page, new: Baseline, present: Baseline | None) -> None:
    """Its bounds by the hour over those that count."""
    st.html(markup.heading("Normal by the hour", "at most so many images a minute; at most such a share flagged"))
    made = [(new, "this window", True), *([] if present is None else [(present, "now", False)])]
    rates = [Hours(name, [None if one is None else one.high for one in of.rates], own) for of, name, own in made]
    shares = [Hours(name, _by_week([v or None for v in of.pooled.high.tolist()]), own) for of, name, own in made]
    frame.chart(charts.week(rates, page.palette, form=".3~g"), "week-rates")
    frame.chart(charts.week(shares, page.palette, form=".1%"), "week-shares")


def _by_week(bins: Sequence[float | None]) -> list[float | None]:
    """Hours of weekdays and of weekends → hours of the week."""
    return [
        bins[hour % HOURS_OF_DAY + HOURS_OF_DAY * (hour // HOURS_OF_DAY >= _SATURDAY)] for hour in range(HOURS_OF_WEEK)
    ]
