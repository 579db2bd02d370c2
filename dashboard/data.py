"""What the database says, cached for some seconds. Cached functions take scalars alone: a key of the cache is exact.

The first argument, `key`, is the database's name: two databases never answer for one another.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import streamlit as st
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from dashboard.access import may_see_images
from dashboard.board import board
from dashboard.coverage import MOST_ROWS, Covered, Usual, covered, usual
from dashboard.markup import HIDDEN
from dashboard.originals import Expired, Original
from dashboard.windows import Cut, Window, aligned, coarse, to_ms
from pipeline.alerts.precision import Judged
from pipeline.errors import OodwatchError
from pipeline.records import Float64s, Ints, Reference, ReferenceImage
from pipeline.reports.bundle import bundle
from pipeline.shift.baseline import Baseline
from pipeline.shift.folding import POOLED
from pipeline.shift.histogram import FINE_BINS
from pipeline.shift.representatives import Representative, representatives
from pipeline.shift.rollup import RollUp
from pipeline.shift.rollup import without as rest_of
from pipeline.stages.answering import Composer
from pipeline.stages.bundling import gather
from pipeline.storage.baselines import BaselineLine, list_baselines, newest_baseline, read_baseline
from pipeline.storage.coverage import window_samples
from pipeline.storage.deployments import deployment_key
from pipeline.storage.engine import (
    current_revision,
    describe,
    is_transient,
    reading,
    revision_problem,
    stored_revision,
)
from pipeline.storage.incident_pages import (
    DeliveryLine,
    IncidentLine,
    MarkLine,
    TransitionLine,
    VerdictLine,
    count_pages,
    deployment_of_incident,
    read_deliveries,
    read_incident,
    read_incidents,
    read_marks,
    read_transitions,
    read_verdicts,
)
from pipeline.storage.incidents import EventLine
from pipeline.storage.incidents import history as read_history
from pipeline.storage.minutes import first_minute
from pipeline.storage.model_events import ModelEvent, list_events, newest_activation
from pipeline.storage.monitoring import (
    Watched,
    made_levels,
    read_position,
    reference_names,
    stream_clocks,
    watched_deployments,
)
from pipeline.storage.packages import RegisteredPackage, list_packages
from pipeline.storage.processes import Process, list_processes
from pipeline.storage.references import (
    ReferenceLine,
    list_references,
    reference_by_key,
    reference_features,
    reference_images,
)
from pipeline.storage.reviews import ReviewLine, flagged_judged, newest_reviews
from pipeline.storage.reviews import history_of_image as read_reviews_of_image
from pipeline.storage.sample_pages import Order, Picture, pictures_by_key, read_pictures
from pipeline.storage.scores import DeadLetterLine, ExportedScore, dead_letters, flagged_scores
from pipeline.storage.series import Bucket, Totals, oldest_ticks, read_buckets, read_sums, read_totals, spans_of
from pipeline.storage.streams import LedgerLine, ledger
from pipeline.storage.support_series import SupportSum, support_by_segment, support_over_time
from pipeline.storage.ticks import counted_segment_names, segment_names

_FRESH_S = 5
_STANDING_S = 60  # what changes by people's hands alone
_INCIDENTS = 100
_BUSY = re.compile("locked|lock timeout|statement timeout|too many (clients|connections)")


class Fine(NamedTuple):
    """Scores of t buckets."""

    start: Ints  # (t,) ms
    n: Ints
    flags: Ints  # as scored
    fine: Ints  # (t, 256)


class NothingYet(OodwatchError):
    """The database holds no deployment: nothing has been scored."""


class Unread(OodwatchError):
    """The database gave nothing: in a few words, and why, with the cure."""

    def __init__(self, headline: str, why: str) -> None:
        super().__init__(why)
        self.headline = headline


@dataclass(frozen=True, slots=True)
class Standing:
    """How a deployment stands: read at once, so that it fits together."""

    deployment: Watched
    references: tuple[int, ...]  # all that are stored
    segments: dict[int, str]
    listed: dict[int, str]  # of them those that were ever counted
    oldest: dict[int, datetime]  # where each level of ticks begins
    made_until: dict[int, datetime]
    newest_image: datetime | None
    evaluated_until: datetime | None
    ledger: tuple[LedgerLine, ...]
    processes: tuple[Process, ...]
    verdicts: tuple[VerdictLine, ...]
    incidents: tuple[IncidentLine, ...]
    pages: int  # within the budget's days
    last_page: datetime | None
    baseline: int | None

    @property
    def segment_keys(self) -> dict[str, int]:
        """Keys by name."""
        return {name: key for key, name in self.segments.items()}


@contextmanager
def connected() -> Iterator[Connection]:
    """A transaction that reads. Raises Unread, in one line without SQL."""
    engine = reading(board().engine)
    try:
        with engine.connect() as conn:
            if (problem := revision_problem(engine.url, _revision(board().key, conn))) is not None:
                raise Unread("The database is of another release.", problem)
            yield conn
    except DBAPIError as error:
        raise _unread(engine, error) from error


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def _revision(key: str, _conn: Connection) -> str:
    return stored_revision(_conn)


def _unread(engine: Engine, error: DBAPIError) -> Unread:
    why = describe(error, engine.url)
    if is_transient(error):
        return Unread("The database is busy." if _BUSY.search(why) else "The database did not answer.", why)
    try:
        revision = current_revision(engine)
    except DBAPIError:
        return Unread("The database refuses these pages.", why)
    if (problem := revision_problem(engine.url, revision)) is None:
        return Unread("The database refuses these pages.", why)
    return Unread("The database is empty." if revision is None else "These are not the tables of oodwatch.", problem)


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def deployments(key: str) -> list[Watched]:
    """All deployments. Raises NothingYet where there is none."""
    with connected() as conn:
        known = watched_deployments(conn, None)
    if not known:
        raise NothingYet("no images scored yet")
    return known


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def standing(key: str, name: str, *, budget_days: float) -> Standing:
    """How the deployment of this name stands."""
    now = board().clock()
    with connected() as conn:
        (deployment,) = watched_deployments(conn, name)
        position = read_position(conn, deployment.id)
        newest = [clock.newest for clock in stream_clocks(conn, deployment.id)]
        pages, last = count_pages(conn, deployment.id, since=now - timedelta(days=budget_days))
        return Standing(
            deployment=deployment,
            references=tuple(reference_names(conn)),
            segments=segment_names(conn, deployment.id),
            listed=counted_segment_names(conn, deployment.id),
            oldest=oldest_ticks(conn, deployment.id),
            made_until=made_levels(conn, deployment.id),
            newest_image=max((at for at in newest if at is not None), default=None),
            evaluated_until=None if position is None else position.evaluated_until,
            ledger=tuple(ledger(conn, deployment=name)),
            processes=tuple(one for one in list_processes(conn) if one.deployment in (None, name)),
            verdicts=tuple(read_verdicts(conn, deployment.id, deployment.reference_id)),
            incidents=tuple(read_incidents(conn, deployment.id, limit=_INCIDENTS)),
            pages=pages,
            last_page=last,
            baseline=newest_baseline(conn, deployment.id, deployment.reference_id),
        )


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def _made(key: str, deployment_id: int, _conn: Connection) -> dict[int, datetime]:
    return made_levels(_conn, deployment_id)


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def _oldest(key: str, deployment_id: int, _conn: Connection) -> dict[int, datetime]:
    return oldest_ticks(_conn, deployment_id)


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def _references(key: str, _conn: Connection) -> tuple[int, ...]:
    return tuple(reference_names(_conn))


@st.cache_resource(show_spinner=False, max_entries=16)
def reference(key: str, reference_id: int) -> Reference:
    """A reference never changes."""
    with connected() as conn:
        return reference_by_key(conn, reference_id)


def images_of_reference(key: str, reference_id: int) -> list[ReferenceImage]:
    """The images kept with a reference, which somebody may want forgotten; pictures HIDDEN from who may see none."""
    shown = may_see_images()
    found = _images_of_reference(key, reference_id, shown)
    return found if shown else [replace(one, thumbnail=HIDDEN) for one in found]


@st.cache_data(ttl=_STANDING_S, show_spinner=False, max_entries=4)
def _images_of_reference(key: str, reference_id: int, thumbnails: bool) -> list[ReferenceImage]:
    with connected() as conn:
        return reference_images(conn, reference_id, thumbnails=thumbnails)


@st.cache_resource(show_spinner=False, max_entries=16)
def baseline(key: str, deployment_id: int, reference_id: int, version: int) -> Baseline:
    """A version of a baseline never changes."""
    with connected() as conn:
        return read_baseline(conn, deployment_id, reference_id, version)


@st.cache_data(ttl=_STANDING_S, show_spinner=False)
def baselines(key: str, deployment_id: int, reference_id: int) -> list[BaselineLine]:
    """All versions."""
    with connected() as conn:
        return list_baselines(conn, deployment_id, reference_id)


@st.cache_data(ttl=_STANDING_S, show_spinner=False)
def references(key: str) -> list[ReferenceLine]:
    """All references, oldest first."""
    with connected() as conn:
        return list_references(conn)


@st.cache_data(ttl=_STANDING_S, show_spinner=False)
def packages(key: str) -> list[RegisteredPackage]:
    """All that is registered, oldest first."""
    with connected() as conn:
        return list_packages(conn)


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def model_events(key: str, deployment: str) -> list[ModelEvent]:
    """Who changed what scores, oldest first."""
    with connected() as conn:
        return list_events(conn, deployment)


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def active_package(key: str, deployment: str) -> str | None:
    """The hash of the registered package that scores; None: a worker's own."""
    with connected() as conn:
        found = deployment_key(conn, deployment)
        active = None if found is None else newest_activation(conn, found)
    return None if active is None else active.package


