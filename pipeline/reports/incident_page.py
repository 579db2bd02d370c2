"""An incident as one page that opens offline: what a person would have seen, with everything in it. Pure."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Any

from pipeline.alerts.page import SIGNALS, headline
from pipeline.reports.page import page, percent
from pipeline.reports.timeline import Timeline, timeline
from pipeline.shift.folding import POOLED
from pipeline.stages.bundling import Gathered
from pipeline.storage.incident_pages import DeliveryLine
from pipeline.storage.incidents import EventLine
from pipeline.storage.sample_pages import Picture
from pipeline.storage.series import Bucket

_RATE = "images a minute"
_CAUSES = 3
_ENOUGH, _FEWEST = 100, 24
_CSS = """<style>.told td, .told th { text-align: left; white-space: normal; vertical-align: top; }
time { white-space: nowrap; } figure.panel { overflow-x: auto; } figure.panel svg { min-width: 640px; }
.pictures .odd img { outline: 2px solid var(--ood); outline-offset: -2px; }</style>"""


def incident_page(found: Gathered) -> str:
    """A complete document; every text is escaped, nothing is asked of any host."""
    told = found.payload
    body = [
        _CSS,
        f"<h1>{escape(headline(told))}</h1>",
        f'<p class="soft">Incident {told["incident"]} of {escape(told["deployment"])}; model'
        f" {escape(told['model'])}, reference {escape(told['reference'])}; as of {_time(found.made_at)}</p>",
        *_chart(found),
        *_facts(found),
        *_attribution(told),
        *_causes(told),
        *_matters(told),
        "<h2>Can it be trusted</h2>" + _list(told["trust"]["reservations"] or ["Nothing speaks against the figures."]),
        *_alerts(found),
        *_happened(found),
        *_evidence(found),
        *_samples(found),
    ]
    return page(f"Incident {told['incident']}, {told['deployment']}", "\n".join(body))


def delivery_words(one: DeliveryLine) -> str:
    """How a telling went."""
    if one.delivered_at is not None:
        return f"{one.channel}: delivered {_at(one.delivered_at)}"
    if one.given_up_at is not None:
        return f"{one.channel}: given up after {one.attempts} attempts, {one.last_error or 'no reason known'}"
    return f"{one.channel}: waits, {one.attempts} attempts so far"


def _chart(found: Gathered) -> Iterator[str]:
    told = found.payload
    segment = told["segment"]
    key = next((key for key, name in found.names.items() if name == segment), POOLED)
    name = segment if key != POOLED else "all traffic"
    is_rate = told["unit"] == _RATE
    step, own = _wide_enough(found.step, [one for one in found.buckets if one.segment_id == key], found.window)
    minutes = step / timedelta(minutes=1)
    values = [(at, n / minutes if is_rate else flags / n) for at, (n, flags) in own.items()]
    what = "Images a minute" if is_rate else "Share of unusual images"
    title = f"{what}, {name}, {found.window[0]:%Y-%m-%d %H:%M} to {found.window[1]:%Y-%m-%d %H:%M} UTC"
    yield f"<h2>{what} against its limits</h2>"
    if not values:
        yield '<p class="warn">No image of that time is stored any more.</p>'
        return
    limits = () if is_rate else (("warning", told["warning"]), ("critical", told["critical"]))
    drawn = Timeline(
        title,
        found.window,
        step,
        values,
        limits,
        told["normal"],
        (found.incident.onset, found.incident.resolved_at or found.window[1]),
        [(mark.at, mark.text) for mark in found.marks],
        share=not is_rate,
    )
    length = "minute" if minutes == 1 else f"{minutes:g} min"
    yield (
        f'<figure class="panel">{timeline(drawn)}<figcaption>{escape(name)};'
        f" one step = {length}, UTC; shaded: since the onset</figcaption></figure>"
    )


def _wide_enough(
    step: timedelta, buckets: Sequence[Bucket], window: tuple[datetime, datetime]
) -> tuple[timedelta, dict[datetime, tuple[int, int]]]:
    """(n, flagged) of steps that hold some hundred images each, or of two dozen of them: shares of a few are noise."""
    n = sum(one.n for one in buckets)
    times = max(1, min(n and round(_ENOUGH * len(buckets) / n), (window[1] - window[0]) // (_FEWEST * step)))
    found: dict[datetime, tuple[int, int]] = {}
    for one in buckets:
        at = window[0] + (one.start - window[0]) // (times * step) * (times * step)
        before = found.get(at, (0, 0))
        found[at] = before[0] + one.n, before[1] + one.flags
    return times * step, found


def _facts(found: Gathered) -> Iterator[str]:
    told, incident = found.payload, found.incident
    rows = [
        ("onset", _at(incident.onset)),
        ("opened", _at(incident.opened_at)),
        ("ended", "it goes on" if incident.resolved_at is None else _at(incident.resolved_at)),
        ("state", f"{incident.state}, at worst {incident.peak}{', provisional' if incident.provisional else ''}"),
        ("handling", incident.handling + (f" by {incident.handled_by}" if incident.handled_by else "")),
    ]
    if told["value"] is not None:
        unit = told["unit"] == _RATE
        between = told["interval"]
        interval = f", 95 %: {percent(between['low'])} to {percent(between['high'])}" if between else ""
        now, normal = (
            f"{told[name]:,.3g} a minute" if unit and told[name] is not None else percent(told[name])
            for name in ("value", "normal")
        )
        rows.append(("value", f"{now}{interval}, normally {normal}; n {told['n']:,.0f}"))
    yield _table((), [(escape(name), escape(text)) for name, text in rows])


def _attribution(told: Mapping[str, Any]) -> Iterator[str]:
    if not told["attribution"]:
        return
    yield f"<h2>Where</h2><p>{escape(told['attribution_of'])}</p>"
    yield _table(
        ("", "share", "images", "now", "normally"),
        [
            (
                escape(f"segment {one['segment']}" if "segment" in one else f"class {one['class']}"),
                percent(one["share"], 0),
                f"{one['excess']:,.0f}",
                percent(one["value"]),
                percent(one["normal"]),
            )
            for one in told["attribution"]
        ],
    )


def _causes(told: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Looks like</h2>"
    causes = [one for one in told["cause"] if one["kind"] != "unknown"][:_CAUSES]
    if not causes:
        yield "<p>No cause was ranked for it.</p>"
    for one in causes:
        yield f"<h3>{escape(one['title'])}, {one['score']:.2f} of 1</h3>{_list(one['evidence'])}"


def _matters(told: Mapping[str, Any]) -> Iterator[str]:
    found = told["matters"]
    if found is None:
        return
    most = found["accuracy_at_most"]
    yield "<h2>Does it matter</h2>"
    if most is None:
        yield f"<p>No estimate of the accuracy: {escape(found['because'])}.</p>"
        return
    yield (
        f"<p>Accuracy now at most {percent(most['share'], 0)} (95 %: {percent(most['low'], 0)} to"
        f" {percent(most['high'], 0)}); on the reference {percent(found['reference_accuracy'], 0)}.</p>"
    )


def _alerts(found: Gathered) -> Iterator[str]:
    rows = [
        (
            escape(SIGNALS.get(one.signal, one.signal)),
            escape(one.segment or "all traffic"),
            escape(f"{one.state}, at worst {one.peak}"),
            percent(one.share),
            _time(one.onset),
            _time(one.raised_at),
            "" if one.resolved_at is None else _time(one.resolved_at),
        )
        for one in found.incident.alerts
    ]
    if rows:
        yield "<h2>Alerts</h2>" + _table(("signal", "segment", "state", "share", "since", "raised", "ended"), rows)


def _happened(found: Gathered) -> Iterator[str]:
    yield "<h2>What happened, and who was told</h2>"
    rows = [
        (
            _time(event.at),
            escape(_what(event)),
            escape("" if event.to_state is None else f"{event.from_state or '?'} → {event.to_state}"),
            escape(event.who),
            escape(event.why),
            "<br>".join(escape(delivery_words(one)) for one in found.deliveries if one.event_id == event.id),
        )
        for event in found.events
    ]
    yield _table(("at", "what", "state", "by", "why", "told"), rows) if rows else "<p>Nothing is recorded.</p>"


def _what(event: EventLine) -> str:
    kind = event.kind.replace("_", " ")
    if event.signal is None:
        return kind
    return f"{kind}: {SIGNALS.get(event.signal, event.signal)}, {event.segment or 'all traffic'}"


def _stream(stream: str) -> str:
    name, _, segment = stream.partition(":")
    signal = {"pooled": "fraction", "segment": "fraction"}.get(name, name)
    return f"{SIGNALS.get(signal, signal)}, {segment or 'all traffic'}"


def _evidence(found: Gathered) -> Iterator[str]:
    if not found.transitions:
        return
    rows = [
        (
            _time(one.tick),
            escape(_stream(one.stream)),
            escape(f"{one.from_state} → {one.state}"),
            f"10<sup>{one.log_evidence / 2.302585:.1f}</sup> to 1",
        )
        for one in found.transitions
    ]
    yield "<h2>Transitions of the evidence</h2>" + _table(("minute", "stream", "state", "odds against normal"), rows)


def _samples(found: Gathered) -> Iterator[str]:
    yield "<h2>Samples</h2>"
    if not found.pictures:
        yield "<p>Made for a reader who sees no images: samples are listed in samples/manifest.csv alone.</p>"
        return
    for title, some in (("Unusual since the onset", found.unusual), ("Not unusual", found.usual)):
        shown = "".join(_figure(one, found.reference.classes) for one in some)
        yield f'<h3>{title}</h3><div class="pictures">{shown}</div>' if shown else f"<h3>{title}</h3><p>None kept.</p>"


def _figure(one: Picture, classes: Sequence[str]) -> str:
    name = classes[one.class_index] if one.class_index < len(classes) else "?"
    told = escape(f"{one.segment}, as {name}, {_at(one.event_time)}")
    image = "no picture kept"
    if one.thumbnail is not None:
        kind = "png" if one.thumbnail.startswith(b"\x89PNG") else "webp"
        data = base64.b64encode(one.thumbnail).decode()
        image = f'<img src="data:image/{kind};base64,{data}" alt="{told}">'
    odd = ' class="odd"' if one.is_ood else ""
    return f"<figure{odd}>{image}<figcaption><b>{one.score:.2f} nats</b><br>{told}</figcaption></figure>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in heads)}</tr></thead>" if heads else ""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="panel scroll told"><table>{head}<tbody>{body}</tbody></table></div>'


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _at(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _time(at: datetime) -> str:
    return f"<time>{_at(at)}</time>"
