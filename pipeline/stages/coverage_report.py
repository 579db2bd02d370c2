"""What a coverage report holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.records import Float32s, Float64s
from pipeline.scoring.matched_null import Compared, Figure
from pipeline.scoring.precision_recall import A, K, PrecisionRecall
from pipeline.storage.coverage import SegmentSupport

NOVEL, COVERAGE_LOST = "novel", "coverage_lost"
BELOW = -4.0  # z from which on something is said to be so


@dataclass(frozen=True, slots=True, eq=False)
class ImageRows:
    """Features of n images, and what is known of each."""

    name: str  # of the set, as a person knows it
    rows: Float64s | Float32s  # (n, D)
    names: Sequence[str]
    groups: Sequence[str | None]  # the class of a reference's image, the segment of a production image
    hashes: Sequence[bytes] = ()  # of the contents; none: rows of equal features are equal
    picture: Callable[[int], bytes | None] = lambda i: None  # WebP of image i, made when asked for

    @property
    def distinct_share(self) -> float:
        """Of the images, 0..1."""
        contents = self.hashes or [row.tobytes() for row in self.rows]
        return len(set(contents)) / len(contents)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a person asks of a comparison."""

    a: float = A
    k: int = K
    device: str = "cpu"
    pictures: int = 12  # of each kind and group

    @property
    def is_usual(self) -> bool:
        """As the worker measures support: what it has stored can be used."""
        return (self.a, self.k) == (A, K)


@dataclass(frozen=True, slots=True)
class SegmentLine:
    """P-precision of one segment."""

    segment: str
    n: int
    p_precision: float
    normal: Figure | None  # beside what is normal
    flagged: float | None


class GroupLine(NamedTuple):
    """How much of one class of the reference production still covers, beside what the other classes let expect."""

    group: str
    n: int
    coverage: Figure
    is_lost: bool


@dataclass(frozen=True, slots=True)
class ShownImage:
    """One image of a report."""

    name: str
    group: str | None
    value: float  # support or coverage
    normal: float | None
    picture: bytes | None


class Finding(NamedTuple):
    """What is the matter: `novel` or `coverage_lost`, and in words."""

    code: str
    text: str


class FigureLine(NamedTuple):
    """One figure of all images, and of matched windows beside what is normal."""

    name: str
    value: float | None
    matched: Figure | None


@dataclass(frozen=True, slots=True, eq=False)
class CoverageReport:
    """All that a report shows."""

    reference: str
    production: str
    plan: Plan
    dimensions: int
    n_reference: int
    n_production: int
    distinct_share: float
    outside: int  # production images without any support
    measured: PrecisionRecall
    compared: Compared | None
    window: int | None  # images of a window that P-recall is compared on
    groups: tuple[GroupLine, ...]
    segments: tuple[SegmentLine, ...]
    traffic: tuple[SegmentSupport, ...]
    least_covered: tuple[ShownImage, ...]
    least_supported: tuple[ShownImage, ...]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]

    @property
    def figures(self) -> tuple[FigureLine, ...]:
        """The three figures."""
        measured, compared = self.measured, self.compared
        return (
            FigureLine("p_precision", measured.p_precision, None if compared is None else compared.p_precision),
            FigureLine("p_recall", measured.p_recall, None if compared is None else compared.p_recall),
            FigureLine(
                "p_recall_in_support",
                measured.p_recall_in_support,
                None if compared is None else compared.p_recall_in_support,
            ),
        )
