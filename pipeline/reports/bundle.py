"""The evidence of an incident as a zip that opens offline; of the same evidence the same bytes. Pure."""

import io
import json
import zipfile
from collections.abc import Iterator

from pipeline.alerts.page import page as as_text
from pipeline.reports.incident_page import delivery_words, incident_page
from pipeline.reports.tables import SERIES, Column, Table, as_csv, iso, series_table
from pipeline.stages.bundling import Gathered
from pipeline.storage.sample_pages import Picture

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first that a zip knows: the moment of packing is no evidence

EVENTS = (
    Column("at", "time", "when it happened"),
    Column("event", "integer", "its key, in the order of happening"),
    Column("kind", "text", "raise, escalate, acknowledge, note, resolve and others"),
    Column("signal", "text", "of the alert; empty: of the incident"),
    Column("segment", "text", "of the alert; empty: all traffic"),
    Column("from", "text", "state before"),
    Column("to", "text", "state after"),
    Column("who", "text", "a person, or the monitor"),
    Column("why", "text", "in words"),
    Column("told", "text", "on which channels, and how that went"),
)
MANIFEST = (
    Column("file", "text", "beside this list; empty: no picture"),
    Column("sample", "integer", "key of the stored sample"),
    Column("of", "text", "unusual: since the onset; usual: not flagged, of before it where there are any"),
    Column("segment", "text", "part of the traffic"),
    Column("event_time", "time", "when the image was taken"),
    Column("id", "text", "the message's own, if it has one"),
    Column("predicted", "text", "class"),
    Column("label", "text", "ground truth, if known"),
    Column("score", "number", "nats; higher is more unusual"),
    Column("unusual", "flag", "score above the threshold"),
    Column("topic", "text", "where the original lies, as long as the log keeps it"),
    Column("partition", "integer", "of the topic"),
    Column("offset", "integer", "of the record"),
)


def bundle(found: Gathered) -> bytes:
    """`index.html` is the way in; `README.txt` says what else there is."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name, content in _files(found):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, content)
    return out.getvalue()


def _files(found: Gathered) -> Iterator[tuple[str, bytes]]:
    yield "README.txt", _readme(found).encode()
    yield "index.html", incident_page(found).encode()
    yield "why.json", (json.dumps(found.payload, indent=1, ensure_ascii=False) + "\n").encode()
    yield "events.csv", as_csv(_events(found))
    yield "series.csv", as_csv(series_table(found.buckets, found.names, found.step, {}))
    named = list(_named(found))
    yield "samples/manifest.csv", as_csv(_manifest(found, named))
    for name, _, one in named:
        if name and one.thumbnail is not None:
            yield f"samples/{name}", one.thumbnail


def _named(found: Gathered) -> Iterator[tuple[str, str, Picture]]:
    """Names of our own: those of records come from strangers."""
    for of, some in (("unusual", found.unusual), ("usual", found.usual)):
        for at, one in enumerate(some, 1):
            suffix = "" if one.thumbnail is None else "png" if one.thumbnail.startswith(b"\x89PNG") else "webp"
            yield f"{of}-{at:02}-{one.id}.{suffix}" if suffix else "", of, one


def _manifest(found: Gathered, named: list[tuple[str, str, Picture]]) -> Table:
    classes = found.reference.classes
    rows = [
        (
            name,
            one.id,
            of,
            one.segment,
            one.event_time,
            one.name,
            classes[one.class_index] if one.class_index < len(classes) else None,
            one.label,
            one.score,
            one.is_ood,
            one.topic,
            one.partition,
            one.offset,
        )
        for name, of, one in named
    ]
    return Table(MANIFEST, rows, {})


def _events(found: Gathered) -> Table:
    told = {
        event.id: "; ".join(delivery_words(one) for one in found.deliveries if one.event_id == event.id)
        for event in found.events
    }
    rows = [
        (
            event.at,
            event.id,
            event.kind,
            event.signal,
            event.segment,
            event.from_state,
            event.to_state,
            event.who,
            event.why,
            told[event.id],
        )
        for event in found.events
    ]
    return Table(EVENTS, rows, {})


def _readme(found: Gathered) -> str:
    told = found.payload
    pictures = "" if found.pictures else " Made for a reader who sees no images: there are none in it."
    parts = [
        f"Evidence of incident {told['incident']} of {told['deployment']}, as of {iso(found.made_at)}.{pictures}",
        "Made by oodwatch. All times are UTC. Nothing here asks anything of a network.",
        "",
        "index.html            the incident as a page: open it in a browser",
        "why.json              the answer as webhooks get it (version 1)",
        "events.csv            what happened, who did it, who was told",
        f"series.csv            counts by step and segment, {iso(found.window[0])} to {iso(found.window[1])}",
        "samples/manifest.csv  the samples, and where their originals lie",
        "samples/              their pictures, reduced",
    ]
    for name, columns in (("events.csv", EVENTS), ("series.csv", SERIES), ("samples/manifest.csv", MANIFEST)):
        parts += ["", f"Columns of {name}", *(f"  {column.name:<12} {column.says}" for column in columns)]
    return "\n".join([*parts, "", "What was answered", "", as_text(told), ""])
