"""A database with a day of six cameras in it, of which one has looked through fog for the last two hours."""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
from sqlalchemy import Engine, insert, update

from dashboard.coverage import radius, supports
from pipeline.records import Bounds, Card, CardLine, Float64s, Ints, Partition, Reference, ReferenceImage
from pipeline.scoring.evaluation import shares_in_bins, total_variation
from pipeline.shift.baseline import Baseline, Normal
from pipeline.shift.folding import LEVELS, POOLED, TickKey
from pipeline.shift.histogram import fine_edges, rank_edges
from pipeline.shift.rollup import RollUp, merge, summarise_groups
from pipeline.shift.threshold import conformal_rank, flag_rate_bounds
from pipeline.stages.rolling import roll_up
from pipeline.storage.alert_schema import AlertRow, IncidentEventRow, IncidentRow, MarkRow, OutboxRow
from pipeline.storage.baselines import BaselineLine, save_baseline
from pipeline.storage.deployments import ensure_deployment, ensure_segments
from pipeline.storage.engine import open_database
from pipeline.storage.incidents import begin_alerting
from pipeline.storage.monitoring import Watched, begin_monitoring, claim, read_position
from pipeline.storage.processes import Process, beat
from pipeline.storage.references import save_reference
from pipeline.storage.samples import NewSample, insert_samples
from pipeline.storage.schema import StreamRow, TransitionRow, VerdictRow, to_microseconds
from pipeline.storage.scores import NewDeadLetter, NewScore, insert_dead_letters, insert_scores
from pipeline.storage.streams import begin_stream
from pipeline.storage.ticks import StoredTick, put_ticks
from tests.browser.scenes import CLASSES, scene

