"""The report of an evaluation: what one could attach to a review."""

import base64
from collections.abc import Sequence
from html import escape

from pipeline.evaluate import Average, Evaluation, ScoreReport, SetReport
from pipeline.reports.charts import curves, histograms
from pipeline.reports.page import colour, key, page, percent
from pipeline.scoring.evaluation import Separation
from pipeline.stages.gathering import Pictured


def evaluation_page(made: Evaluation, classes: Sequence[str]) -> str:
    """The whole page. Charts show the first temperature, tables all."""
    shown = _at_first_temperature(made)
    names = [report.score for report in shown]
    sections = [
        _head(made, shown),
        "<h2>How much passes unseen</h2><p>FPR95, the share of OOD images that pass while 95 % of ID images are kept,"
        " with its 95 % interval. Left is better; a guess lies at 95 %.</p>",
        '<div class="panel">' + key(names) + _dots(made, shown) + "</div>",
        "<h2>All figures</h2>",
        '<div class="panel scroll">' + _figures(made) + "</div>",
        "<h2>Thresholds</h2>",
        '<div class="panel scroll">' + _thresholds(made) + "</div>",
        *(_set_section(made, ood, shown) for ood in made.oods),
        _confused(made, classes),
        _reading(made),
    ]
    return page(f"oodwatch evaluate: {made.ids.name}", "\n".join(sections))


def _at_first_temperature(made: Evaluation) -> list[ScoreReport]:
    seen: dict[str, ScoreReport] = {}
    for report in made.scores:
        seen.setdefault(report.score, report)
    return list(seen.values())


def _head(made: Evaluation, shown: Sequence[ScoreReport]) -> str:
    best = min(shown, key=lambda report: report.average.fpr95)
    others = ", ".join(
        f"{escape(report.score)} {percent(report.average.fpr95, 0)}" for report in shown if report is not best
    )
    accuracy = "" if made.ids.accuracy is None else f", of which the model reads {percent(made.ids.accuracy)} rightly"
    sets = f"{len(made.oods)} OOD sets" if len(made.oods) > 1 else f"OOD set {escape(made.oods[0].name)}"
    return (
        f"<h1>How well does a score tell {escape(made.ids.name)} from other images?</h1>"
        f'<p class="soft">{made.ids.n:,} in-distribution (ID) images{accuracy}; {sets}.</p>'
        f'<p class="lead">While 95 % of ID images are kept, <b>{escape(best.score)}</b> lets'
        f" <b>{percent(best.average.fpr95, 0)}</b> of the others pass ({others}).</p>"
    )


def _dots(made: Evaluation, shown: Sequence[ScoreReport]) -> str:
    rows: list[tuple[str, Sequence[Separation | Average]]] = [
        (ood.name, [report.separations[ood.name] for report in shown]) for ood in made.oods
    ]
    if len(made.oods) > 1:
        rows.append(("average", [report.average for report in shown]))
    cells = []
    for name, figures in rows:
        marks = "".join(_dot(report, one, i) for i, (report, one) in enumerate(zip(shown, figures, strict=True)))
        cells.append(f'<b>{escape(name)}</b><div class="track" style="--rows:{len(shown)}">{marks}</div>')
    axis = "".join(f"<span>{share} %</span>" for share in (0, 25, 50, 75, 100))
    return f'<div class="dots">{"".join(cells)}<span></span><div class="axis">{axis}</div></div>'


def _dot(report: ScoreReport, figures: Separation | Average, row: int) -> str:
    top = 4 + 13 * row
    title = f"{report.score} {percent(figures.fpr95)} ({percent(figures.low, 0)} to {percent(figures.high, 0)})"
    width = 100 * (figures.high - figures.low)
    return (
        f'<i style="{colour(report.score)};left:{100 * figures.low:.2f}%;width:{width:.2f}%;top:{top + 4}px"></i>'
        f'<u style="{colour(report.score)};left:{100 * figures.fpr95:.2f}%;top:{top}px" title="{escape(title)}"></u>'
    )


def _figures(made: Evaluation) -> str:
    heads = ("OOD", "score", "T", "FPR95", "95 % interval", "official", "AUROC", "AUPR-in", "AUPR-out", "ID lost")
    body = []
    for ood in made.oods:
        under = f'<br><span class="soft">{ood.n:,} images</span>'
        if ood.accuracy is not None:
            under += f'<br><span class="soft">accuracy {percent(ood.accuracy)}</span>'
        body += _rows(
            made, [report.separations[ood.name] for report in made.scores], f"<b>{escape(ood.name)}</b>{under}"
        )
    if len(made.oods) > 1:
        body += _rows(made, [report.average for report in made.scores], "<b>average</b>")
    return _table(heads, body)


def _rows(made: Evaluation, rows: Sequence[Separation | Average], name: str) -> list[str]:
    best_fpr, best_auroc = min(row.fpr95 for row in rows), max(row.auroc for row in rows)
    lines = []
    for i, (report, row) in enumerate(zip(made.scores, rows, strict=True)):
        first = f'<td rowspan="{len(rows)}">{name}</td>' if i == 0 else ""
        lines.append(
            f'<tr{" class=group" if i == 0 else ""}>{first}<td class="left">{escape(report.score)}</td>'
            f"<td>{_temperature(report)}</td>"
            f"<td{' class=best' if row.fpr95 == best_fpr else ''}>{percent(row.fpr95)}</td>"
            f"<td>{percent(row.low, 0)} – {percent(row.high, 0)}</td><td>{percent(row.fpr95_official)}</td>"
            f"<td{' class=best' if row.auroc == best_auroc else ''}>{percent(row.auroc)}</td>"
            f"<td>{percent(row.aupr_in)}</td><td>{percent(row.aupr_out)}</td><td>{percent(row.fpr95_ood_positive)}</td></tr>"
        )
    return lines


