"""Baselines: versions of what a person accepted as normal traffic. Never changed; at most revoked."""

import json
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, func, select, update

from pipeline.errors import RefusedError, UsageError
from pipeline.shift.baseline import Baseline, HistogramBets, Normal
from pipeline.shift.class_mix import ClassMix
from pipeline.shift.signals import ClassBounds, RateBounds
from pipeline.storage.arrays import CorruptArrays, coverage_arrays, coverage_of, pack, unpack
from pipeline.storage.conflicts import insert_or
from pipeline.storage.schema import BaselineRow

_FORMAT = 2
_LINE = ("version", "window_start", "window_end", "name", "reason", "accepted_at", "days", "revoked_at", "revoked_by")


@dataclass(frozen=True, slots=True)
class BaselineLine:
    """One baseline without its arrays."""

    version: int
    window_start: datetime  # of event time, half-open
    window_end: datetime
    name: str  # who accepted it
    reason: str
    accepted_at: datetime
    days: int
    revoked_at: datetime | None
    revoked_by: str | None
    summary: dict[str, Any]


def newest_baseline(conn: Connection, deployment_id: int, reference_id: int) -> int | None:
    """The version that counts: the newest that is not revoked; None: there is none. One look-up in an index."""
    of = _of(select(func.max(BaselineRow.version)), deployment_id, reference_id)
    version: int | None = conn.scalar(of.where(BaselineRow.revoked_at.is_(None)))
    return version


def last_version(conn: Connection, deployment_id: int, reference_id: int) -> int:
    """The newest version, revoked or not; 0 where there is none."""
    return conn.scalar(_of(select(func.max(BaselineRow.version)), deployment_id, reference_id)) or 0


def read_baseline(conn: Connection, deployment_id: int, reference_id: int, version: int) -> Baseline:
    """A version's content. Raises UsageError where there is no such version, CorruptArrays for damaged bytes."""
    statement = _of(select(BaselineRow.arrays), deployment_id, reference_id).where(BaselineRow.version == version)
    content = conn.scalar(statement)
    if content is None:
        known = ", ".join(str(line.version) for line in list_baselines(conn, deployment_id, reference_id))
        raise UsageError(f"no baseline has version {version}; known: {known or 'none, accept one first'}")
    return decode_baseline(content)


def list_baselines(conn: Connection, deployment_id: int, reference_id: int) -> list[BaselineLine]:
    """All versions, oldest first."""
    columns = [getattr(BaselineRow, name) for name in (*_LINE, "summary")]
    statement = _of(select(*columns), deployment_id, reference_id).order_by(BaselineRow.version)
    return [BaselineLine(*row) for row in conn.execute(statement)]


def save_baseline(
    conn: Connection, deployment_id: int, reference_id: int, line: BaselineLine, baseline: Baseline
) -> None:
    """Store the version that follows the newest one as it was when the person looked.

    Raises RefusedError where somebody else was quicker: then neither has seen what the other accepted.
    """
    values = {name: getattr(line, name) for name in (*_LINE, "summary")}
    stored = conn.scalar(
        insert_or(conn, BaselineRow)
        .values(
            deployment_id=deployment_id,
            reference_id=reference_id,
            arrays=encode_baseline(baseline),
            **values,
        )
        .on_conflict_do_nothing()
        .returning(BaselineRow.version)
    )
    if stored is None:
        other = list_baselines(conn, deployment_id, reference_id)[-1]
        raise RefusedError(
            f"{other.name} has accepted baseline {other.version} meanwhile; nothing was written;"
            " look at it with `oodwatch baseline show`, and accept again if yours is to count"
        )


def revoke_baseline(
    conn: Connection, deployment_id: int, reference_id: int, version: int, *, by: str, now: datetime
) -> bool:
    """Let a version no longer count; whether it did until now."""
    return bool(
        conn.execute(
            update(BaselineRow)
            .where(
                BaselineRow.deployment_id == deployment_id,
                BaselineRow.reference_id == reference_id,
                BaselineRow.version == version,
                BaselineRow.revoked_at.is_(None),
            )
            .values(revoked_at=now, revoked_by=by)
        ).rowcount
    )


def encode_baseline(baseline: Baseline) -> bytes:
    """All of it as arrays; row 0 of those by stream is all traffic."""
    streams = [baseline.pooled, *baseline.segments.values()]
    bets = [stream.bets for stream in streams if stream.bets is not None]
    rates = [(np.nan,) * 4 if rate is None else astuple(rate) for rate in baseline.rates]
    arrays: dict[str, Any] = {
        "format": _FORMAT,
        "days": baseline.days,
        "segments": np.frombuffer(json.dumps(list(baseline.segments)).encode(), np.uint8),
        "high": np.stack([stream.high for stream in streams]),
        "low": np.stack([stream.low for stream in streams]),
        "d": np.array([stream.d for stream in streams]),
        "wander": np.array([stream.wander for stream in streams]),
        "has_bets": np.array([stream.bets is not None for stream in streams]),
        "penalty": np.stack([one.penalty for one in bets]) if bets else np.empty((0, 0)),
        "divisor": np.stack([one.divisor for one in bets]) if bets else np.empty((0, 0)),
        "rates": np.array(rates),
        "has_rate": np.array([rate is not None for rate in baseline.rates]),
        **coverage_arrays(baseline.coverage),
    }
    if (mix := baseline.classes) is not None:
        arrays |= {"class_counts": mix.counts, "class_d": mix.d}
        arrays |= {f"class_bounds_{name}": value for name, value in asdict(mix.bounds).items()}
    return pack(arrays)


def decode_baseline(content: bytes) -> Baseline:
    """The inverse, bit for bit. Raises CorruptArrays for other bytes."""
    arrays = unpack(content)
    if (found := arrays.get("format")) is None or found != _FORMAT:
        raise CorruptArrays(f"a baseline of format {found}, this release reads {_FORMAT}: accept the window again")
    pooled, *segments = _streams(arrays)
    rates = [RateBounds(*map(float, values)) for values in arrays["rates"]]
    return Baseline(
        days=int(arrays["days"]),
        pooled=pooled,
        segments=dict(zip(json.loads(arrays["segments"].tobytes()), segments, strict=True)),
        rates=tuple(rate if known else None for rate, known in zip(rates, arrays["has_rate"], strict=True)),
        classes=_classes(arrays),
        coverage=coverage_of(arrays),
    )


def _streams(arrays: Mapping[str, Any]) -> list[Normal]:
    bets = map(HistogramBets, arrays["penalty"], arrays["divisor"])
    columns = zip(
        arrays["high"],
        arrays["low"],
        arrays["d"].tolist(),
        [next(bets) if has else None for has in arrays["has_bets"]],
        map(tuple, arrays["wander"].tolist()),
        strict=True,
    )
    return [Normal(*values) for values in columns]


def _classes(arrays: Mapping[str, Any]) -> ClassMix | None:
    if "class_counts" not in arrays:
        return None
    classes, low, high, rest = (arrays[f"class_bounds_{name}"] for name in ("classes", "low", "high", "rest"))
    return ClassMix(arrays["class_counts"], float(arrays["class_d"]), ClassBounds(classes, low, high, bool(rest)))


def _of(statement: Select[Any], deployment_id: int, reference_id: int) -> Select[Any]:
    return statement.where(BaselineRow.deployment_id == deployment_id, BaselineRow.reference_id == reference_id)
