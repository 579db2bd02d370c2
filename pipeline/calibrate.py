"""Calibration: in-distribution images → Reference.

    files → three parts that share no image
      fit    features → the space of energy + residual, for several numbers of dimensions d
      card   damaged copies → what each score sees; d
      rest   scores → threshold, edges, feature statistics
    → Reference, with its blind-spot card

The threshold is an order statistic of the scores (split conformal): its flag rate is known in
distribution, whatever the model. What shapes a score comes from images that its quantile does not use;
plain energy has no such shape, so its quantile uses all parts. Nothing here learns from production.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from pipeline.errors import RefusedError
from pipeline.ingest.decode import DECODER
from pipeline.ingest.image_files import label_index
from pipeline.records import (
    ENERGY,
    ENERGY_RESIDUAL,
    CoverageReference,
    Float64s,
    Ints,
    Outputs,
    Reference,
    ReferenceImage,
)
from pipeline.shift.coverage import BLOCK, bootstrap, degenerate
from pipeline.shift.histogram import fine_edges, rank_edges
from pipeline.shift.threshold import conformal_threshold, flag_rate_bounds
from pipeline.stages.blind_spots import BlindSpots
from pipeline.stages.files import ScoredFiles, score_files
from pipeline.stages.inference import Model, Score
from pipeline.stages.preparation import Preparation
from pipeline.stages.reference_sums import ReferenceSums, principal_axes
from pipeline.stages.score_choice import blind_spot_card, choose_dimensions, residual_scores, score_name_of

MAX_REFERENCE_IMAGES = 2_000
PROJECTED_DIMENSIONS = 16
FIT_SHARE, MAX_FIT_IMAGES = 0.35, 8_192
CARD_SHARE, MAX_CARD_IMAGES = 0.15, 1_000


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks of a calibration."""

    model_name: str
    model_id: str
    classes: tuple[str, ...]
    dtype: str
    score_name: str  # energy, energy+residual
    residual_dimensions: int | None  # None: chosen on the card
    temperature: float
    target_fpr: float
    representative: bool
    keep_pictures: bool
    version: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """The reference, and the files that could not be used."""

    reference: Reference
    failed: tuple[tuple[Path, str], ...]
    duplicates: int  # images whose bytes occurred before: they carry no new evidence


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of the images by what they are used for; no image has two uses."""

    fit: Ints
    card: Ints
    rest: Ints


def split_images(n: int, rng: np.random.Generator) -> Split:
    """Share n images out at random: 35 % (at most 8,192) fit, 15 % (at most 1,000) for the card, the rest."""
    order = rng.permutation(n)
    fit = min(int(n * FIT_SHARE), MAX_FIT_IMAGES)
    card = fit + min(int(n * CARD_SHARE), MAX_CARD_IMAGES)
    return Split(*(np.sort(part) for part in (order[:fit], order[fit:card], order[card:])))


def quantile_size(n: int, score_name: str) -> int:
    """How many of n images the threshold's quantile uses."""
    return n if score_name == ENERGY else len(split_images(n, np.random.default_rng(0)).rest)


def calibrate(
    files: Sequence[tuple[Path, str | None]],
    request: Request,
    preparation: Preparation,
    model: Model,
    score: Score,
    origin: Float64s | None,
    *,
    device: str = "cpu",
    now: datetime,
    rng: np.random.Generator,
    threads: int = 2,
    progress: Callable[[int], None] = lambda done: None,
) -> Calibration:
    """Make a reference from (file, label) pairs of in-distribution images.

    Args:
        score: plain energy at the request's temperature.
        origin: o of the model's head, see scoring/residual.py; None: found from the outputs themselves.
        device: where the residual is computed.
        rng: the same seed gives the same split, so that a score recommended by one card can be
            calibrated next without having been chosen on its own quantile.

    Raises RefusedError where the images are too few for the threshold that was asked for, or where
    energy + residual was asked for and cannot be made.
    """
    split = split_images(len(files), rng)
    shaped = request.score_name == ENERGY_RESIDUAL
    quantile = split.rest if shaped else np.arange(len(files))
    chosen = set(quantile[rng.permutation(len(quantile))[:MAX_REFERENCE_IMAGES]].tolist())
    sums = ReferenceSums(len(request.classes), request.keep_pictures)
    reader = _Reader(files, preparation, model, threads, progress)

    fitting: list[Outputs] = []
    for scored in reader.read(split.fit, score):
        fitting.append(scored.outputs)
        if not shaped:
            sums.add(scored, scored.scores.energy, files, chosen)
    scores = residual_scores(
        fitting,
        origin,
        request.residual_dimensions,
        request.temperature,
        device,
        required=shaped,
    )

    spots = BlindSpots(
        model, {ENERGY: score} | {score_name_of(d): richer for d, (_, richer) in scores.items()}, rng=rng
    )
    for scored in reader.read(split.card, score):
        spots.add(scored, [label_index(files[index][1], request.classes) for index in scored.files])
        if not shaped:
            sums.add(scored, scored.scores.energy, files, chosen)
    examined = spots.examined()
    d = choose_dimensions(examined, tuple(scores), request.target_fpr)

    rest: list[Float64s] = []
    for scored in reader.read(split.rest, score if d is None else scores[d][1]):
        rest.append(np.stack([scored.scores.energy, scored.scores.score]))
        sums.add(scored, scored.scores.score if shaped else scored.scores.energy, files, chosen)
    if not sums.n:
        raise RefusedError(reader.nothing_usable())
    of_rest = np.concatenate([np.empty((2, 0)), *rest], axis=1)
    calibrated = {ENERGY: of_rest[0] if shaped else np.concatenate(sums.scores)}
    if d is not None:
        calibrated[ENERGY_RESIDUAL] = of_rest[1]
    card = blind_spot_card(examined, d, calibrated, request.target_fpr)
    space = scores[d][0] if shaped and d is not None else None
    reference = replace(_reference(request, sums, now), residual=space, card=card)
    if request.representative:
        reference = replace(reference, coverage=coverage_of_images(reference.images, rng))
    return Calibration(reference, reader.failed, reader.n - len(reader.hashes))