def buckets(
    key: str,
    stands: Standing,
    window: Window,
    how: Cut,
    segments: tuple[int, ...] | None,
    without: tuple[int, ...] = (),
) -> list[Bucket]:
    """A window's buckets, of these segments (POOLED: all traffic) or of each (None), without those left out."""
    start, end = aligned(window, how.width)
    return _buckets(key, stands.deployment.id, start, end, how.width, how.level, segments, without)


@st.cache_data(ttl=_FRESH_S, show_spinner=False, max_entries=200)
def _buckets(
    key: str,
    deployment_id: int,
    start: datetime,
    end: datetime,
    width: int,
    level: int,
    segments: tuple[int, ...] | None,
    without: tuple[int, ...],
) -> list[Bucket]:
    with connected() as conn:
        spans = spans_of(start, end, level, _made(key, deployment_id, conn))
        known = _references(key, conn)
        return read_buckets(conn, deployment_id, known, spans, timedelta(minutes=width), segments, without)


@st.cache_data(ttl=_FRESH_S, show_spinner=False, max_entries=200)
def totals(
    key: str,
    deployment_id: int,
    start: datetime,
    end: datetime,
    reference_id: int | None = None,
    without: tuple[int, ...] = (),
) -> dict[int, Totals]:
    """Counts of a window by segment, under one or all references, without segments that are left out; from the
    coarsest level that cuts it in enough pieces."""
    with connected() as conn:
        level = coarse(Window(start, end), _oldest(key, deployment_id, conn))
        spans = spans_of(*aligned(Window(start, end), level), level, _made(key, deployment_id, conn))
        references = _references(key, conn) if reference_id is None else (reference_id,)
        found = read_totals(conn, deployment_id, references, spans)
    for left_out in without:
        n, flags = found.pop(left_out, Totals(0, 0))
        if n:
            found[POOLED] = Totals(found[POOLED].n - n, found[POOLED].flags - flags)
    return {segment: one for segment, one in found.items() if one.n}


