"""The coverage report as one HTML page: what is new, what is gone, with pictures."""

import base64
from collections.abc import Sequence
from html import escape

from pipeline.reports.page import page, percent
from pipeline.scoring.matched_null import Figure
from pipeline.stages.coverage_report import BELOW, COVERAGE_LOST, NOVEL, CoverageReport, ShownImage

_NAMES = {
    "p_precision": 'P-precision <span class="soft">fidelity</span>',
    "p_recall": 'P-recall <span class="soft">diversity</span>',
    "p_recall_in_support": "P-recall in support",
}


def coverage_page(report: CoverageReport) -> str:
    """The whole page."""
    sections = [
        _head(report),
        "<h2>Figures</h2>",
        '<div class="panel scroll">' + _figures(report) + "</div>",
        _segments(report),
        _groups(report),
        _supported(report),
        _covered(report),
        _warnings(report),
        _reading(report),
    ]
    return page(f"oodwatch coverage: {report.production}", "\n".join(sections))


def _head(report: CoverageReport) -> str:
    said = "".join(f'<p class="lead bad">{escape(finding.text)}</p>' for finding in report.findings)
    if not said:
        quiet = "Nothing new, and nothing gone, as far as windows of this size can tell."
        said = f'<p class="lead good">{quiet}</p>' if report.compared is not None else ""
    return (
        f"<h1>Does {escape(report.production)} still look like {escape(report.reference)}?</h1>"
        f'<p class="soft">{report.n_production:,} images held against {report.n_reference:,}, in'
        f" {report.dimensions} dimensions; {percent(report.distinct_share, 0)} of them are distinct.</p>{said}"
    )


def _figures(report: CoverageReport) -> str:
    rows = [
        f"<td>{_NAMES[line.name]}</td><td>{_number(line.value)}</td>{_beside(line.matched)}" for line in report.figures
    ]
    return _table(("", "value", "of a window", "normal", "spread", "z"), rows)


def _segments(report: CoverageReport) -> str:
    if not report.segments:
        return ""
    rows = [
        f'<td>{escape(line.segment)}</td><td>{line.n:,}</td><td style="min-width:160px">{_bar(line.p_precision)}</td>'
        f"{_z(line.normal)}<td>{percent(line.flagged)}</td>"
        for line in report.segments
    ]
    return (
        "<h2>Segments</h2><p>How well the reference supports the images of each; the least first.</p>"
        f'<div class="panel scroll">{_table(("segment", "images", "P-precision", "z", "flagged"), rows)}</div>'
    )


def _groups(report: CoverageReport) -> str:
    if not report.groups:
        return ""
    rows = [
        f'<td class="{"bad" if line.is_lost else ""}">{escape(line.group)}</td><td>{line.n:,}</td>'
        f'<td style="min-width:160px">{_bar(line.coverage.value)}</td><td>{_number(line.coverage.mean)}</td>'
        f"{_z(line.coverage)}"
        for line in report.groups
    ]
    return (
        "<h2>Classes of the reference</h2><p>How much of each production still covers, beside what a normal window"
        " covers, moved by as much as the other classes have moved; the one that lost most first.</p>"
        f'<div class="panel scroll">{_table(("class", "images", "covered", "normal", "z"), rows)}</div>'
    )


def _supported(report: CoverageReport) -> str:
    if not report.least_supported:
        return ""
    segments = dict.fromkeys(one.group for one in report.least_supported)
    blocks = [
        _pictures("" if name is None else name, [one for one in report.least_supported if one.group == name])
        for name in segments
    ]
    title = "What the reference does not know" if _has(report, NOVEL) else "The least supported images"
    return f"<h2>{title}</h2><p>Images of production, the least supported first.</p>{''.join(blocks)}"


def _covered(report: CoverageReport) -> str:
    if not report.least_covered:
        return ""
    lost = [line.group for line in report.groups if line.is_lost]
    blocks = [
        _pictures(f"{name}: no longer covered", [one for one in report.least_covered if one.group == name])
        for name in lost
    ]
    others = [one for one in report.least_covered if one.group not in lost]
    if others:
        blocks.append(_pictures("others" if lost else "", others))
    title = "What production no longer covers" if _has(report, COVERAGE_LOST) else "The least covered images"
    return (
        f"<h2>{title}</h2><p>Images of the reference that have lost most of the coverage which normal windows give"
        f" them.</p>{''.join(blocks)}"
    )


def _warnings(report: CoverageReport) -> str:
    if not report.warnings:
        return ""
    return "<h2>To mind</h2>" + "".join(f'<p class="warn">{escape(text)}</p>' for text in report.warnings)


def _reading(report: CoverageReport) -> str:
    of = "" if report.window is None else f", for P-recall of {report.window} images each"
    return (
        "<h2>How to read this</h2>"
        "<p><b>P-precision</b> is how well the reference supports an image of production, on average: low where"
        " something is new. <b>P-recall</b> is how well production covers an image of the reference: low where"
        " something is gone. <b>In support</b>: without the images that the reference does not support at all; a few of"
        " those raise P-recall, whatever is lost. Probabilistic precision and recall of Park and Kim 2023, a ="
        f" {report.plan.a:g}, k = {report.plan.k}.</p>"
        "<p>Neither is 1 without a change. <b>Normal</b> and <b>spread</b> come from windows of the reference itself"
        f"{of}, and <b>z</b> is the distance in spreads; below {BELOW:g} it is named. A different mix of classes lowers"
        " P-recall too, though nothing is gone. This explains; it is no alarm.</p>"
    )


def _has(report: CoverageReport, code: str) -> bool:
    return any(finding.code == code for finding in report.findings)


def _pictures(title: str, images: Sequence[ShownImage]) -> str:
    head = f"<h3>{escape(title)}</h3>" if title else ""
    return f'{head}<div class="pictures">{"".join(_picture(one) for one in images)}</div>'


def _picture(one: ShownImage) -> str:
    name = escape(one.name)
    normal = "" if one.normal is None else f" of {one.normal:.2f}"
    shown = ""
    if one.picture is not None:
        data = base64.b64encode(one.picture).decode()
        shown = f'<img src="data:image/webp;base64,{data}" alt="{name}" title="{name}">'
    group = "" if one.group is None else f"{escape(one.group)}<br>"
    return f"<figure>{shown}<figcaption>{group}{name}<br>{one.value:.2f}{normal}</figcaption></figure>"


def _beside(figure: Figure | None) -> str:
    if figure is None:
        return "<td>–</td>" * 4
    return "".join(f"<td>{_number(part)}</td>" for part in figure[:3]) + _z(figure)


def _z(figure: Figure | None) -> str:
    if figure is None:
        return "<td>–</td>"
    return f'<td class="{"bad" if figure.z < BELOW else ""}">{figure.z:.1f}</td>'


def _bar(share: float) -> str:
    return (
        f'<span class="bar" style="--of: var(--energy);--w:{100 * share:.1f}%"><s></s><span>{share:.2f}</span></span>'
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    top = "".join(f"<th>{head}</th>" for head in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