def _thresholds(made: Evaluation) -> str:
    heads = ("score", "T", "ID images", "threshold_fpr95", "threshold_conformal")
    body = [
        f"<tr><td>{escape(report.score)}</td><td>{_temperature(report)}</td><td>{report.n_id:,}</td>"
        f"<td>{report.threshold_fpr95:.4f}</td><td>{report.threshold_conformal:.4f}</td></tr>"
        for report in made.scores
    ]
    return _table(heads, body)


def _table(heads: Sequence[str], body: Sequence[str]) -> str:
    top = "".join(f"<th{' class=left' if head == 'score' else ''}>{head}</th>" for head in heads)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _set_section(made: Evaluation, ood: SetReport, shown: Sequence[ScoreReport]) -> str:
    roc = curves({report.score: report.curves[ood.name] for report in shown})
    figures = [f"<figure>{roc}<figcaption>ID kept against OOD that passes; dotted: 95 % of ID</figcaption></figure>"]
    for report in shown:
        if report.score.startswith("energy"):
            chart = histograms(
                report.edges,
                report.histograms[made.ids.name],
                report.histograms[ood.name],
                report.threshold_conformal,
                f"{report.score}, nats",
            )
            caption = f"{percent(report.flagged[ood.name])} lie above the conformal threshold (dashed)"
            figures.append(f"<figure>{chart}<figcaption>{escape(report.score)}: {caption}</figcaption></figure>")
    legend = (
        f'<div class="key"><span style="--of: var(--id)">ID {escape(made.ids.name)}</span>'
        f'<span style="--of: var(--ood)">OOD {escape(ood.name)}</span></div>'
    )
    names = key([report.score for report in shown])
    charts = f'<div class="charts">{"".join(figures)}</div>'
    return f'<h2>{escape(ood.name)}</h2><div class="panel">{legend}{names}{charts}</div>'


def _confused(made: Evaluation, classes: Sequence[str]) -> str:
    groups = [(f"ID images of the highest energy ({escape(made.ids.name)})", made.ids.pictured)]
    groups += [(f"{escape(ood.name)}: OOD images of the lowest energy", ood.pictured) for ood in made.oods]
    shown = [(title, pictures) for title, pictures in groups if pictures]
    if not shown:
        return ""
    blocks = "".join(
        f'<h3>{title}</h3><div class="pictures">{"".join(_picture(picture, classes) for picture in pictures)}</div>'
        for title, pictures in shown
    )
    return f"<h2>The most confused images</h2><p>What energy gets most wrong, the worst first.</p>{blocks}"


def _picture(picture: Pictured, classes: Sequence[str]) -> str:
    def named(index: int) -> str:
        return escape(classes[index]) if index < len(classes) else f"class {index}"

    answer = named(picture.class_index)
    if picture.label is not None and picture.label != picture.class_index:
        answer = f'<span class="bad">{answer}</span>, is {named(picture.label)}'
    image = base64.b64encode(picture.thumbnail).decode()
    name = escape(picture.name)
    return (
        f'<figure><img src="data:image/webp;base64,{image}" alt="{name}" title="{name}">'
        f"<figcaption>{answer}<br>{picture.energy:.1f} nats</figcaption></figure>"
    )


def _reading(made: Evaluation) -> str:
    fitted = ""
    if made.dimensions is not None:
        d, width = made.dimensions
        fitted = (
            f" energy+residual adds the distance of the features from the space of {d} of {width} dimensions that"
            f" {made.n_fit:,} ID images fill; its figures come from the others, weighted so that AUPR is comparable."
        )
    return (
        "<h2>How to read this</h2>"
        "<p>Scores, higher for more unusual images: energy = −T log Σ exp(logits / T) in nats, softmax = minus the"
        f" largest probability, max_logit = minus the largest logit.{fitted}</p>"
        "<p>ID is the positive class, as in Liu et al. 2020. <b>FPR95</b>: OOD that passes while 95 % of ID is kept."
        " <b>official</b>: counted as the authors' code does. <b>ID lost</b>: ID rejected while 95 % of OOD is caught,"
        " which pytorch-ood and OpenOOD call FPR95. <b>AUROC</b>: 50 % is a guess. <b>AUPR</b> depends on the sizes of"
        " the sets. Intervals: bootstrap.</p>"
        "<p><b>threshold_fpr95</b> is the k-th smallest ID score, k = ⌈.95 n⌉; <b>threshold_conformal</b> the m-th,"
        f" m = ⌈(n + 1)(1 − {made.target_fpr:g})⌉: a new normal image exceeds it with at most {made.target_fpr:.0%}"
        " probability. Choose no temperature on images that the threshold is then computed on.</p>"
    )


def _temperature(report: ScoreReport) -> str:
    return f"{report.temperature:g}" if report.score.startswith("energy") else ""
