"""Roll-up: the mergeable sums of one (deployment, reference, segment, tick).

Every field is a sum, so parts merge exactly over time, segments and workers, in any order. The
encoding is sparse: a part of five images takes some 150 bytes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import OodwatchError
from pipeline.records import Float64s, Ints
from pipeline.shift.histogram import BINS, FINE_BINS, PROPERTY_BINS, PROPERTY_EDGES, bin_of

_FORMAT = 3
_WITHOUT_SUPPORT = 2  # the format before: the same but for support, which nobody had measured
_N_PROPERTIES = len(PROPERTY_EDGES)


class CorruptRollUp(OodwatchError):
    """Bytes that are no roll-up of this format."""

    exit_code = 3


@dataclass(frozen=True, slots=True, eq=False)
class RollUp:
    """Sums over n images; K classes, d projected features. Scores and energies in nats."""

    n: int
    flags: int
    repeats: int  # images with the same value as the segment's previous one
    late_clocks: int  # images whose event time had to be replaced by the arrival
    score_sum: float
    score_squares: float
    energy_sum: float
    class_counts: Ints  # (K,)
    class_flags: Ints  # (K,)
    histogram: Ints  # (18,)
    fine_histogram: Ints  # (256,)
    properties: Ints  # (5, 16), in the order of PROPERTY_EDGES
    z_n: int = 0  # images in the two sums below; pooled roll-ups only
    z_sum: Float64s | None = None  # (d,)
    z_outer: Float64s | None = None  # (d(d+1)/2,): the upper triangle of Σ z zᵀ, row by row
    support_n: int = 0  # images whose support by the reference is known
    support_sum: float = 0.0  # over them, each 0..1

    def __eq__(self, other: object) -> bool:
        """Field by field, arrays by value."""
        return isinstance(other, RollUp) and all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name))
            if getattr(self, field.name) is not None and getattr(other, field.name) is not None
            else getattr(self, field.name) is getattr(other, field.name)
            for field in fields(self)
        )

    __hash__ = None  # type: ignore[assignment]


def summarise_groups(
    groups: NDArray[np.int64],
    n_groups: int,
    *,
    scores: Float64s,
    energies: Float64s,
    flags: NDArray[np.bool_],
    class_index: Ints,
    properties: Float64s,
    repeats: NDArray[np.bool_],
    late_clocks: NDArray[np.bool_],
    projected: Float64s | None,
    edges: Float64s,
    fine_edges: Float64s,
    n_classes: int,
    support: Float64s | None = None,
) -> list[RollUp]:
    """Sums of each group of a batch, in one pass over all.

    Args:
        groups: (n,) the group of each image, 0 <= g < n_groups.
        properties: (n, 5) in the order of PROPERTY_EDGES.
        projected: (n, d) projected features, or None where they are not summed.
        edges, fine_edges: the reference's inner edges.
        support: (n,) by the reference's images, or None where that is not known.
    """
    flagged = groups[flags]

    def per_group(weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        return np.bincount(groups, weights=weights, minlength=n_groups).astype(np.float64)

    def table(bins: Ints, size: int, of: NDArray[np.int64] = groups) -> Ints:
        return np.bincount(of * size + bins, minlength=n_groups * size).reshape(n_groups, size)

    property_bins = [
        table(bin_of(properties[:, i], inner), PROPERTY_BINS) for i, inner in enumerate(PROPERTY_EDGES.values())
    ]
    n, n_flags = per_group(), np.bincount(flagged, minlength=n_groups)
    n_repeats = np.bincount(groups[repeats], minlength=n_groups)
    n_late = np.bincount(groups[late_clocks], minlength=n_groups)
    score_sum, score_squares, energy_sum = per_group(scores), per_group(scores * scores), per_group(energies)
    class_counts = table(class_index, n_classes)
    class_flags = table(class_index[flags], n_classes, flagged)
    histogram = table(bin_of(scores, edges), BINS)
    fine = table(bin_of(scores, fine_edges), FINE_BINS)
    support_n = np.zeros(n_groups) if support is None else n
    support_sum = np.zeros(n_groups) if support is None else per_group(support)
    feature_sums = [_feature_sums(projected, groups == g) for g in range(n_groups)]
    return [
        RollUp(
            n=int(n[g]),
            flags=int(n_flags[g]),
            repeats=int(n_repeats[g]),
            late_clocks=int(n_late[g]),
            score_sum=float(score_sum[g]),
            score_squares=float(score_squares[g]),
            energy_sum=float(energy_sum[g]),
            class_counts=class_counts[g],
            class_flags=class_flags[g],
            histogram=histogram[g],
            fine_histogram=fine[g],
            properties=np.stack([bins[g] for bins in property_bins]),
            z_n=feature_sums[g][0],
            z_sum=feature_sums[g][1],
            z_outer=feature_sums[g][2],
            support_n=int(support_n[g]),
            support_sum=float(support_sum[g]),
        )
        for g in range(n_groups)
    ]


def merge(left: RollUp, right: RollUp) -> RollUp:
    """The roll-up of both. Associative and commutative: exactly for counts, to rounding for floats."""
    if len(left.class_counts) != len(right.class_counts):
        raise CorruptRollUp(
            f"roll-ups of {len(left.class_counts)} and of {len(right.class_counts)} classes cannot be merged:"
            " they belong to different references"
        )
    merged: dict[str, object] = {}
    for field in fields(RollUp):
        a, b = getattr(left, field.name), getattr(right, field.name)
        merged[field.name] = b if a is None else a if b is None else a + b
    return RollUp(**merged)  # type: ignore[arg-type]


def without(whole: RollUp, part: RollUp) -> RollUp:
    """The roll-up of what is in `whole` and not in `part`, which it contains; its sums over features are unknown."""
    left = {
        field.name: getattr(whole, field.name) - getattr(part, field.name)
        for field in fields(RollUp)
        if not field.name.startswith("z_")
    }
    return RollUp(**left)


def encode(rollup: RollUp) -> bytes:
    """Little-endian and sparse: counts as LEB128 varints, floats as float64.

    All count arrays in one row are one sparse vector: the number of filled bins, then for each the gap from
    the one before and the count.
    """
    out = bytearray([_FORMAT])
    d = 0 if rollup.z_sum is None else len(rollup.z_sum)
    for value in (rollup.n, rollup.flags, rollup.repeats, rollup.late_clocks, len(rollup.class_counts), d):
        _put(out, value)
    out += struct.pack("<3d", rollup.score_sum, rollup.score_squares, rollup.energy_sum)
    _put(out, rollup.support_n)
    if rollup.support_n:
        out += struct.pack("<d", rollup.support_sum)
    _put_sparse(out, np.concatenate([counts.reshape(-1) for counts in _count_arrays(rollup)]))
    if rollup.z_sum is not None and rollup.z_outer is not None:
        _put(out, rollup.z_n)
        out += rollup.z_sum.astype("<f8").tobytes() + rollup.z_outer.astype("<f8").tobytes()
    return bytes(out)


def decode(content: bytes) -> RollUp:
    """The inverse of `encode`. Raises CorruptRollUp for any other bytes."""
    if not content or content[0] not in (_WITHOUT_SUPPORT, _FORMAT):
        known = f"{_WITHOUT_SUPPORT:02x} and {_FORMAT:02x}"
        raise CorruptRollUp(f"roll-up format {content[:1].hex() or 'none'}, this release reads {known}")
    try:
        return _decode(content)
    except (IndexError, ValueError, struct.error) as error:
        raise CorruptRollUp(f"a roll-up of {len(content)} bytes does not decode: {error}") from error


def _decode(content: bytes) -> RollUp:
    varints = _Varints(content, 1)
    n, flags, repeats, late_clocks, n_classes, d = (varints.next() for _ in range(6))
    if n_classes > 1 << 20 or d > 1 << 12:
        raise ValueError(f"{n_classes} classes, {d} features")
    score_sum, score_squares, energy_sum = struct.unpack_from("<3d", content, varints.at)
    varints.at += 24
    support_n, support_sum = (0, 0.0) if content[0] == _WITHOUT_SUPPORT else varints.next_sum()
    sizes = (n_classes, n_classes, BINS, FINE_BINS, _N_PROPERTIES * PROPERTY_BINS)
    counts = np.split(varints.next_sparse(sum(sizes)), np.cumsum(sizes)[:-1])
    class_counts, class_flags, histogram, fine, properties = counts
    z_n, z_sum, z_outer = 0, None, None
    if d:
        z_n = varints.next()
        z_sum = np.frombuffer(content, "<f8", d, varints.at).copy()
        z_outer = np.frombuffer(content, "<f8", d * (d + 1) // 2, varints.at + 8 * d).copy()
        varints.at += 8 * (d + d * (d + 1) // 2)
    if varints.at != len(content):
        raise ValueError(f"{len(content) - varints.at} bytes too many")
    return RollUp(
        n=n,
        flags=flags,
        repeats=repeats,
        late_clocks=late_clocks,
        score_sum=score_sum,
        score_squares=score_squares,
        energy_sum=energy_sum,
        class_counts=class_counts,
        class_flags=class_flags,
        histogram=histogram,
        fine_histogram=fine,
        properties=properties.reshape(_N_PROPERTIES, PROPERTY_BINS),
        z_n=z_n,
        z_sum=z_sum,
        z_outer=z_outer,
        support_n=support_n,
        support_sum=support_sum,
    )


def _feature_sums(
    projected: Float64s | None, members: NDArray[np.bool_]
) -> tuple[int, Float64s | None, Float64s | None]:
    if projected is None:
        return 0, None, None
    z = projected[members]
    outer = z.T @ z
    return len(z), z.sum(axis=0), outer[np.triu_indices(outer.shape[0])]


def _count_arrays(rollup: RollUp) -> Iterator[Ints]:
    yield from (rollup.class_counts, rollup.class_flags, rollup.histogram, rollup.fine_histogram, rollup.properties)


def _put(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _put_sparse(out: bytearray, counts: Ints) -> None:
    filled = np.flatnonzero(counts)
    _put(out, len(filled))
    pairs = np.column_stack((np.diff(filled, prepend=0), counts[filled])).reshape(-1)
    if len(pairs) and pairs.max() < 0x80:  # the common case: every varint is one byte
        out += pairs.astype(np.uint8).tobytes()
    else:
        for value in pairs.tolist():
            _put(out, value)


class _Varints:
    """Reads what `_put` wrote; IndexError at the end of the bytes."""

    def __init__(self, content: bytes, at: int) -> None:
        self._content = content
        self.at = at

    def next(self) -> int:
        value = shift = 0
        while True:
            byte = self._content[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 62:
                raise ValueError("a count of more than 63 bits")

    def next_sum(self) -> tuple[int, float]:
        """How many, and their sum, which is left out where there are none."""
        n = self.next()
        if not n:
            return 0, 0.0
        (total,) = struct.unpack_from("<d", self._content, self.at)
        self.at += 8
        return n, total

    def next_sparse(self, size: int) -> Ints:
        counts = np.zeros(size, dtype=np.int64)
        position = 0
        for _ in range(self.next()):
            position += self.next()
            counts[position] = self.next()
        return counts
