"""The tables. Typed, and the same on SQLite and PostgreSQL.

Times are BIGINT microseconds since 1970, UTC: the same SQL on both engines, integer buckets, and half
the bytes of text. Everything the worker writes is keyed by its stream (deployment, topic, topic id,
partition) and the record's offset.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def to_microseconds(at: datetime) -> int:
    """An aware datetime as microseconds since 1970, UTC; raises ValueError on a naive one."""
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no time zone; use an aware UTC datetime")
    return (at - EPOCH) // MICROSECOND


def from_microseconds(value: int) -> datetime:
    """The aware UTC datetime of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=value)


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC datetime, stored as BIGINT microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Refuse naive datetimes; keep the microseconds."""
        return None if value is None else to_microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Give aware UTC back."""
        return None if value is None else from_microseconds(value)


class Boolean(TypeDecorator[bool]):
    """A boolean stored as SMALLINT 0 or 1, so that raw tuples and COPY write the same on both engines."""

    impl = SmallInteger
    cache_ok = True

    def process_bind_param(self, value: bool | None, dialect: Dialect) -> int | None:
        """True is 1."""
        return None if value is None else int(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> bool | None:
        """1 is True."""
        return None if value is None else bool(value)


#: SQLite counts only INTEGER keys by itself.
Key = BigInteger().with_variant(Integer(), "sqlite")


class Table(DeclarativeBase):
    """Root of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: String(),
        bytes: LargeBinary(),
        float: Double(),
        datetime: UtcTime(),
        bool: Boolean(),
    }


class ReferenceRow(Table):
    """One calibration; never changed. The arrays are an .npz without pickles."""

    __tablename__ = "reference"
    __table_args__ = (UniqueConstraint("model_name", "version"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    version: Mapped[int]
    model_name: Mapped[str]
    model_id: Mapped[str]
    classes: Mapped[list[str]] = mapped_column(JSON)
    decoder: Mapped[str]
    dtype: Mapped[str]
    score_name: Mapped[str]
    temperature: Mapped[float]
    target_fpr: Mapped[float]
    n: Mapped[int]
    rank: Mapped[int]
    threshold: Mapped[float]
    p0_low: Mapped[float]
    p0_high: Mapped[float]
    representative: Mapped[bool]
    created_at: Mapped[datetime]
    arrays: Mapped[bytes]
    card: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class ReferenceImageRow(Table):
    """At most 2,000 calibration images of a reference, as statistics and a thumbnail."""

    __tablename__ = "reference_image"

    reference_id: Mapped[int] = mapped_column(ForeignKey("reference.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[str]
    label: Mapped[str | None]
    sha256: Mapped[bytes]
    energy: Mapped[float]
    score: Mapped[float]
    class_index: Mapped[int] = mapped_column(SmallInteger)
    projected: Mapped[bytes]  # float32[d]
    msp: Mapped[float | None]  # none in references of older releases
    thumbnail: Mapped[bytes | None]


class DeploymentRow(Table):
    """One model with its reference on one source; owner of one false-alarm budget."""

    __tablename__ = "deployment"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    model_id: Mapped[str]
    reference_id: Mapped[int] = mapped_column(ForeignKey("reference.id"))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class StreamRow(Table):
    """The cursor: one row per partition of one incarnation of a topic, read by one deployment.

    `next_offset` moves only by compare-and-set, in the transaction that writes every offset it passes.
    produced = log_end - start_offset = scored + dead + waiting + expired + skipped + holes.
    """

    __tablename__ = "stream"
    __table_args__ = (
        UniqueConstraint("deployment_id", "topic", "topic_id", "partition"),
        {"postgresql_with": {"fillfactor": 50}},  # room for the next version of a row that every batch updates
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    deployment_id: Mapped[int] = mapped_column(ForeignKey("deployment.id"))
    topic: Mapped[str]
    topic_id: Mapped[str]
    partition: Mapped[int]
    start_offset: Mapped[int] = mapped_column(BigInteger)  # the log's beginning when first seen
    next_offset: Mapped[int] = mapped_column(BigInteger)
    log_end: Mapped[int] = mapped_column(BigInteger)  # as last seen by the worker
    log_start: Mapped[int | None] = mapped_column(BigInteger)  # likewise
    retention_ms: Mapped[int | None] = mapped_column(BigInteger)  # what the log keeps; none: not known, or no limit
    retention_bytes: Mapped[int | None] = mapped_column(BigInteger)
    record_time: Mapped[datetime | None]  # the log's time of the last record that was read
    caught_up_at: Mapped[datetime | None]  # when nothing waited last, to the minute
    scored: Mapped[int] = mapped_column(BigInteger)
    dead: Mapped[int] = mapped_column(BigInteger)
    expired: Mapped[int] = mapped_column(BigInteger)  # gone from the log before they were read
    skipped: Mapped[int] = mapped_column(BigInteger)  # left out on request, by --from
    holes: Mapped[int] = mapped_column(BigInteger)  # offsets without a record
    attempts: Mapped[int]  # times taken over since the last commit; 3 = something in front kills workers
    newest_event_time: Mapped[datetime | None]
    owner: Mapped[str]
    updated_at: Mapped[datetime]


class StreamGapRow(Table):
    """Offsets that were never read, and why."""

    __tablename__ = "stream_gap"

    stream_id: Mapped[int] = mapped_column(ForeignKey("stream.id"), primary_key=True)
    from_offset: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    to_offset: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str]  # expired, corrupt, skipped
    at: Mapped[datetime]


class BaselineRow(Table):
    """What a person accepted as normal traffic of a reference; the newest that is not revoked counts."""

    __tablename__ = "baseline"

    deployment_id: Mapped[int] = mapped_column(ForeignKey("deployment.id"), primary_key=True)
    reference_id: Mapped[int] = mapped_column(ForeignKey("reference.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    window_start: Mapped[datetime]  # of event time, half-open
    window_end: Mapped[datetime]
    name: Mapped[str]  # who accepted it
    reason: Mapped[str]
    accepted_at: Mapped[datetime]
    days: Mapped[int]
    arrays: Mapped[bytes]  # .npz without pickles, see `baselines`
    summary: Mapped[dict[str, Any]] = mapped_column(JSON)  # for people
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None]


class SegmentRow(Table):
    """A part of a deployment's traffic."""

    __tablename__ = "segment"
    __table_args__ = (UniqueConstraint("deployment_id", "name"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    deployment_id: Mapped[int] = mapped_column(ForeignKey("deployment.id"))
    name: Mapped[str]


class ProcessRow(Table):
    """One running process, as it last said itself; the row of one that was killed stays for a day."""

    __tablename__ = "process"

    name: Mapped[str] = mapped_column(primary_key=True)  # host:pid
    role: Mapped[str]  # worker
    deployment: Mapped[str | None]
    version: Mapped[str]
    started_at: Mapped[datetime]
    beat_at: Mapped[datetime]
    state: Mapped[dict[str, Any]] = mapped_column(JSON)  # ready, reasons, lag by partition, counts, rate


class ScoreRow(Table):
    """One scored image. On PostgreSQL one partition a day, see `partitions`."""

    __tablename__ = "score"
    __table_args__ = (
        Index(None, "event_time"),
        # Of one image in twenty or fewer: the newest flagged ones are found however long ago they were.
        Index("ix_score_flagged", "event_time", sqlite_where=text("is_ood = 1"), postgresql_where=text("is_ood = 1")),
        {"postgresql_partition_by": "RANGE (event_time)"},
    )

    # The event time belongs to the key because PostgreSQL partitions by it; it is the record's own.
    stream_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    event_time: Mapped[datetime] = mapped_column(primary_key=True)
    clock: Mapped[int] = mapped_column(SmallInteger)  # 0 event, 1 record, 2 arrival
    segment_id: Mapped[int] = mapped_column(BigInteger)
    reference_id: Mapped[int] = mapped_column(BigInteger)
    id: Mapped[str | None]
    key: Mapped[bytes | None]
    label: Mapped[str | None]
    value_sha256: Mapped[bytes]
    class_index: Mapped[int] = mapped_column(SmallInteger)
    energy: Mapped[float]
    score: Mapped[float]
    msp: Mapped[float]
    is_ood: Mapped[bool]
    repeat: Mapped[bool]  # same value as the segment's previous image
    drill: Mapped[bool]  # scored, but kept out of every statistic
    support: Mapped[float | None]  # by the reference's images, 0..1: its mean is P-precision


class DeadLetterRow(Table):
    """One record that could not be scored. Its bytes stay in the log at these coordinates."""

    __tablename__ = "dead_letter"
    __table_args__ = (Index(None, "at"),)

    stream_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    stage: Mapped[str]
    reason: Mapped[str]
    error: Mapped[str]
    at: Mapped[datetime]
    record_time: Mapped[datetime | None]
    id: Mapped[str | None]
    key: Mapped[bytes | None]
    segment: Mapped[str | None]
    value_size: Mapped[int | None] = mapped_column(BigInteger)
    value_sha256: Mapped[bytes | None]


class RollUpPartRow(Table):
    """Mergeable sums of one (deployment, reference, segment, tick), append-only; no segment = pooled."""

    __tablename__ = "roll_up_part"
    __table_args__ = (Index(None, "deployment_id", "tick"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    deployment_id: Mapped[int] = mapped_column(BigInteger)
    reference_id: Mapped[int] = mapped_column(BigInteger)
    segment_id: Mapped[int | None] = mapped_column(BigInteger)
    tick: Mapped[datetime]  # start of the half-open minute
    content: Mapped[bytes]


class SampleRow(Table):
    """The strangest few and a random few of each (segment, tick), with picture, features and logits."""

    __tablename__ = "sample"
    __table_args__ = (
        UniqueConstraint("stream_id", "offset", "kind"),
        Index(None, "segment_id", "tick", "kind"),
        Index(None, "event_time"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    deployment_id: Mapped[int] = mapped_column(BigInteger)
    reference_id: Mapped[int] = mapped_column(BigInteger)
    segment_id: Mapped[int] = mapped_column(BigInteger)
    tick: Mapped[datetime]
    kind: Mapped[str]  # strange, random
    rank: Mapped[float]  # the highest of a kind are kept: the score, or a hash of the coordinates
    stream_id: Mapped[int] = mapped_column(BigInteger)
    offset: Mapped[int] = mapped_column(BigInteger)
    event_time: Mapped[datetime]
    thumbnail: Mapped[bytes | None]  # WebP
    features: Mapped[bytes | None]  # float16[D]
    logits: Mapped[bytes | None]  # float16[K]
    headers: Mapped[dict[str, str]] = mapped_column(JSON)


class TickRow(Table):
    """The roll-up of one (deployment, reference, segment, tick), at one of the levels 1, 5, 60, 1440 minutes."""

    __tablename__ = "tick"
    __table_args__ = (Index(None, "deployment_id", "minutes", "start"),)

    deployment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    reference_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    minutes: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    segment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)  # 0 = pooled
    start: Mapped[datetime] = mapped_column(primary_key=True)
    revision: Mapped[int]  # times that late parts changed it after it was complete
    n: Mapped[int] = mapped_column(BigInteger)
    flags: Mapped[int] = mapped_column(BigInteger)
    repeats: Mapped[int] = mapped_column(BigInteger)
    late_clocks: Mapped[int] = mapped_column(BigInteger)
    score_sum: Mapped[float]
    score_squares: Mapped[float]
    energy_sum: Mapped[float]
    support_n: Mapped[int] = mapped_column(BigInteger)  # images whose support is known
    support_sum: Mapped[float]  # over them: sum / n is P-precision
    histogram: Mapped[bytes]  # uint32[18], little-endian
    content: Mapped[bytes]  # all sums, see `shift.rollup`


class MonitorRow(Table):
    """How far the monitor has come with a deployment. `revision` moves with every transaction, by compare-and-set."""

    __tablename__ = "monitor"

    deployment_id: Mapped[int] = mapped_column(ForeignKey("deployment.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    evaluated_until: Mapped[datetime | None]  # ticks that start before it are evaluated
    watermark: Mapped[datetime | None]  # event time up to which all active partitions have come
    fed_at: Mapped[datetime | None]  # when images last arrived here, processing time
    folded_parts: Mapped[int] = mapped_column(BigInteger)
    late_parts: Mapped[int] = mapped_column(BigInteger)  # of ticks that were evaluated already
    late_images: Mapped[int] = mapped_column(BigInteger)
    too_late_images: Mapped[int] = mapped_column(BigInteger)  # of them: in the roll-ups, not in the evidence
    overflow_parts: Mapped[int] = mapped_column(BigInteger)  # counted as `other`, beyond the cap on segments
    updated_at: Mapped[datetime]


class TickLevelRow(Table):
    """How far a coarser level is made from the finer one; late parts before that are added to it directly."""

    __tablename__ = "tick_level"

    deployment_id: Mapped[int] = mapped_column(ForeignKey("deployment.id"), primary_key=True)
    minutes: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    made_until: Mapped[datetime]


class LeaseRow(Table):
    """Who leads, where the database knows no advisory locks."""

    __tablename__ = "lease"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    expires_at: Mapped[datetime]


class DetectorStateRow(Table):
    """What the detector of one (deployment, reference) knows, as of the monitor's `evaluated_until`."""

    __tablename__ = "detector_state"

    deployment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    reference_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    replay_floor: Mapped[datetime]  # revised ticks from here on can still be replayed
    revised_from: Mapped[datetime | None]  # the oldest revised tick that has to be
    updated_at: Mapped[datetime]
    content: Mapped[bytes]


class DetectorCheckpointRow(Table):
    """The detector's state when all ticks that start before `position` had been evaluated."""

    __tablename__ = "detector_checkpoint"

    deployment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    reference_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    position: Mapped[datetime] = mapped_column(primary_key=True)
    content: Mapped[bytes]


class Judgement:
    """What is stored of a verdict."""

    state: Mapped[str]
    log_evidence: Mapped[float]
    onset: Mapped[datetime | None]
    share: Mapped[float | None]  # of flagged images since the onset
    low: Mapped[float | None]  # its interval
    high: Mapped[float | None]
    provisional: Mapped[bool]  # shown and never paged: said without enough accepted traffic


class VerdictRow(Judgement, Table):
    """The newest verdict on one stream of evidence."""

    __tablename__ = "verdict"

    deployment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    reference_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    stream: Mapped[str] = mapped_column(primary_key=True)  # pooled, segment:NAME, histogram, ...
    tick: Mapped[datetime]  # start of the newest tick that it knows


class TransitionRow(Judgement, Table):
    """A stream of evidence changed its state; never changed or withdrawn."""

    __tablename__ = "transition"
    __table_args__ = (Index(None, "deployment_id", "tick"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    deployment_id: Mapped[int] = mapped_column(BigInteger)
    reference_id: Mapped[int] = mapped_column(BigInteger)
    stream: Mapped[str]
    tick: Mapped[datetime]
    from_state: Mapped[str]
    k: Mapped[float | None]  # flags and images since the onset
    n: Mapped[float | None]
    leading: Mapped[str]  # which component had most evidence
    decided_at: Mapped[datetime]  # processing time