@st.cache_data(ttl=_FRESH_S, show_spinner=False, max_entries=64)
def sums(
    key: str,
    deployment_id: int,
    reference_id: int,
    segment_id: int,
    start: datetime,
    end: datetime,
    level: int,
    without: tuple[int, ...] = (),
) -> list[tuple[datetime, RollUp]]:
    """Whole roll-ups of one segment, or of all traffic (POOLED) without those left out."""
    with connected() as conn:
        window = aligned(Window(start, end), level)
        spans = spans_of(*window, level, _made(key, deployment_id, conn))
        found = dict(read_sums(conn, deployment_id, reference_id, segment_id, spans))
        for left_out in without if segment_id == POOLED else ():
            for at, part in read_sums(conn, deployment_id, reference_id, left_out, spans):
                found[at] = rest_of(found[at], part)
    return [(at, one) for at, one in found.items() if one.n]


@st.cache_data(ttl=_STANDING_S, show_spinner=False, max_entries=8)
def fine_over_time(
    key: str,
    deployment_id: int,
    reference_id: int,
    segment_id: int,
    window: Window,
    how: Cut,
    without: tuple[int, ...] = (),
) -> Fine:
    """Fine histograms of the buckets of a window; kept for a minute, in which a slider is dragged."""
    own = key, deployment_id, reference_id, segment_id
    found = sums(*own, *aligned(window, how.width), how.level, without)
    at = np.array([to_ms(start) for start, _ in found], np.int64) // (how.width * 60_000)
    starts, index = np.unique(at, return_inverse=True)
    table = np.zeros((len(starts), FINE_BINS), np.int64)
    counts = np.zeros((2, len(starts)), np.int64)
    for row, (_, one) in zip(index, found, strict=True):
        table[row] += one.fine_histogram
        counts[:, row] += one.n, one.flags
    return Fine(starts * how.width * 60_000, counts[0], counts[1], table)