def coverage_of_images(images: Sequence[ReferenceImage], rng: np.random.Generator) -> CoverageReference | None:
    """What blocks of the kept images do; None where they are too few, or fill fewer dimensions than they have.

    Here and not in the monitor: the last bits differ between machines, and with them the detector's configuration.
    """
    if len(images) < BLOCK:
        return None
    z = np.stack([image.projected for image in images]).astype(np.float64)
    return None if degenerate(np.cov(z.T).reshape(z.shape[1], -1)) else bootstrap(z, rng)


class _Reader:
    """Reads files by index and keeps account of all: failures, hashes."""

    def __init__(
        self,
        files: Sequence[tuple[Path, str | None]],
        preparation: Preparation,
        model: Model,
        threads: int,
        progress: Callable[[int], None],
    ) -> None:
        self._paths = [path for path, _ in files]
        self._preparation = preparation
        self._model = model
        self._threads = threads
        self._progress = progress
        self._failed: list[tuple[int, str]] = []
        self.hashes: set[bytes] = set()
        self.n = 0

    def read(self, part: Ints, score: Score) -> Iterator[ScoredFiles]:
        """Score the files of a part; `files` of the batches index all files. Batches without an image are left out."""
        indices = part.tolist()
        paths = [self._paths[index] for index in indices]
        for scored in score_files(paths, self._preparation, self._model, score, threads=self._threads):
            self._failed += [(indices[at], why) for at, why in scored.failed]
            self.hashes |= {image.value_sha256 for image in scored.images}
            self.n += len(scored.images)
            if scored.images:
                yield replace(scored, files=tuple(indices[at] for at in scored.files))
            self._progress(len(scored.files) + len(scored.failed))

    @property
    def failed(self) -> tuple[tuple[Path, str], ...]:
        """What could not be used, and why, in the order of the files."""
        return tuple((self._paths[index], why) for index, why in sorted(self._failed))

    def nothing_usable(self) -> str:
        """Why there is no reference."""
        why = "".join(f"; the first: {path}: {why}" for path, why in self.failed[:1])
        return f"none of {len(self._paths)} files is an image that the model can score{why}"


def _reference(request: Request, sums: ReferenceSums, now: datetime) -> Reference:
    scores = np.sort(np.concatenate(sums.scores))
    threshold, rank = conformal_threshold(scores, request.target_fpr)
    p0_low, p0_high = flag_rate_bounds(sums.n, rank)
    covariance = sums.covariance
    projection = principal_axes(covariance, PROJECTED_DIMENSIONS)
    return Reference(
        name=f"{request.model_name}-r{request.version}",
        version=request.version,
        model_name=request.model_name,
        model_id=request.model_id,
        classes=request.classes,
        decoder=DECODER,
        dtype=request.dtype,
        score_name=request.score_name,
        temperature=request.temperature,
        target_fpr=request.target_fpr,
        n=sums.n,
        rank=rank,
        threshold=threshold,
        p0_low=p0_low,
        p0_high=p0_high,
        representative=request.representative,
        created_at=now,
        scores=scores,
        edges=rank_edges(scores),
        fine_edges=fine_edges(scores),
        class_counts=sums.class_counts,
        feature_mean=sums.mean,
        projection=projection,
        projected_mean=np.zeros(projection.shape[1]),
        projected_covariance=projection.T @ covariance @ projection,
        images=sums.images(projection),
    )
