"""What the stages hand to each other: frozen values, without torch and without SQL.

Times are aware UTC datetimes. Energies and scores are in nats; higher means more unusual.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64s = NDArray[np.float64]
Float32s = NDArray[np.float32]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]

DEFAULT_SEGMENT = "default"

#: The scores that a reference can use.
ENERGY, ENERGY_RESIDUAL = "energy", "energy+residual"


def utc_now() -> datetime:
    """The clock that entry points pass on; everything below them takes a clock as an argument."""
    return datetime.now(UTC)


class Reason(StrEnum):
    """Why a record could not be scored."""

    EMPTY = "empty"  # a value of zero bytes
    TOMBSTONE = "tombstone"  # no value at all
    TOO_LARGE = "too_large"  # more bytes than the limit
    TOO_MANY_PIXELS = "too_many_pixels"
    UNKNOWN_TYPE = "unknown_type"  # a content type or an image format that is not taken
    UNDECODABLE = "undecodable"
    BAD_SHAPE = "bad_shape"  # decodes, but is no 8-bit grey or colour image
    CHECKSUM = "checksum"  # the value is not what the header `sha256` says
    BAD_HEADER = "bad_header"
    TOO_OLD = "too_old"  # event time before the retention horizon
    NOT_FINITE = "not_finite"  # the model answered NaN or infinity
    OOM = "oom"  # does not fit the device even alone
    CRASH = "crash"  # the model raised or the process died on it


class ClockSource(StrEnum):
    """Where a row's event time came from."""

    EVENT = "event"  # the producer's `ce_time`
    RECORD = "record"  # the log's CreateTime
    ARRIVAL = "arrival"  # the worker's clock, both others being absent or in the future


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of one incarnation of a topic: the unit of order."""

    topic: str
    topic_id: str  # changes when a topic is deleted and made anew
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the log holds it."""

    partition: Partition
    offset: int
    timestamp: datetime | None  # CreateTime; None where the producer gave none
    key: bytes | None
    value: bytes | None  # None is a tombstone
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """What a record says about its image, read from its headers."""

    event_time: datetime
    clock: ClockSource
    segment: str
    id: str | None
    label: str | None
    content_type: str | None
    sha256: bytes | None  # as declared by the producer, 32 bytes
    drill: bool
    other_headers: tuple[tuple[str, str], ...]  # unknown ones, kept for samples


class ImageProperties(NamedTuple):
    """Five plain numbers that say what changed when a lens or an exposure did."""

    brightness: float  # mean luma, 0..1
    contrast: float  # standard deviation of luma, 0..0.5
    sharpness: float  # mean absolute luma step between neighbouring pixels, 0..1
    colourfulness: float  # Hasler and Süsstrunk 2003 on a 0..1 scale; 0 for grey
    size: int  # width times height of the encoded image, pixels


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """A record whose image is decoded, measured and cut to the model's input size."""

    record: Record
    message: Message
    pixels: Pixels  # (N, N, 3) uint8 RGB, the model's input before normalisation
    properties: ImageProperties
    value_sha256: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be scored, and why."""

    record: Record
    stage: str  # message, decode, infer
    reason: Reason
    error: str
    at: datetime
    value_sha256: bytes | None = None
    message: Message | None = None  # where the headers could be read


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the model says about N images."""

    logits: Float32s  # (N, K), before softmax
    features: Float32s  # (N, D), the input of the last layer


@dataclass(frozen=True, slots=True)
class Scores:
    """What the score says about N images; all shape (N,)."""

    energy: Float64s  # nats
    score: Float64s  # nats; what threshold, flag and histogram use
    msp: Float64s  # maximum softmax probability at temperature 1
    class_index: Ints  # arg max of the logits
    finite: NDArray[np.bool_]  # all logits and features of the row are finite


@dataclass(frozen=True, slots=True, eq=False)
class ResidualSpace:
    """Where the features of normal images lie: what energy + residual needs (see scoring/residual.py)."""

    origin: Float64s  # o, (D,)
    axes: Float64s  # P, (D, d): orthonormal columns
    scale: float  # α, nats per unit of the features


@dataclass(frozen=True, slots=True, eq=False)
class CoverageReference:
    """Mean and covariance of n projected features, and what normal blocks of them do (see shift/coverage.py)."""

    n: int
    mean: Float64s  # (d,)
    covariance: Float64s  # (d, d), divisor n
    sizes: Float64s  # (G,) images of a block, ascending
    t2: Float64s  # (G,) upper quantile of T²
    low: Float64s  # (G,) lower quantile of L
    high: Float64s  # (G,) upper quantile of L
    spread: Float64s  # (G,) standard deviation of L
    q: float  # upper bound of the share of normal blocks that a flag marks
    from_traffic: bool = False  # blocks of accepted traffic: valid at any dispersion