def pictures(
    key: str,
    deployment_id: int,
    start: datetime,
    end: datetime,
    segments: tuple[int, ...],
    flagged: bool | None,
    order: Order,
    limit: int,
) -> list[Picture]:
    """Samples of a window; pictures HIDDEN from who may see none."""
    shown = may_see_images()
    found = _pictures(key, deployment_id, start, end, segments, flagged, order, limit, shown)
    return found if shown else [one._replace(thumbnail=HIDDEN) for one in found]


@st.cache_data(ttl=_FRESH_S, show_spinner=False, max_entries=64)
def _pictures(
    key: str,
    deployment_id: int,
    start: datetime,
    end: datetime,
    segments: tuple[int, ...],
    flagged: bool | None,
    order: Order,
    limit: int,
    thumbnails: bool,
) -> list[Picture]:
    with connected() as conn:
        return read_pictures(
            conn,
            deployment_id,
            (start, end),
            segments=segments,
            flagged=flagged,
            order=order,
            limit=limit,
            thumbnails=thumbnails,
        )


def flagged(name: str, window: Window, segments: tuple[int, ...], limit: int) -> list[ExportedScore]:
    """The newest unusual images of a window, for a file; not kept."""
    with connected() as conn:
        return flagged_scores(conn, name, *window, segments=segments, limit=limit)


def original(key: str, sample: int) -> Original | Expired | str:
    """A sample's original; a text: why it cannot be shown. Raises LookupError where there is no log, or no right."""
    if board().originals is None or not may_see_images():
        raise LookupError("originals are not shown here")
    return _original(key, sample)


@st.cache_data(ttl=_STANDING_S, show_spinner="Reading the log …", max_entries=4)
def _original(key: str, sample: int) -> Original | Expired | str:
    log = board().originals
    assert log is not None, "who asks has looked"
    try:
        return log.read(sample)
    except OodwatchError as error:
        return str(error)  # kept for a while as well: a log that is away is not asked at every refresh