#: What the clock says in the scene, and until when ticks are complete.
NOW = datetime(2026, 11, 24, 3, 1, 20, tzinfo=UTC)
END = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
ONSET = datetime(2026, 11, 24, 0, 49, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CAMERAS = ("harbour/north", "harbour/south", "ring/east", "ring/west", "station", "tunnel")
FOGGY = "ring/west"
DRILLED = "cam-drill"  # only a drill has ever named it
RATES = (52, 38, 66, 44, 27, 33)  # images a minute by day
_KEPT = 120  # images of the reference
State = Literal["incident", "quiet"]


@dataclass(frozen=True, slots=True)
class Seeded:
    """Keys of what was written."""

    deployment_id: int
    reference_id: int
    incident_id: int | None


def seed(url: str, *, state: State = "incident", hours: int = 24) -> Seeded:
    """Fill the empty database."""
    engine = open_database(url)
    reference = reference_of_seed()
    with engine.begin() as conn:
        reference_id = save_reference(conn, reference)
        deployment_id = ensure_deployment(
            conn, "road-users", model_id=reference.model_id, reference_id=reference_id, now=END - timedelta(days=30)
        )
        segments = ensure_segments(conn, deployment_id, CAMERAS, limit=100)
        ensure_segments(conn, deployment_id, [DRILLED], limit=100)
    streams = _write_streams(engine, deployment_id)
    _write_ticks(engine, deployment_id, reference_id, reference, segments, state, hours)
    _write_samples(engine, (deployment_id, reference_id), segments, streams, state)
    _write_baseline(engine, deployment_id, reference_id)
    _write_verdicts(engine, deployment_id, reference_id, state)
    _write_processes(engine)
    incident_id = _write_incidents(engine, deployment_id, reference_id, state)
    engine.dispose()
    return Seeded(deployment_id, reference_id, incident_id)


def reference_of_seed() -> Reference:
    """What was taken for normal."""
    rng = np.random.default_rng(1)
    n, alpha = 2_400, 0.02
    scores = np.sort(rng.normal(-12.4, 1.9, n) + 0.6 * rng.gamma(1.2, 1.0, n))
    rank = conformal_rank(n, alpha)
    low, high = flag_rate_bounds(n, rank)
    projected = features_of(np.arange(_KEPT) % 6, np.random.default_rng(2))
    images = tuple(
        ReferenceImage(
            file=f"val/{i:04}.jpg",
            label=CLASSES[i % 6],
            sha256=hashlib.sha256(bytes([i, 0])).digest(),
            energy=float(scores[i * 19]),
            score=float(scores[i * 19]),
            class_index=i % 6,
            projected=projected[i].astype(np.float32),
            thumbnail=scene(i, i % 6, i),
        )
        for i in range(_KEPT)
    )
    return Reference(
        name="road-resnet50-r1",
        version=1,
        model_name="road-resnet50",
        model_id="road-resnet50@9f3c1a77",
        classes=CLASSES,
        decoder="pillow",
        dtype="float32",
        score_name="energy",
        temperature=1.0,
        target_fpr=alpha,
        n=n,
        rank=rank,
        threshold=float(scores[rank - 1]),
        p0_low=low,
        p0_high=high,
        representative=True,
        created_at=END - timedelta(days=31),
        scores=scores,
        edges=rank_edges(scores),
        fine_edges=fine_edges(scores),
        class_counts=np.array([1100, 300, 150, 250, 350, 250]),
        feature_mean=np.zeros(2),
        projection=np.eye(2),
        projected_mean=projected.mean(axis=0),
        projected_covariance=np.cov(projected.T),
        images=images,
        card=_card(rank_edges(scores)),
    )


def features_of(classes: Ints, rng: np.random.Generator, *, foggy: bool = False) -> Float64s:
    """Two features an image: classes lie on a circle, what is seen through fog lies beyond it."""
    angle = classes / 6 * 2 * np.pi
    far = 14.0 if foggy else 5.0
    return far * np.column_stack([np.cos(angle), np.sin(angle)]) + rng.normal(0, 1, (len(classes), 2))


def _card(edges: Float64s) -> Card:
    """Damage that pushes so many scores beyond the threshold, and costs so many answers."""
    rng = np.random.default_rng(9)
    normal = rng.normal(-12.4, 1.9, 4_000) + 0.6 * rng.gamma(1.2, 1.0, 4_000)
    lines: list[CardLine] = []
    for kind, odd, same in (
        ("none", 0.0, 1.0),
        ("blurred", 0.31, 0.69),
        ("dark x0.3", 0.44, 0.56),
        ("noisy", 0.12, 0.88),
        ("mirrored", 0.0, 0.98),
        ("jpeg", 0.01, 0.81),
        ("rotated 90°", 0.67, 0.33),
    ):
        strange = rng.random(4_000) < odd
        shares = shares_in_bins(np.where(strange, rng.normal(-4.6, 1.5, 4_000), normal), edges)
        if not lines:
            before = shares
        moved = {"energy": total_variation(shares, before)}
        lines.append(CardLine(kind, None, same, {"energy": 0.02 + odd}, moved, {"energy": shares.tolist()}))
    return Card(200, 0.02, None, tuple(lines), "energy", "it sees most of it")


def _write_streams(engine: Engine, deployment_id: int) -> list[int]:
    keys = []
    for number in range(3):
        bounds = Bounds(Partition("road-images", "8f1c", number), 0, 0)
        with engine.begin() as conn:
            cursor = begin_stream(conn, deployment_id, bounds, first=0, owner="gpu-1:41", now=END)
            conn.execute(
                update(StreamRow)
                .where(StreamRow.id == cursor.stream_id)
                .values(
                    next_offset=412_000,
                    log_end=412_009 + number,
                    scored=411_918,
                    dead=82,
                    newest_event_time=NOW - timedelta(seconds=18 + number),
                    updated_at=NOW - timedelta(seconds=16),
                )
            )
        keys.append(cursor.stream_id)
    return keys


def _write_ticks(
    engine: Engine,
    deployment_id: int,
    reference_id: int,
    reference: Reference,
    segments: dict[str, int],
    state: State,
    hours: int,
) -> None:
    rng = np.random.default_rng(7)
    ticks: dict[TickKey, StoredTick] = {}
    kept = np.stack([image.projected for image in reference.images]).astype(np.float64)
    own = supports(kept, kept, radius(kept), is_itself=True)
    first = END - timedelta(hours=hours)
    for minute in range(hours * 60):
        at = first + minute * MINUTE
        pooled: RollUp | None = None
        for camera, name in enumerate(CAMERAS):
            gap = name == "tunnel" and END - timedelta(hours=9) <= at < END - timedelta(hours=8, minutes=10)
            n = 0 if gap else int(rng.poisson(RATES[camera] * _daylight(at)))
            if not n:
                continue
            foggy = state == "incident" and name == FOGGY and at >= ONSET
            sums = sums_of(rng, n, reference, foggy=foggy, own=own)
            ticks[TickKey(at, 1, reference_id, segments[name])] = StoredTick(sums, 0)
            pooled = sums if pooled is None else merge(pooled, sums)
        if pooled is not None:
            z = rng.normal(0.35 if state == "incident" and at >= ONSET else 0.0, 1.0, (pooled.n, 2))
            outer = (z.T @ z)[np.triu_indices(2)]
            ticks[TickKey(at, 1, reference_id, POOLED)] = StoredTick(
                replace(pooled, z_n=pooled.n, z_sum=z.sum(axis=0), z_outer=outer), 0
            )
    watched = Watched(deployment_id, "road-users", reference_id)
    with engine.begin() as conn:
        put_ticks(conn, deployment_id, ticks)
        begin_monitoring(conn, deployment_id, now=NOW)
        begin_alerting(conn, deployment_id, now=NOW)
        position = read_position(conn, deployment_id)
        assert position is not None
        claim(conn, position, now=NOW, evaluated_until=END, watermark=END + 30 * MINUTE / 60, fed_at=NOW)
    for level in LEVELS[1:]:
        while roll_up(engine, watched, level, now=NOW):
            pass


def _daylight(at: datetime) -> float:
    return 1.0 + 0.9 * float(np.sin((at.hour + at.minute / 60 - 8) / 24 * 2 * np.pi))


def sums_of(rng: np.random.Generator, n: int, reference: Reference, *, foggy: bool, own: Float64s) -> RollUp:
    """A minute of a camera; `own`: supports to draw from."""
    scores = _scores(rng, n, foggy)
    support = rng.choice(own, n)
    support[scores > -7.5] *= 0.1 if foggy else 1.0
    classes = rng.choice(6, n, p=[0.45, 0.12, 0.06, 0.1, 0.15, 0.12])
    light = rng.normal(0.8 if foggy else 0.45, 0.07, n)
    properties = np.column_stack(
        [light, rng.normal(0.08 if foggy else 0.2, 0.03, n), rng.uniform(0.02, 0.1, n), rng.random(n), np.full(n, 9e4)]
    )
    (sums,) = summarise_groups(
        np.zeros(n, np.int64),
        1,
        scores=scores,
        energies=scores,
        flags=scores > reference.threshold,
        class_index=classes,
        properties=np.clip(properties, 0, None),
        repeats=rng.random(n) < 0.01,
        late_clocks=np.zeros(n, np.bool_),
        projected=None,
        edges=reference.edges,
        fine_edges=reference.fine_edges,
        n_classes=6,
        support=support,
    )
    return sums


def _scores(rng: np.random.Generator, n: int, foggy: bool) -> Float64s:
    scores: Float64s = rng.normal(-12.4, 1.9, n) + 0.6 * rng.gamma(1.2, 1.0, n)
    if foggy:
        strange = rng.random(n) < 0.3
        scores[strange] = rng.normal(-4.6, 1.5, int(strange.sum()))
    return scores


def _write_samples(
    engine: Engine, keys: tuple[int, int], segments: dict[str, int], streams: list[int], state: State
) -> None:
    deployment_id, reference_id = keys
    rng = np.random.default_rng(3)
    reference = reference_of_seed()
    kept = np.stack([image.projected for image in reference.images]).astype(np.float64)
    ball = radius(kept)
    scores: list[NewScore] = []
    samples: list[NewSample] = []
    offset = 400_000
    for camera, name in enumerate(CAMERAS):
        for i in range(36):
            at = END - timedelta(minutes=6 * i + camera) - timedelta(seconds=int(rng.integers(1, 50)))
            foggy = state == "incident" and name == FOGGY and at >= ONSET
            for kind in ("strange", "random"):
                strange = kind == "strange"
                hazy = foggy and (strange or i % 3 == 0)  # what is random is as foggy as traffic is
                score = float(rng.normal(-4.8, 1.3) if hazy else rng.normal(-7.4 if strange else -12.2, 1))
                class_index = int(rng.integers(5))  # no road is empty any more
                row = features_of(np.array([class_index]), rng, foggy=hazy)
                us, offset = to_microseconds(at) + strange, offset + 1
                odd = score > reference.threshold
                scores.append(
                    NewScore(
                        stream_id=streams[camera % 3],
                        offset=offset,
                        event_time=us,
                        clock=0,
                        segment_id=segments[name],
                        reference_id=reference_id,
                        id=f"{name}-{offset}",
                        key=None,
                        label=None,
                        value_sha256=hashlib.sha256(str(offset).encode()).digest(),
                        class_index=class_index,
                        energy=score,
                        score=score,
                        msp=0.4 if odd else 0.97,
                        is_ood=int(odd),
                        repeat=0,
                        drill=0,
                        support=float(supports(row, kept, ball)[0]),
                    )
                )
                samples.append(
                    NewSample(
                        deployment_id=deployment_id,
                        reference_id=reference_id,
                        segment_id=segments[name],
                        tick=us // 60_000_000 * 60_000_000,
                        kind=kind,
                        rank=score if strange else float(rng.random()),
                        stream_id=streams[camera % 3],
                        offset=offset,
                        event_time=us,
                        thumbnail=scene(camera, class_index, offset, fog=hazy),
                        features=row[0].astype("<f2").tobytes(),
                        logits=rng.normal(0, 3, 6).astype("<f2").tobytes(),
                        headers=json.dumps({"camera": name}),
                    )
                )
    dead = NewDeadLetter(
        streams[0], 399_000, "decode", "undecodable", "cannot identify image file", to_microseconds(END), None, None,
        None, "station", 812, None,
    )  # fmt: skip
    with engine.begin() as conn:
        insert_scores(conn, scores)
        insert_samples(conn, samples, 4)
        insert_dead_letters(conn, [dead])


def _write_baseline(engine: Engine, deployment_id: int, reference_id: int) -> None:
    def normal(high: float) -> Normal:
        return Normal(np.full(48, high), np.full(48, 0.014), 1.6, None, (0.01, 0.03))

    line = BaselineLine(
        version=1,
        window_start=END - timedelta(days=17),
        window_end=END - timedelta(days=3),
        name="dana",
        reason="two weeks without an incident",
        accepted_at=END - timedelta(days=2),
        days=14,
        revoked_at=None,
        revoked_by=None,
        summary={"images": 911_204, "share": 0.0198},
    )
    with engine.begin() as conn:
        accepted = Baseline(14, normal(0.024), {name: normal(0.026) for name in CAMERAS})
        save_baseline(conn, deployment_id, reference_id, line, accepted)


def _write_verdicts(engine: Engine, deployment_id: int, reference_id: int, state: State) -> None:
    shifted = state == "incident"
    streams: dict[str, tuple[str, float, datetime | None, tuple[float | None, float | None, float | None]]] = {
        "pooled": ("shift", 21.3, ONSET, (0.066, 0.058, 0.075)) if shifted else ("ok", -1.2, None, (None,) * 3),
        "histogram": ("shift", 18.0, ONSET, (None,) * 3) if shifted else ("ok", -2.0, None, (None,) * 3),
        "low": ("ok", -5.1, None, (None,) * 3),
        "classes": ("ok", -2.2, None, (None,) * 3),
        "coverage": ("ok", -0.4, None, (None,) * 3),
        "rate": ("ok", -3.0, None, (None,) * 3),
    }
    for name in CAMERAS:
        foggy = shifted and name == FOGGY
        streams[f"segment:{name}"] = (
            ("critical", 74.6, ONSET, (0.314, 0.281, 0.349)) if foggy else ("ok", -2.6, None, (None,) * 3)
        )
    key = {"deployment_id": deployment_id, "reference_id": reference_id, "provisional": False}
    rows = [
        {
            **key,
            "stream": stream,
            "tick": END - MINUTE,
            "state": said,
            "log_evidence": evidence,
            "onset": onset,
            "share": shares[0],
            "low": shares[1],
            "high": shares[2],
        }
        for stream, (said, evidence, onset, shares) in streams.items()
    ]
    ladder = [("ok", "shift", 7, 11.8), ("shift", "warning", 9, 14.2), ("warning", "critical", 15, 23.9)]
    changes = [
        {
            **key,
            "stream": f"segment:{FOGGY}",
            "tick": ONSET + minute * MINUTE,
            "from_state": before,
            "state": after,
            "log_evidence": evidence,
            "onset": ONSET,
            "share": 0.31,
            "low": 0.25,
            "high": 0.37,
            "k": 12.0,
            "n": 40.0,
            "leading": "odds ×16",
            "decided_at": ONSET + (minute + 1) * MINUTE,
        }
        for before, after, minute, evidence in ladder
    ]
    with engine.begin() as conn:
        conn.execute(insert(VerdictRow), rows)
        if shifted:
            conn.execute(insert(TransitionRow), changes)
        conn.execute(
            insert(MarkRow).values(
                deployment_id=deployment_id,
                at=ONSET - 16 * MINUTE,
                text="deploy app 4.2",
                who="ci",
                made_at=ONSET - 15 * MINUTE,
            )
        )


def _write_processes(engine: Engine) -> None:
    lag = {"road-images/0": 9, "road-images/1": 10, "road-images/2": 11}
    state = {"ready": True, "reasons": [], "lag": lag, "images_per_second": 0.8}
    begun = END - timedelta(days=4)
    running = [
        Process("gpu-1:41", "worker", "road-users", "0.1.0", begun, NOW - timedelta(seconds=4), state),
        Process(
            "ops-1:17", "monitor", None, "0.1.0", begun, NOW - timedelta(seconds=6), {"ready": True, "reasons": []}
        ),
    ]
    with engine.begin() as conn:
        for process in running:
            beat(conn, process)


def _write_incidents(engine: Engine, deployment_id: int, reference_id: int, state: State) -> int | None:
    old = END - timedelta(days=9, hours=4)
    with engine.begin() as conn:
        past = _incident(conn_values(deployment_id, old, "warning"), resolved_at=old + timedelta(hours=2))
        conn.execute(insert(IncidentRow).values(**past))
        if state == "quiet":
            return None
        opened = ONSET + 8 * MINUTE
        values = _incident(conn_values(deployment_id, ONSET, "critical"), resolved_at=None)
        incident_id: int = conn.execute(
            insert(IncidentRow).values(**{**values, "opened_at": opened}).returning(IncidentRow.id)
        ).scalar_one()
        alerts = [
            ("fraction", FOGGY, "critical", 0.314, 0.281, 0.349, 7, "odds ×16"),
            ("fraction", "", "shift", 0.066, 0.058, 0.075, 22, "odds ×4"),
            ("histogram", "", "shift", None, None, None, 25, "Beta(8, 1)"),
        ]
        for signal, segment, now, share, low, high, after, detail in alerts:
            key = conn.execute(
                insert(AlertRow)
                .values(
                    incident_id=incident_id,
                    deployment_id=deployment_id,
                    reference_id=reference_id,
                    signal=signal,
                    segment=segment,
                    state=now,
                    peak=now,
                    provisional=False,
                    onset=ONSET,
                    share=share,
                    low=low,
                    high=high,
                    k=None if share is None else 160.0,
                    n=None if share is None else 520.0,
                    detail=detail,
                    raised_at=ONSET + (after + 1) * MINUTE,
                    updated_at=ONSET + (after + 9) * MINUTE,
                    resolved_at=None,
                )
                .returning(AlertRow.id)
            ).scalar_one()
            event_id = conn.execute(
                insert(IncidentEventRow)
                .values(
                    incident_id=incident_id,
                    alert_id=key,
                    transition_id=None,
                    at=ONSET + (after + 1) * MINUTE,
                    kind="raise",
                    from_state="ok",
                    to_state=now,
                    who="monitor",
                    why=detail,
                    payload=_payload(incident_id),
                )
                .returning(IncidentEventRow.id)
            ).scalar_one()
            conn.execute(
                insert(OutboxRow).values(
                    event_id=event_id,
                    incident_id=incident_id,
                    channel="on-call",
                    action="trigger",
                    payload={},
                    created_at=ONSET + (after + 1) * MINUTE,
                    next_try_at=ONSET + (after + 1) * MINUTE,
                    attempts=1,
                    delivered_at=ONSET + (after + 1) * MINUTE + timedelta(seconds=3),
                    given_up_at=None,
                    last_error=None,
                )
            )
    return incident_id


def conn_values(deployment_id: int, onset: datetime, peak: str) -> dict[str, object]:
    """Of an incident."""
    return {"deployment_id": deployment_id, "onset": onset, "peak": peak}


def _incident(values: dict[str, object], *, resolved_at: datetime | None) -> dict[str, object]:
    closed = resolved_at is not None
    return {
        **values,
        "kind": "shift",
        "handling": "resolved" if closed else "open",
        "handled_until": None,
        "handled_by": "dana" if closed else None,
        "exception": None,
        "state": "ok" if closed else values["peak"],
        "provisional": False,
        "opened_at": values["onset"],
        "resolved_at": resolved_at,
    }


def _payload(incident_id: int) -> dict[str, object]:
    return {
        "version": 1,
        "incident": incident_id,
        "cause": [
            {
                "kind": "lens",
                "title": "lens or exposure",
                "score": 0.83,
                "evidence": [
                    "the images are hazy",
                    "contrast lies lower for at least 29 % of the images (median 0.2 → 0.08)",
                    "in 1 of 6 segments: ring/west",
                ],
            },
            {"kind": "unknown", "title": "nothing that is stored explains it", "score": 0.2, "evidence": []},
        ],
        "matters": {"accuracy_at_most": {"share": 0.87, "low": 0.84, "high": 0.9, "n": 520}, "because": ""},
    }
