"""What an evaluation keeps of a set while its images stream by: scores, hashes, right answers, a few pictures."""

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.records import ENERGY, ENERGY_RESIDUAL, Float64s, Outputs, ResidualSpace
from pipeline.scoring.energy import score_logits
from pipeline.scoring.residual import residual_norms
from pipeline.stages.sets import Portion


class Key(NamedTuple):
    """A score at a temperature; softmax, max_logit and others' detectors exist at temperature 1 only."""

    score: str
    temperature: float


@dataclass(frozen=True, slots=True)
class Pictured:
    """An image worth a look."""

    name: str
    energy: float
    class_index: int
    label: int | None
    thumbnail: bytes  # WebP


@dataclass(frozen=True, slots=True)
class Fitted:
    """What had to be fitted on normal images before it could score others."""

    space: ResidualSpace | None = None  # of energy + residual
    others: Mapping[str, Callable[[Outputs], Float64s]] = field(default_factory=dict)  # by name


def all_scores(
    outputs: Outputs, temperatures: tuple[float, ...], fitted: Fitted
) -> tuple[dict[Key, Float64s], NDArray[np.int64]]:
    """Every score of each row, higher = more unusual, in float64, and the classes. Softmax is −max softmax."""
    at_one = score_logits(outputs)
    scores = {
        Key("softmax", 1.0): -at_one.msp,
        Key("max_logit", 1.0): -outputs.logits.max(axis=1).astype(np.float64),
    }
    space = fitted.space
    norms = None if space is None else space.scale * residual_norms(outputs.features, space)
    for temperature in temperatures:
        energies = at_one.energy if temperature == 1 else score_logits(outputs, temperature).energy
        scores[Key(ENERGY, temperature)] = energies
        if norms is not None:
            scores[Key(ENERGY_RESIDUAL, temperature)] = energies + norms
    return scores | {Key(name, 1.0): score(outputs) for name, score in fitted.others.items()}, at_one.class_index


class Gathered:
    """One set. `unusual` says which images are confused: ID ones of high energy, OOD ones of low energy."""

    def __init__(
        self,
        name: str,
        temperatures: tuple[float, ...],
        pictures: int,
        *,
        unusual: bool,
        like: "Gathered | None" = None,
    ) -> None:
        self.name = name
        self.n = 0
        self.labelled = 0
        self.shared = 0  # images that `like` holds, too
        self.first_shared = ""
        self._like = like
        self._known = np.empty(0, np.uint64) if like is None else np.unique(np.concatenate(like._hashes))
        self._shape: tuple[int, int] | None = None  # logits and features an image
        self._right = 0
        self._temperatures = temperatures
        self._scores: dict[Key, list[Float64s]] = {}
        self._hashes: list[NDArray[np.uint64]] = []
        self._places = pictures
        self._sign = 1.0 if unusual else -1.0
        self._shown: list[tuple[float, int, Pictured]] = []  # a heap

    @property
    def keys(self) -> list[Key]:
        """The scores that were computed."""
        return list(self._scores)

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among labelled images."""
        return self._right / self.labelled if self.labelled else None

    def scores(self, key: Key) -> Float64s:
        """All scores of a kind."""
        return np.concatenate(self._scores[key])

    def pictured(self) -> tuple[Pictured, ...]:
        """The most confused first."""
        return tuple(picture for _, _, picture in sorted(self._shown, reverse=True))

    def watch(self, portions: Iterator[Portion], fitted: Fitted, progress: Callable[[int], None]) -> Iterator[Portion]:
        """Pass portions on, keeping what has to be kept."""
        for portion in portions:
            if len(portion.names):
                self._add(portion, fitted)
                yield portion
            progress(len(portion.names))

    def _add(self, portion: Portion, fitted: Fitted) -> None:
        self._check_shapes(portion.outputs, fitted)
        scores, classes = all_scores(portion.outputs, self._temperatures, fitted)
        for key, values in scores.items():
            self._scores.setdefault(key, []).append(values)
        self.n += len(portion.names)
        self._count_shared(portion)
        for label, answer in zip(portion.labels, classes.tolist(), strict=True):
            if label is not None:
                self.labelled += 1
                self._right += label == answer
        self._show(portion, scores[Key(ENERGY, self._temperatures[0])], classes.tolist())

    def _show(self, portion: Portion, energies: Float64s, classes: list[int]) -> None:
        for i in np.argsort(-self._sign * energies)[: self._places].tolist():
            rank = self._sign * float(energies[i])
            if len(self._shown) == self._places and rank <= self._shown[0][0]:
                return
            picture = portion.picture(i)
            if picture is None:
                return
            shown = Pictured(portion.names[i], float(energies[i]), classes[i], portion.labels[i], picture)
            heapq.heappush(self._shown, (rank, self.n + i, shown))
            if len(self._shown) > self._places:
                heapq.heappop(self._shown)

    def _count_shared(self, portion: Portion) -> None:
        if self._like is None:
            self._hashes.append(portion.hashes)
            return
        shared = np.isin(portion.hashes, self._known)
        if shared.any() and not self.shared:
            self.first_shared = portion.names[int(np.flatnonzero(shared)[0])]
        self.shared += int(shared.sum())

    def _check_shapes(self, outputs: Outputs, fitted: Fitted) -> None:
        shape = (outputs.logits.shape[1], outputs.features.shape[1])
        like = self if self._like is None else self._like
        self._shape = self._shape or shape
        width, features = like._shape or shape
        if shape[0] != width:
            raise UsageError(
                f"{self.name} has {shape[0]} logits an image, {like.name} has {width}: these are outputs of two models;"
                " evaluate one model at a time"
            )
        if (fitted.space is not None or fitted.others) and shape[1] != features:
            raise UsageError(
                f"{self.name} has {shape[1] or 'no'} features an image, {like.name} has {features}: energy+residual"
                " needs the same features for all sets; add them, or leave them out everywhere"
            )