def samples_by_key(deployment_id: int, samples: Sequence[int]) -> tuple[list[Picture], dict[int, ReviewLine]]:
    """These samples, as far as they are kept, and what people last said of them. Not cached: asked for a download."""
    with connected() as conn:
        found = pictures_by_key(conn, deployment_id, samples, thumbnails=may_see_images())
        return found, newest_reviews(conn, samples)


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def reviews(key: str, samples: tuple[int, ...]) -> dict[int, ReviewLine]:
    """What people last said of these samples."""
    with connected() as conn:
        return newest_reviews(conn, samples)


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def history_of_image(key: str, sample: int) -> list[ReviewLine]:
    """All that people ever said of a sample's image."""
    with connected() as conn:
        return read_reviews_of_image(conn, sample)


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def judged(key: str, deployment_id: int) -> list[Judged]:
    """Flagged images that people have judged."""
    with connected() as conn:
        return flagged_judged(conn, deployment_id)


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def incident(key: str, deployment_id: int, incident_id: int) -> IncidentLine | None:
    """One incident, however old."""
    with connected() as conn:
        return read_incident(conn, deployment_id, incident_id)


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def history(key: str, incident_id: int) -> tuple[list[EventLine], list[DeliveryLine]]:
    """What happened to an incident, and what was told of it."""
    with connected() as conn:
        return read_history(conn, [incident_id], payloads=True), read_deliveries(conn, incident_id)


def evidence(incident_id: int, *, pictures: bool) -> bytes:
    """All that is stored of an incident, as a zip; not kept."""
    with connected() as conn:
        composer = Composer(board().url, *board().levels)
        return bundle(gather(conn, composer, incident_id, now=board().clock(), pictures=pictures))


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def marks(key: str, deployment_id: int, start: datetime, end: datetime) -> list[MarkLine]:
    """What people did in a window."""
    with connected() as conn:
        return read_marks(conn, deployment_id, start, end)


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def transitions(key: str, deployment_id: int, start: datetime, end: datetime) -> list[TransitionLine]:
    """Changes of state in a window."""
    with connected() as conn:
        return read_transitions(conn, deployment_id, start, end)


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def acceptable(key: str, deployment_id: int, reference_id: int) -> Window | None:
    """The stored minutes of a reference that are judged; None: there are none."""
    with connected() as conn:
        first, position = first_minute(conn, deployment_id, reference_id), read_position(conn, deployment_id)
    until = None if position is None else position.evaluated_until
    return None if first is None or until is None or first >= until else Window(first, until)


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def newest_dead_letters(key: str, name: str, limit: int) -> list[DeadLetterLine]:
    """The newest dead letters of a deployment."""
    with connected() as conn:
        return list(dead_letters(conn, deployment=name, limit=limit))


@st.cache_data(ttl=_FRESH_S, show_spinner=False, max_entries=64)
def supports(
    key: str, deployment_id: int, reference_id: int, window: Window, how: Cut, segments: tuple[int, ...]
) -> dict[tuple[int, datetime], SupportSum]:
    """How well a reference supports these segments (POOLED: all traffic), by bucket."""
    with connected() as conn:
        spans = spans_of(*aligned(window, how.width), how.level, _made(key, deployment_id, conn))
        return support_over_time(conn, deployment_id, reference_id, spans, how.step, segments)


@st.cache_data(ttl=_FRESH_S, show_spinner=False, max_entries=64)
def support_totals(key: str, deployment_id: int, reference_id: int, window: Window) -> dict[int, SupportSum]:
    """The same of a whole window, by segment."""
    with connected() as conn:
        level = coarse(window, _oldest(key, deployment_id, conn))
        spans = spans_of(*aligned(window, level), level, _made(key, deployment_id, conn))
        return support_by_segment(conn, deployment_id, reference_id, spans)