@dataclass(frozen=True, slots=True)
class CardLine:
    """What one kind of damage does to the calibration's own images, and what each score sees of it."""

    kind: str
    accuracy: float | None  # where labels exist
    agreement: float  # share of images whose class stays what it was before the damage
    flagged: dict[str, float]  # by score: share above its threshold
    distance: dict[str, float]  # by score: total variation between its histogram and the reference's, 0..1
    shares: dict[str, list[float]] | None = None  # by score: its histogram, (18,); None in cards of older releases


@dataclass(frozen=True, slots=True)
class Card:
    """The blind-spot card: what a monitor will see and what it cannot."""

    n: int  # images that were damaged
    target_fpr: float
    dimensions: int | None  # d of energy + residual; None where it could not be made
    lines: tuple[CardLine, ...]  # the first is "none": the same images undamaged
    recommended: str  # a score's name
    because: str


@dataclass(frozen=True, slots=True)
class ReferenceImage:
    """One calibration image kept with its reference."""

    file: str
    label: str | None
    sha256: bytes
    energy: float
    score: float
    class_index: int
    projected: Float32s  # (d,)
    thumbnail: bytes | None  # WebP
    msp: float | None = None  # None in references of older releases


@dataclass(frozen=True, slots=True)
class Reference:
    """What calibration on in-distribution images made. Immutable; every row names its reference.

    Histogram edges are inner edges: b edges make b + 1 bins, and a value's bin is the number of
    edges strictly below it. Flag: score > threshold, strictly.
    """

    name: str  # <model name>-r<version>
    version: int
    model_name: str
    model_id: str  # name@sha256 of weights, code, preprocessing, classes
    classes: tuple[str, ...]
    decoder: str
    dtype: str
    score_name: str  # energy, energy+residual
    temperature: float
    target_fpr: float  # α
    n: int
    rank: int  # m: the threshold is the m-th smallest score
    threshold: float
    p0_low: float  # lower 99 % bound of the true flag rate
    p0_high: float  # upper 95 % bound of the true flag rate
    representative: bool  # class shares and features are those of normal traffic
    created_at: datetime
    scores: Float64s  # (n,), ascending
    edges: Float64s  # (17,) of the 18-bin histogram
    fine_edges: Float64s  # (255,)
    class_counts: Ints  # (K,) by predicted class
    feature_mean: Float64s  # (D,)
    projection: Float64s  # (D, d): z = (features - feature_mean) @ projection
    projected_mean: Float64s  # (d,)
    projected_covariance: Float64s  # (d, d), divisor n
    residual: ResidualSpace | None = None  # where the score is energy+residual
    coverage: CoverageReference | None = field(default=None, repr=False)  # where representative
    card: Card | None = field(default=None, repr=False)
    images: tuple[ReferenceImage, ...] = field(default=(), repr=False)
    id: int | None = None  # the database's key, once stored


@dataclass(frozen=True, slots=True)
class Range:
    """Half-open [start, end) of one partition: the unit that is committed.

    `start` is the last seek position or the previous range's end, never the first record's
    offset: logs have holes. `epoch` is the intake's local fence: a range of an older epoch was
    fetched before the partition was revoked or re-read and may be dropped anywhere.
    """

    partition: Partition
    start: int
    end: int
    epoch: int
    records: Sequence[Record]
    isolated: bool = False  # something near here has killed workers: score the records in a child process

    @property
    def holes(self) -> int:
        """Offsets of the range that hold no record (compaction, transaction markers)."""
        return self.end - self.start - len(self.records)

    @property
    def value_bytes(self) -> int:
        """Bytes of all values in the range."""
        return sum(len(record.value or b"") for record in self.records)


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """Several ranges after one model: every record of theirs is in `images` or in `dead`.

    Row i of every array belongs to images[i]; `range_index[i]` says to which range.
    """

    reference: Reference  # of the model that scored them
    ranges: tuple[Range, ...]
    images: tuple[PreparedImage, ...]
    range_index: Ints
    outputs: Outputs
    scores: Scores
    projected: Float64s  # (n, d)
    dead: tuple[tuple[int, DeadLetter], ...]  # (range index, letter)
    support: Float64s | None = None  # (n,) by the reference's images, 0..1; None where it keeps too few
    prepare_s: float = 0.0  # from the poll of its oldest range to the last image's pixels, seconds
    infer_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a partition of the log holds now: offsets [beginning, end)."""

    partition: Partition
    beginning: int
    end: int


@dataclass(frozen=True, slots=True)
class LogRetention:
    """How much a log keeps of each partition; None: without limit, or it does not say."""

    time: timedelta | None = None
    size: int | None = None  # bytes
