"""An incident and what is stored of its time → the answer that people are told. Reads only.

The cost is bounded however long it lasts: windows are covered by few ticks of all lengths, at most fifty segments
are looked at closely, and two thousand images stand for all.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
from sqlalchemy import Connection

from pipeline.alerts.accuracy import LabelledCount, Matters, confidence_threshold, estimated, from_labels
from pipeline.alerts.answer import Answer, Names, Trust, Value, leading_alert, payload
from pipeline.alerts.cause import rank
from pipeline.alerts.incident import SILENCE, Alert, Event, Incident
from pipeline.alerts.signs import Evidence, Mark, ModelChange
from pipeline.records import ENERGY, Reference
from pipeline.shift.baseline import Baseline
from pipeline.shift.threshold import PROVISIONAL_BELOW, clopper_pearson
from pipeline.stages.comparing import Windows, changed_segments, compare, shared_out
from pipeline.storage.baselines import list_baselines, newest_baseline, read_baseline
from pipeline.storage.evidence import (
    began_scoring,
    label_sums,
    labelled_confidences,
    outcomes,
    sample_keys,
    standing,
)
from pipeline.storage.marks import read_marks
from pipeline.storage.monitoring import Watched, read_position, reference_names
from pipeline.storage.pipeline_health import why_invalid
from pipeline.storage.references import model_ids, reference_by_key
from pipeline.storage.ticks import segment_names

_IMAGES = 2_000  # that stand for all
_PICTURES = 4
_MARKS_FROM = timedelta(hours=24)
_MOST_MARKS = 10
_STALE = timedelta(minutes=5)
_LEAST_SCORED = 0.999
_FEW = 100  # effective images
_MINUTE = timedelta(minutes=1)
_TOGETHER = timedelta(minutes=15)  # onsets of one trouble in several segments


@dataclass(frozen=True, slots=True)
class Composer:
    """Composes what is told of an event, as webhook v1.

    `dashboard_url` is where links lead; `warning` and `critical` are the levels of the share of flagged images.
    """

    dashboard_url: str | None
    warning: float
    critical: float

    def __call__(
        self,
        conn: Connection,
        deployment: Watched,
        incident: Incident,
        event: Event,
        event_id: int | None = None,
    ) -> dict[str, Any]:
        """The payload; `transition` is left to whoever stores the event, where it is not stored yet."""
        return payload(self.answer(conn, deployment, incident, event), event, event_id)

    def answer(self, conn: Connection, deployment: Watched, incident: Incident, event: Event) -> Answer:
        """What is known as of an event: of the alert that it tells of; of the incident, what its worst alert says."""
        lead = leading_alert(incident, event)
        reference_id = deployment.reference_id if lead is None or not lead.reference_id else lead.reference_id
        reference = reference_by_key(conn, reference_id)
        version = newest_baseline(conn, deployment.id, reference_id)
        start, end = _window(conn, deployment, incident, lead, event)
        about = _About(
            conn,
            deployment,
            incident,
            lead,
            reference,
            None if version is None else read_baseline(conn, deployment.id, reference_id, version),
            _accepted_share(conn, deployment.id, reference_id, version),
            why_invalid(conn, deployment, now=event.at),
            event.at,
            start,
            end,
        )
        names = Names(deployment.name, reference.model_id, reference.name, version)
        levels = (self.warning, self.critical)
        if incident.kind != "shift":
            return about.of_health(names, levels, self.dashboard_url)
        return about.of_shift(names, levels, self.dashboard_url)


@dataclass(frozen=True, slots=True)
class _About:
    """One incident, and where to look."""

    conn: Connection
    deployment: Watched
    incident: Incident
    lead: Alert | None
    reference: Reference
    baseline: Baseline | None
    accepted: float | None  # share of flagged images
    invalid: str | None  # why scores cannot be held against their reference, where that is so
    at: datetime  # processing time
    start: datetime  # event time
    end: datetime

    @property
    def d(self) -> float:
        """Images that count as one, as accepted traffic says; 1 where none was."""
        if self.baseline is None:
            return 1.0
        own = self.baseline.of(self._segment) if self._segment else None
        return (own or self.baseline.pooled).d

    @property
    def _segment(self) -> str:
        """What the alert is about; empty: all traffic."""
        return "" if self.lead is None else self.lead.segment

    def of_health(self, names: Names, levels: tuple[float, float], url: str | None) -> Answer:
        """Of the pipeline's own troubles nothing is compared."""
        return Answer(
            names=names,
            incident=self.incident,
            lead=self.lead,
            window=(self.start, self.end),
            levels=levels,
            value=None,
            attribution=None,
            causes=(),
            matters=None,
            trust=self._trust(0.0),
            marks=self._marks(),
            unusual=(),
            usual=(),
            dashboard_url=url,
        )

    def of_shift(self, names: Names, levels: tuple[float, float], url: str | None) -> Answer:
        """The window since the onset, held against what was before."""
        segments = segment_names(self.conn, self.deployment.id)
        windows = compare(
            self.conn,
            self.deployment.id,
            self.reference,
            self.baseline,
            self.accepted,
            self.start,
            self.end,
            segments,
            self._segment,
        )
        value = self._value(windows)
        changed = self._changed(windows)
        keys = {name: key for key, name in segments.items()}
        shown = [keys[name] for name in changed[:_PICTURES]] or [keys[name] for name in windows.largest]
        if self._segment in keys:
            shown = [keys[self._segment]]
        return Answer(
            names=names,
            incident=self.incident,
            lead=self.lead,
            window=(self.start, self.end),
            levels=levels,
            value=value,
            attribution=shared_out(windows, self.reference.classes, self.d, self._segment),
            causes=rank(self._evidence(windows, changed)),
            matters=self._matters(segments),
            trust=self._trust(value.n_effective),
            marks=self._marks(),
            unusual=tuple(sample_keys(self.conn, "strange", shown, self.start, self.end, limit=_PICTURES)),
            usual=tuple(sample_keys(self.conn, "random", shown, windows.before_start, self.start, limit=_PICTURES)),
            dashboard_url=url,
        )

    def _value(self, windows: Windows) -> Value:
        lead, d = self.lead, self.d
        if lead is not None and lead.signal in {"rate", SILENCE}:
            now = windows.rate_now
            return Value("images a minute", now, None, None, windows.rate_before, windows.n, windows.n / d)
        part = windows.parts.get(self._segment) if self._segment else windows.all
        if part is None or not part.n:
            return Value("share of images flagged", None, None, None, windows.all.q, 0, 0)
        low, high = clopper_pearson(part.k / d, part.n / d)
        return Value("share of images flagged", part.k / part.n, low, high, part.q, part.n, part.n / d)

    def _changed(self, windows: Windows) -> list[str]:
        """The alert's own segment first, then those that changed with it."""
        changed = changed_segments(windows, self.d)
        together = [name for name in changed if name != self._segment and not self._is_apart(name)]
        return [self._segment, *together] if self._segment in windows.now else together or changed

    def _is_apart(self, segment: str) -> bool:
        """Whether what is wrong there began at another time: then it is another trouble."""
        of = [alert.onset for alert in self.incident.alerts if alert.segment == segment]
        return bool(of) and all(abs(onset - self.start) > _TOGETHER for onset in of)

    def _evidence(self, windows: Windows, changed: list[str]) -> Evidence:
        looked_at = [self._segment] if self._segment in windows.now else changed
        before, now = windows.profiles(looked_at)
        return Evidence(
            onset=self.start,
            before=before,
            now=now,
            normal=windows.normal_of(looked_at),
            segments=sum(part.n > 0 for part in windows.parts.values()),
            changed=changed,
            classes=self.reference.classes,
            rate_before=windows.rate_before,
            rate_now=windows.rate_now,
            d=self.d,
            silent=any(
                alert.signal == SILENCE and abs(alert.onset - self.start) <= _TOGETHER
                for alert in self.incident.open_alerts
            ),
            changes=self._model_changes(windows),
            invalid=self.invalid or "",
            marks=self._marks(),
            card=_card(self.reference),
        )

    def _model_changes(self, windows: Windows) -> tuple[ModelChange, ...]:
        """Which references began to score while others had before; in order."""
        if len(windows.references) < 2:
            return ()
        began = began_scoring(self.conn, self.deployment.id, windows.references, windows.before_start, self.end)
        names, models = reference_names(self.conn), model_ids(self.conn, windows.references)
        order = sorted(began, key=lambda key: (began[key], key))
        return tuple(
            ModelChange(began[new], names[old], names[new], models[old] != models[new]) for old, new in pairwise(order)
        )

    def _marks(self) -> tuple[Mark, ...]:
        lines = read_marks(
            self.conn,
            deployment_id=self.deployment.id,
            start=self.start - _MARKS_FROM,
            end=max(self.end, self.at) + _MINUTE,
            limit=_MOST_MARKS,
        )
        return tuple(Mark(line.at, line.text, line.who) for line in lines)

    def _matters(self, segments: dict[int, str]) -> Matters:
        reference, d = self.reference, self.d
        assert reference.id is not None
        known = labelled_confidences(self.conn, reference.id)
        index = {name: at for at, name in enumerate(reference.classes)}
        right = np.array([index.get(label) == said for label, said, _ in known], np.bool_)
        confidence = confidence_threshold(np.array([msp for *_, msp in known]), right)
        seen = outcomes(self.conn, self.deployment.id, reference.id, self.start, self.end, limit=_IMAGES)
        late = [
            LabelledCount(segments[one.segment_id], one.is_ood, one.n, one.right)
            for one in label_sums(self.conn, self.deployment.id, self.start, self.end)
        ]
        header = [
            LabelledCount(segments[one.segment_id], one.is_ood, 1, int(index.get(one.label) == one.class_index))
            for one in seen
            if one.label is not None
        ]
        use_late = sum(one.n for one in late) >= len(header)
        because = ""
        if confidence is None:
            because = f"{len(known)} images of reference {reference.name} have a label and a confidence: too few"
        elif not seen:
            because = "no image is stored since the onset"
        return Matters(
            reference_accuracy=None if confidence is None else confidence.accuracy,
            at_most=None if confidence is None else estimated(confidence, np.array([one.msp for one in seen]), d),
            labelled=from_labels(late if use_late else header, "labels" if use_late else "header", d),
            because=because,
        )

    def _trust(self, n_effective: float) -> Trust:
        now = standing(self.conn, self.deployment.id)
        age = None if now.newest is None else self.at - now.newest
        counted = now.scored + now.lost
        ratio = now.scored / counted if counted else None
        doubts = []
        if age is not None and age > _STALE:
            doubts.append(f"the newest image is {age / _MINUTE:,.0f} min old")
        if ratio is not None and ratio < _LEAST_SCORED:
            doubts.append(f"{now.lost:,} of {counted:,} records were not scored")
        if self.incident.kind == "shift" and self.invalid is not None:
            doubts.append(f"nobody is told of what rests on scores now: {self.invalid}")
        if self.incident.kind == "shift" and n_effective < _FEW:
            doubts.append(f"{n_effective:,.0f} effective images since the onset are few")
        if self.incident.kind == "shift" and self.baseline is None:
            doubts.append("no traffic was accepted as normal: the images may depend on one another more than is known")
        if self.reference.n < PROVISIONAL_BELOW:
            doubts.append(f"the reference has only {self.reference.n:,} calibration images")
        age_s = None if age is None else max(0.0, round(age.total_seconds(), 1))
        return Trust(age_s, now.waiting, ratio, n_effective, tuple(doubts))


def _window(
    conn: Connection, deployment: Watched, incident: Incident, lead: Alert | None, event: Event
) -> tuple[datetime, datetime]:
    """From the alert's onset to where evaluation stands, or stood when the alert ended; a minute at least."""
    position = read_position(conn, deployment.id)
    onset, ended = (incident.onset, incident.resolved_at) if lead is None else (lead.onset, lead.resolved_at)
    until = event.at if ended is None else ended
    if position is not None and position.evaluated_until is not None:
        until = min(until, position.evaluated_until)
    return onset, max(until, onset + _MINUTE)


def _accepted_share(conn: Connection, deployment_id: int, reference_id: int, version: int | None) -> float | None:
    lines = [] if version is None else list_baselines(conn, deployment_id, reference_id)
    return next((float(line.summary["share"]) for line in lines if line.version == version), None)


def _card(reference: Reference) -> dict[str, Any]:
    """Score histograms of damage on the reference's own images; nothing of the undamaged, or in older cards."""
    score = reference.score_name or ENERGY
    lines = () if reference.card is None else reference.card.lines[1:]
    return {line.kind: np.array(line.shares[score]) for line in lines if line.shares is not None}