@st.cache_data(ttl=_STANDING_S, show_spinner=False, max_entries=4)
def usual_support(key: str, reference_id: int) -> Usual | None:
    """P-precision without a change."""
    return usual(_rows_of_reference(key, reference_id))


@st.cache_data(ttl=_STANDING_S, show_spinner=False, max_entries=16)
def coverage_of_reference(
    key: str, deployment_id: int, reference_id: int, start: datetime, end: datetime, segment: str | None
) -> tuple[Covered | None, int]:
    """How a window's random samples cover the images kept with a reference, and how many samples that were."""
    rows, keys = _rows_of_window(key, deployment_id, reference_id, start, end, segment)
    if not keys:
        return None, 0
    return covered(_rows_of_reference(key, reference_id), rows, rng=np.random.default_rng(0)), len(keys)


def representing(
    key: str, deployment_id: int, reference_id: int, start: datetime, end: datetime, segment: str | None, most: int
) -> tuple[list[tuple[Picture, Representative]], int]:
    """Samples of a window that represent what is different from the reference, and how many they were chosen from."""
    shown = may_see_images()
    found, n = _representing(key, deployment_id, reference_id, start, end, segment, most, shown)
    return found if shown else [(one._replace(thumbnail=HIDDEN), telling) for one, telling in found], n


@st.cache_data(ttl=_STANDING_S, show_spinner=False, max_entries=16)
def _representing(
    key: str,
    deployment_id: int,
    reference_id: int,
    start: datetime,
    end: datetime,
    segment: str | None,
    most: int,
    thumbnails: bool,
) -> tuple[list[tuple[Picture, Representative]], int]:
    rows, keys = _rows_of_window(key, deployment_id, reference_id, start, end, segment)
    kept = _rows_of_reference(key, reference_id)
    found = representatives(kept, rows, most, rng=np.random.default_rng(0)) if keys else []
    with connected() as conn:
        chosen = [keys[one.row] for one in found]
        known = {one.id: one for one in pictures_by_key(conn, deployment_id, chosen, thumbnails=thumbnails)}
    return [(known[keys[one.row]], one) for one in found if keys[one.row] in known], len(keys)


def _rows_of_window(
    key: str, deployment_id: int, reference_id: int, start: datetime, end: datetime, segment: str | None
) -> tuple[Float64s, list[int]]:
    """Projected features of random samples of a reference's model, and the samples' keys."""
    basis = reference(key, reference_id)
    with connected() as conn:
        samples = window_samples(conn, deployment_id, start, end, segment=segment, limit=MOST_ROWS, thumbnails=False)
    own = [one for one in samples if one.model_id == basis.model_id]
    if not own:
        return np.zeros((0, 1)), []
    features = np.stack([np.frombuffer(one.features, "<f2") for one in own]).astype(np.float64)
    return (features - basis.feature_mean) @ basis.projection, [one.id for one in own]


def _rows_of_reference(key: str, reference_id: int) -> Float64s:
    with connected() as conn:
        return reference_features(conn, reference_id)


def fine_histogram(rollups: list[tuple[datetime, RollUp]]) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    """The sum of the fine histograms, (256,); None where there is no image."""
    return np.sum([one.fine_histogram for _, one in rollups], axis=0) if rollups else None


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def home_of_incident(key: str, incident_id: int) -> str | None:
    """The deployment that an incident belongs to; None: there is no such incident."""
    with connected() as conn:
        return deployment_of_incident(conn, incident_id)


@st.cache_data(ttl=_FRESH_S, show_spinner=False)
def names_of_segments(key: str, name: str) -> list[str]:
    """Segments of a deployment that were ever counted, by name."""
    with connected() as conn:
        return [
            name
            for one in watched_deployments(conn, name)
            for name in sorted(counted_segment_names(conn, one.id).values())
        ]
