"""Evaluation: how well does a score separate in-distribution (ID) images from others (OOD)?

    ID set    fit part   → outputs → the space of energy + residual; plain scores
              the others → scores
    OOD sets             → scores
    → per set and score: FPR95, AUROC, AUPR; thresholds; histograms; curves; the most confused images

Every image passes the model once. Images, logits and features are streamed; what stays of an image is its
scores (8 bytes each), a hash, and, for the few that are shown, a thumbnail.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import RefusedError, UsageError
from pipeline.records import ENERGY, ENERGY_RESIDUAL, Float64s, Outputs, ResidualSpace
from pipeline.scoring.evaluation import (
    Separation,
    fpr95_resamples,
    interval,
    roc_curve,
    separation,
    shares_in_bins,
    threshold_at,
)
from pipeline.scoring.pytorch_ood import Head, fit_detectors
from pipeline.scoring.residual import fit_residual_spaces
from pipeline.shift.threshold import conformal_threshold
from pipeline.stages.gathering import Fitted, Gathered, Key, Pictured
from pipeline.stages.sets import OutputSet

FIT_SHARE, MAX_FIT_IMAGES = 0.3, 8_192
_BINS = 60


@dataclass(frozen=True, slots=True)
class Plan:
    """What a person asks of an evaluation."""

    temperatures: tuple[float, ...]
    target_fpr: float  # of the conformal threshold
    residual_dimensions: int | None  # None: a quarter of the features
    pictures: int  # of each set, in the report
    detectors: tuple[str, ...] = ()  # of pytorch-ood


@dataclass(frozen=True, slots=True)
class Average:
    """Means over all OOD sets."""

    fpr95: float
    low: float  # 95 % interval of fpr95
    high: float
    fpr95_official: float
    auroc: float
    aupr_in: float
    aupr_out: float
    fpr95_ood_positive: float


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """One score at one temperature."""

    score: str
    temperature: float
    n_id: int
    threshold_fpr95: float  # k-th smallest ID score, k = ⌈.95 n⌉
    threshold_conformal: float  # m-th smallest, m = ⌈(n + 1)(1 − α)⌉
    id_mean: float
    separations: Mapping[str, Separation]  # by OOD set
    flagged: Mapping[str, float]  # by OOD set: share above the conformal threshold
    means: Mapping[str, float]  # by OOD set: mean score
    average: Average
    edges: Float64s  # of the histograms, inner
    histograms: Mapping[str, Float64s]  # by set, ID under its own name: shares
    curves: Mapping[str, Float64s]  # by OOD set: (points, 2), OOD accepted and ID kept


@dataclass(frozen=True, slots=True)
class SetReport:
    """One set."""

    name: str
    n: int
    accuracy: float | None  # where labels exist
    labelled: int
    pictured: tuple[Pictured, ...]  # the most confused: unusual for ID, familiar for OOD


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that a report shows."""

    ids: SetReport
    oods: tuple[SetReport, ...]
    scores: tuple[ScoreReport, ...]
    dimensions: tuple[int, int] | None  # d of energy + residual, and D
    n_fit: int  # ID images that shaped the residual and are left out of its figures
    no_residual: str | None  # why there is none
    target_fpr: float


