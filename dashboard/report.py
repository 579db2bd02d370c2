"""What changed between two windows, as one file: a page that opens offline, or JSON. Pure."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from html import escape

import numpy as np

from dashboard.changes import FALSE, FLOOR, Change, Quantile
from dashboard.markup import Thumb, bar, figures, table
from dashboard.windows import Window
from pipeline.records import Float64s, Ints
from pipeline.reports.charts import histograms
from pipeline.reports.page import page

_HEADS = ("what", "where", "then", "now", "effect, 0 to 1", "at least")
_CSS = """<style>
.changes td, .changes th { text-align: left; } .ow-share { display: inline-block; width: 90px; height: 10px;
  background: var(--line); border-radius: 3px; margin-right: 8px; vertical-align: middle; }
.ow-share i { display: block; height: 10px; border-radius: 3px; background: var(--energy); }
.pictures .odd img { outline: 2px solid var(--ood); outline-offset: -2px; }
.pictures .gone { aspect-ratio: 1; display: grid; place-items: center; background: var(--panel); color: var(--soft); }
</style>"""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One of the two windows."""

    window: Window
    n: int
    fine: Ints  # (256,) scores
    pictures: Sequence[Thumb]  # unusual ones first


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two windows of a deployment, and what changed between them."""

    deployment: str
    reference: str
    of: str  # what is compared: a segment, or all traffic
    without: Sequence[str]  # segments that are left out of it
    where: str  # what the pictures are of
    then: Side
    now: Side
    d: float
    changes: Sequence[Change]
    quantiles: Sequence[Quantile]
    fine_edges: Float64s
    threshold: float
    remarks: Sequence[str]  # what a reader should know before the figures

    @property
    def kept(self) -> list[Change]:
        """What changed beyond chance and the floor."""
        return [one for one in self.changes if one.kept]


def summary(found: Comparison) -> str:
    """How much of what was looked at is listed, and what that means."""
    return (
        f"{len(found.kept)} of {len(found.changes)} things moved by more than {FLOOR:.0%} beyond chance;"
        f" n {found.then.n:,} then, {found.now.n:,} now"
    ).replace("%", " %")


def changes_table(found: Sequence[Change], whole: str) -> str:
    """Changes with their effects; `whole` is what everything in view is called."""
    rows = [
        (
            escape(one.what),
            escape(whole if one.of == "everything" else one.name),
            escape(one.before),
            escape(one.now),
            bar(one.effect),
            "" if one.least is None else f"{one.least:.2f}",
        )
        for one in found
    ]
    return table(_HEADS, rows, numbers=(2, 3, 5))


def quantiles_table(found: Sequence[Quantile]) -> str:
    """Scores at some ranks; an interval that is open says so."""
    rows = [
        (
            f"{one.share:.0%}".replace("%", " %"),
            _nats(one.before),
            _nats(one.now),
            f"{'…' if one.low is None else _nats(one.low, sign=True)} to"
            f" {'…' if one.high is None else _nats(one.high, sign=True)}",
        )
        for one in found
    ]
    return table(("images below", "then", "now", "change, 95 %"), rows, numbers=(1, 2, 3))


def as_html(found: Comparison, made_at: datetime) -> str:
    """One page with everything in it; nothing is asked of any host."""
    windows = " against ".join(_words(side.window) for side in (found.now, found.then))
    of = found.of
    left_out = f'<p class="warn">Left out: {escape(", ".join(found.without))}</p>' if found.without else ""
    listed = changes_table(found.kept, of) if found.kept else "<p>Nothing moved beyond chance and the floor.</p>"
    rest = [one for one in found.changes if not one.kept]
    body = [
        _CSS,
        f"<h1>What changed: {escape(found.deployment)}, {escape(of)}</h1>",
        f'<p class="lead">{windows}</p>',
        f'<p class="soft">{escape(summary(found))}; reference {escape(found.reference)};'
        f" made {made_at:%Y-%m-%d %H:%M} UTC</p>",
        left_out,
        *(f'<p class="warn">{escape(one)}</p>' for one in found.remarks),
        f'<h2>Changes</h2><div class="panel scroll changes">{listed}</div>',
        f'<h2>Scores</h2><div class="charts"><figure>{_scores(found)}<figcaption>blue-grey then, orange now;'
        f" unusual beyond the dashed line</figcaption></figure></div>",
        f'<div class="panel scroll changes">{quantiles_table(found.quantiles)}</div>' if found.quantiles else "",
        *(_pictures(name, side, found.where) for name, side in (("Now", found.now), ("Then", found.then))),
        f"<details><summary>Looked at, and not listed: {len(rest)}</summary>"
        f'<div class="panel scroll changes">{changes_table(rest, of)}</div></details>',
        f'<h2>How to read it</h2><p class="soft">{escape(_method(found))}</p>',
    ]
    return page(f"What changed: {found.deployment}", "\n".join(body))


def as_json(found: Comparison, made_at: datetime) -> str:
    """The figures, without pictures."""
    windows = {
        name: {"from": side.window.start.isoformat(), "to": side.window.end.isoformat(), "n": side.n}
        for name, side in (("then", found.then), ("now", found.now))
    }
    return json.dumps(
        {
            "version": 1,
            "made_at": made_at.isoformat(timespec="seconds"),
            "deployment": found.deployment,
            "reference": found.reference,
            "of": found.of,
            "without": list(found.without),
            **windows,
            "method": {"wrong_at_most": FALSE, "floor": FLOOR, "dispersion": found.d},
            "remarks": list(found.remarks),
            "changes": [asdict(one) for one in found.changes],
            "quantiles": [one._asdict() for one in found.quantiles],
        },
        indent=1,
        ensure_ascii=False,
    )


def _scores(found: Comparison) -> str:
    fine = [side.fine for side in (found.then, found.now)]
    filled = np.flatnonzero(np.sum(fine, axis=0)[1:-1])
    first, last = (int(filled[0]), int(filled[-1]) + 2) if len(filled) else (0, len(found.fine_edges))
    shown = slice(first, last + 1)
    then, now = (one[shown] / max(one.sum(), 1) for one in fine)
    return histograms(found.fine_edges[first:last], then, now, found.threshold, "score in nats")


def _pictures(name: str, side: Side, where: str) -> str:
    shown = f'<div class="pictures">{figures(side.pictures)}</div>' if side.pictures else "<p>No picture is kept.</p>"
    return f"<h2>{name}</h2><p class='soft'>{_words(side.window)}, {escape(where)}; unusual ones framed</p>{shown}"


def _words(window: Window) -> str:
    return f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC"


def _nats(value: float, *, sign: bool = False) -> str:
    return f"{value:{'+' if sign else ''}.2f}".replace("-", "−")


def _method(found: Comparison) -> str:
    return (
        "The effect of a share is by how much it moved, of a distribution (scores, image properties) how many images"
        f" lie on another side of some value. What moved by less than {FLOOR:.0%} is not listed, however surely it"
        f" did. Of what is listed, one in {1 / FALSE:.0f} is chance at most, on average, under any dependence"
        " (Benjamini and Yekutieli); “at least” is the lower end of the effect, wrong for as few. Bounds are Chernoff's"
        " and Dvoretzky, Kiefer and Wolfowitz's, which hold at any number of images;"
        f" {found.d:.1f} images count as one, as accepted traffic comes in clumps."
    )