def evaluate(
    id_set: OutputSet,
    ood_sets: Sequence[OutputSet],
    plan: Plan,
    *,
    origin: Float64s | None,
    rng: np.random.Generator,
    head: Head | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Compare an ID set with OOD sets.

    Args:
        origin: o of the model's head; None: found from the outputs themselves.
        rng: chooses the fitting images, and draws the bootstrap.
        head: the model's last layer, for the detectors that need it.

    Raises RefusedError for too few ID images, UsageError for sets that cannot be compared.
    """
    order = rng.permutation(id_set.size)
    n_fit = min(int(id_set.size * FIT_SHARE), MAX_FIT_IMAGES)
    ids = Gathered(id_set.name, plan.temperatures, plan.pictures, unusual=True)
    fitting: list[Outputs] = []
    labels: list[int | None] = []
    for portion in ids.watch(id_set.portions(np.sort(order[:n_fit])), Fitted(), progress):  # without the pictures
        fitting.append(portion.outputs)
        labels += portion.labels
    space, no_residual = _residual_space(fitting, origin, plan.residual_dimensions)
    fitted = Fitted(space, _detectors(plan.detectors, fitting, labels, head))
    for _ in ids.watch(id_set.portions(np.sort(order[n_fit:])), fitted, progress):
        pass
    if not ids.n:
        raise UsageError(f"--id {id_set.name}: none of its {id_set.size} images could be scored")
    oods = [_gather(ood, plan, ids, fitted, progress) for ood in ood_sets]
    keys = [key for key in ids.keys if key in oods[0].keys]
    reports = [_score_report(key, ids, oods, plan.target_fpr, rng) for key in keys]
    return Evaluation(
        ids=_set_report(ids),
        oods=tuple(_set_report(ood) for ood in oods),
        scores=tuple(sorted(reports, key=_place)),
        dimensions=None if space is None else (space.axes.shape[1], len(space.origin)),
        n_fit=0 if space is None and not fitted.others else sum(len(outputs.logits) for outputs in fitting),
        no_residual=no_residual,
        target_fpr=plan.target_fpr,
    )


_ORDER = (ENERGY, "softmax", "max_logit", ENERGY_RESIDUAL)  # then what others have made, by name


def _place(report: ScoreReport) -> tuple[int, str, float]:
    ours = report.score in _ORDER
    return _ORDER.index(report.score) if ours else len(_ORDER), report.score, report.temperature


def _detectors(
    names: Sequence[str], fitting: Sequence[Outputs], labels: Sequence[int | None], head: Head | None
) -> Mapping[str, Callable[[Outputs], Float64s]]:
    """Detectors of pytorch-ood, fitted on what the residual is fitted on; where no label is known, the answer is it."""
    if not names:
        return {}
    if not fitting:
        raise RefusedError("too few ID images to fit --detector on")
    outputs = _joined(fitting)
    answers = outputs.logits.argmax(axis=1).tolist()
    classes = [answer if label is None else label for label, answer in zip(labels, answers, strict=True)]
    return fit_detectors(names, outputs, np.array(classes, np.int64), head)


def _joined(fitting: Sequence[Outputs]) -> Outputs:
    return Outputs(
        np.concatenate([some.logits for some in fitting]), np.concatenate([some.features for some in fitting])
    )


def _residual_space(
    fitting: Sequence[Outputs], origin: Float64s | None, dimensions: int | None
) -> tuple[ResidualSpace | None, str | None]:
    """The space, or why there is none; raises only where a person has named its dimensions."""
    try:
        if not fitting:
            raise RefusedError("too few ID images to fit it on")
        outputs = _joined(fitting)
        width = outputs.features.shape[1]
        if width == 0:
            raise RefusedError(
                "energy+residual needs features, and the ID set has none: add an array `features` to the .npz"
            )
        d = max(1, width // 4) if dimensions is None else dimensions
        return fit_residual_spaces(outputs, origin, (d,))[d], None
    except RefusedError as why:
        if dimensions is not None:
            raise
        return None, str(why)


def _gather(
    ood: OutputSet,
    plan: Plan,
    ids: Gathered,
    fitted: Fitted,
    progress: Callable[[int], None],
) -> Gathered:
    gathered = Gathered(ood.name, plan.temperatures, plan.pictures, unusual=False, like=ids)
    for _ in gathered.watch(ood.portions(np.arange(ood.size)), fitted, progress):
        pass
    if not gathered.n:
        raise UsageError(f"--ood {ood.name}: none of its {ood.size} images could be scored")
    if gathered.shared:
        raise UsageError(
            f"--ood {ood.name}: {gathered.shared} of its {gathered.n} images are also in the ID set, as"
            f" {gathered.first_shared}; an image cannot be both, take them out of one"
        )
    return gathered


def _score_report(
    key: Key, ids: Gathered, oods: Sequence[Gathered], target_fpr: float, rng: np.random.Generator
) -> ScoreReport:
    normal = np.sort(ids.scores(key))
    others = {ood.name: np.sort(ood.scores(key)) for ood in oods}
    conformal, _ = conformal_threshold(normal, target_fpr)
    weight = ids.n / len(normal)  # AUPR as if no ID image had been set aside for the residual
    separations = {name: separation(normal, scores, id_weight=weight, rng=rng) for name, scores in others.items()}
    edges = _histogram_edges(normal, list(others.values()))
    return ScoreReport(
        score=key.score,
        temperature=key.temperature,
        n_id=len(normal),
        threshold_fpr95=threshold_at(normal),
        threshold_conformal=conformal,
        id_mean=float(normal.mean()),
        separations=separations,
        flagged={name: float((scores > conformal).mean()) for name, scores in others.items()},
        means={name: float(scores.mean()) for name, scores in others.items()},
        average=_average(list(separations.values()), normal, list(others.values()), rng),
        edges=edges,
        histograms={name: shares_in_bins(scores, edges) for name, scores in [(ids.name, normal), *others.items()]},
        curves={name: roc_curve(normal, scores) for name, scores in others.items()},
    )


def _average(
    separations: Sequence[Separation], normal: Float64s, others: Sequence[Float64s], rng: np.random.Generator
) -> Average:
    def mean(name: str) -> float:
        return float(np.mean([getattr(separation, name) for separation in separations]))

    low, high = interval(fpr95_resamples(normal, others, rng=rng).mean(axis=0))
    fpr95 = mean("fpr95")
    return Average(
        fpr95=fpr95,
        low=min(low, fpr95),
        high=max(high, fpr95),
        fpr95_official=mean("fpr95_official"),
        auroc=mean("auroc"),
        aupr_in=mean("aupr_in"),
        aupr_out=mean("aupr_out"),
        fpr95_ood_positive=mean("fpr95_ood_positive"),
    )


def _histogram_edges(normal: Float64s, others: Sequence[Float64s]) -> Float64s:
    """Equal bins over the middle 99 % of every set: a few extremes must not flatten the picture."""
    quantiles = np.array([np.quantile(scores, [0.005, 0.995]) for scores in [normal, *others]])
    low, high = quantiles[:, 0].min(), quantiles[:, 1].max()
    return np.linspace(low, high if high > low else low + 1, _BINS + 1)[1:-1]


def _set_report(gathered: Gathered) -> SetReport:
    return SetReport(gathered.name, gathered.n, gathered.accuracy, gathered.labelled, gathered.pictured())
