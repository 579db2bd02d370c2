"""The cause card: what happened, as far as stored evidence tells, the likeliest first.

    evidence ──► one rule a cause: a score 0..1 and the sentences that speak for it ──► ranked

A score is no probability: it says how well what is stored fits, and orders the causes. The rules, with
ramp(x; a, b) = 0 up to a, 1 from b, linear between; moved, up and down of a property as in `profile`; h the
distance between the score histograms, y between the classes, f = flagged now − normal, r = repeats now − normal;
all = share of segments that changed:

    frozen     ramp(r; .1, .6). What repeats explains the rest: the other looks are multiplied by 1 − .8·frozen
    lens       the clearest of: darker; brighter; contrast, sharpness and colour down (fog); sharpness down, more than
               contrast (focus, dirt). Times 1 − moved(size), times 1 − .3·all where there are several segments; less
               where it is not clear and the scores resemble damage on the reference's card that a pipeline does; times
               1 − .7·(share of what moved that shows detail or colour that no lens brings)
    pipeline   the clearest of: other image sizes; scores moved (h) while brightness, contrast and sharpness did not,
               and the images below the threshold moved too; times .6 + .4·all, as what all segments share is no lens;
               more where the scores resemble damage on the card that a pipeline does
    new class  ramp(f; .02, .15), less where lens, size or damage of the card explain it, or where unflagged images
               moved as well: new content comes beside what was there before
    class mix  ramp(y; .08, .35), less where flags rose, or where properties moved further than classes
    model      the model or its reference changed within an hour of the onset
    traffic    ramp(|log₂(rate now/before)|; .4, 1.5)
    unknown    .2: first where nothing fits better
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import log2
from typing import Literal

from pipeline.alerts.profile import Move
from pipeline.alerts.signs import Evidence, ModelChange, Signs, ramp, signs

CauseKind = Literal["lens", "frozen", "new_class", "class_mix", "pipeline", "model", "traffic", "unknown"]

TITLES: Mapping[str, str] = {
    "lens": "lens or exposure",
    "frozen": "frozen source",
    "new_class": "new class: content that the model does not know",
    "class_mix": "another mix of known classes",
    "pipeline": "pipeline or preprocessing",
    "model": "model or reference changed",
    "traffic": "traffic: more or fewer images",
    "unknown": "nothing that is stored explains it",
}
UNKNOWN_SCORE = 0.2
LEAST_SCORE = 0.1

#: What the card of blind spots calls what a lens does, and what a pipeline does.
_LENS_DAMAGE = {"blurred", "noisy", "dark x0.3", "bright x2"}
_PIPELINE_DAMAGE = {"red-blue swap", "rotated 90°", "mirrored", "inverted", "shifted 1/8", "JPEG q10"}
_NEAR = timedelta(hours=1)
_AFTER = timedelta(minutes=15)  # an onset is the start of a tick, and evidence may begin before
_MARK_WORDS = {
    "lens": ("lens", "camera", "clean", "exposure", "focus", "light"),
    "pipeline": ("deploy", "release", "resize", "preprocess", "decoder", "codec", "pipeline", "app", "config"),
    "model": ("model", "weights", "retrain", "checkpoint"),
}
_COLOURLESS = 0.03  # colourfulness of grey images
_MARK_GAIN = 0.3  # of what is missing to 1


@dataclass(frozen=True, slots=True)
class Cause:
    """One line of the card."""

    kind: CauseKind
    score: float
    evidence: tuple[str, ...]

    @property
    def title(self) -> str:
        """For people."""
        return TITLES[self.kind]


def rank(evidence: Evidence) -> tuple[Cause, ...]:
    """The causes that fit, the best first; `unknown` where it belongs."""
    found = signs(evidence)
    causes = [_marked(cause, evidence) for cause in _causes(evidence, found)]
    unknown = Cause("unknown", UNKNOWN_SCORE, ("no rule fits better: look at the images, and at what changed then",))
    kept = [cause for cause in causes if cause.score >= LEAST_SCORE]
    return tuple(sorted([*kept, unknown], key=lambda cause: -cause.score))


def _causes(evidence: Evidence, found: Signs) -> Iterator[Cause]:
    frozen = _frozen(evidence, found)
    yield _traffic(evidence)
    yield frozen
    left = 1 - 0.8 * frozen.score
    lens = _lens(evidence, found)
    for cause in (
        _model(evidence, found),
        _pipeline(evidence, found, lens),
        lens,
        _new_class(evidence, found, lens),
        _class_mix(evidence, found),
    ):
        yield Cause(cause.kind, cause.score * left, cause.evidence)


def _frozen(evidence: Evidence, found: Signs) -> Cause:
    now, before = evidence.now.repeat_share, evidence.before.repeat_share
    said = f"{now:.0%} of the images equal their segment's previous one, byte for byte; before, {before:.0%}"
    return Cause("frozen", ramp(found.repeats, 0.1, 0.6), (said, _where(evidence)))


def _lens(evidence: Evidence, found: Signs) -> Cause:
    brightness, contrast = found.moves["brightness"], found.moves["contrast"]
    sharpness, colour = found.moves["sharpness"], found.moves["colourfulness"]
    looks = {
        "darker": brightness.down,
        "brighter": brightness.up,
        "hazy": min(contrast.down, sharpness.down, colour.down if colour.before > _COLOURLESS else 1.0)
        * (1 - brightness.down),  # what is dark has less of everything
        "less sharp": max(0.0, sharpness.down - contrast.down) * (1 - contrast.up),
    }
    most = max(looks.values())
    what = [name for name, look in looks.items() if look >= 0.5 * most]
    score = ramp(most, 0.1, 0.6) * (1 - found.moves["size"].moved)
    if found.like is not None and found.like[0] in _PIPELINE_DAMAGE:
        score *= 1 - 0.6 * found.like[1] * (1 - ramp(most, 0.3, 0.8))
    if evidence.segments > 1:
        score *= 1 - 0.3 * found.everywhere
    beyond = _beyond_lens(found, exposed=bool({"darker", "brighter"} & {*what}))
    score *= 1 - 0.7 * min(1.0, beyond / most) if most else 1.0
    said = [
        f"the images are {' and '.join(what)}",
        *_moved(found, ("brightness", "contrast", "sharpness", "colourfulness")),
    ]
    if (like := _resembles(found, _LENS_DAMAGE)) is not None:
        said.append(like)
    return Cause("lens", score, (*said, _where(evidence)))


def _beyond_lens(found: Signs, *, exposed: bool) -> float:
    """Share of images that show what no lens does.

    A lens brings no detail and no colour that was not there. More light brings both in proportion: no detail while
    contrast falls, and no colour to what is grey. Noise, as that of less light, is detail, and brings colour with it.
    """
    moves = found.moves
    contrast, sharpness, colour = moves["contrast"], moves["sharpness"], moves["colourfulness"]
    if not exposed:
        return max(sharpness.up, colour.up)
    detail = max(0.0, contrast.down - sharpness.down)
    tint = colour.up if colour.before <= _COLOURLESS else 0.0
    return max(detail, tint) * (1 - sharpness.up) * (1 - moves["brightness"].down)


def _pipeline(evidence: Evidence, found: Signs, lens: Cause) -> Cause:
    sized = ramp(found.moves["size"].moved, 0.1, 0.5)
    unseen = ramp(max(found.scores, found.flags), 0.1, 0.4) * (1 - ramp(found.looks, 0.1, 0.5))
    unseen *= 0.4 + 0.6 * ramp(found.below, 0.1, 0.3)
    score = max(sized, unseen) * (0.6 + 0.4 * found.everywhere)
    said = []
    if sized:
        said += list(_moved(found, ("size",)))
    if unseen:
        said.append(
            f"the scores moved (distance {found.scores:.2f} of 1) while brightness, contrast and sharpness hardly did"
            f" (at most {found.looks:.2f})"
        )
    if (like := _resembles(found, _PIPELINE_DAMAGE)) is not None and found.like is not None:
        score += (1 - score) * 0.6 * found.like[1] * (1 - lens.score)
        said.append(like)
    return Cause("pipeline", score, (*said, _where(evidence)))


def _new_class(evidence: Evidence, found: Signs, lens: Cause) -> Cause:
    score = ramp(found.flags, 0.02, 0.15) * (1 - 0.8 * lens.score) * (1 - 0.8 * found.moves["size"].moved)
    score *= 1 - 0.6 * ramp(found.below, 0.1, 0.3)
    if found.like is not None:
        score *= 1 - 0.5 * found.like[1]
    said = [f"{evidence.now.flag_share:.1%} of the images are flagged as unusual; normally {evidence.normal:.1%}"]
    if found.flags > 0 and found.below < 0.1:
        said.append(f"the other images score as before (distance {found.below:.2f} of 1)")
    return Cause("new_class", score, (*said, _where(evidence)))


def _class_mix(evidence: Evidence, found: Signs) -> Cause:
    beyond = found.looks - found.classes
    score = ramp(found.classes, 0.08, 0.35) * (1 - ramp(found.flags, 0.05, 0.25)) * (1 - ramp(beyond, 0.05, 0.25))
    said = [f"predicted classes changed for at least {found.classes:.0%} of the images", *_class_changes(evidence)]
    return Cause("class_mix", score, tuple(said))


def _model(evidence: Evidence, found: Signs) -> Cause:
    if evidence.invalid:
        return Cause("model", 1.0, (evidence.invalid,))
    nearest = min(evidence.changes, key=lambda change: abs(change.at - evidence.onset), default=None)
    if nearest is None:
        return Cause("model", 0.0, ())
    apart = nearest.at - evidence.onset
    score = 1 - ramp(abs(apart) / _NEAR, 0.25, 1)
    if apart > _AFTER:
        score = 0.0
    score *= 1 - 0.4 * found.looks
    return Cause("model", score, (_change_in_words(nearest, evidence.onset),))


def _traffic(evidence: Evidence) -> Cause:
    before, now = evidence.rate_before, evidence.rate_now
    said = (f"{now:,.3g} images a minute since then, {before:,.3g} before",)
    if before <= 0:
        return Cause("traffic", 0.0, said)
    if evidence.silent or now == 0:
        return Cause("traffic", 1.0, ("no image comes any more", *said))
    return Cause("traffic", ramp(abs(log2(now / before)), 0.4, 1.5), said)


def _marked(cause: Cause, evidence: Evidence) -> Cause:
    """A mark near the onset that speaks of a cause makes it likelier, and it is quoted."""
    words = _MARK_WORDS.get(cause.kind, ())
    for mark in evidence.marks:
        near = -_NEAR <= mark.at - evidence.onset <= _AFTER
        if near and any(word in mark.text.lower() for word in words):
            score = cause.score + (1 - cause.score) * _MARK_GAIN
            said = f"{mark.who} marked {mark.text!r} {apart(mark.at, evidence.onset)}"
            return Cause(cause.kind, score, (*cause.evidence, said))
    return cause


def apart(at: datetime, onset: datetime) -> str:
    """How long before or after the onset something was, in words."""
    minutes = round((at - onset) / timedelta(minutes=1))
    if not minutes:
        return "at the onset"
    long = f"{abs(minutes)} min" if abs(minutes) < 120 else f"{abs(minutes) / 60:.0f} h"
    return f"{long} {'before' if minutes < 0 else 'after'} the onset"


def _change_in_words(change: ModelChange, onset: datetime) -> str:
    what = "another model" if change.model_changed else "another reference of the same model"
    return f"{what}: {change.after} took over from {change.before} {apart(change.at, onset)}"


def _moved(found: Signs, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        move: Move = found.moves[name]
        if move.moved < 0.1:
            continue
        ways = "higher" if move.direction > 0.5 else "lower" if move.direction < -0.5 else "elsewhere"
        medians = "median " + " → ".join(
            f"{one:,.0f}" if one >= 100 else f"{one:.3g}" for one in (move.before, move.now)
        )
        yield f"{name} lies {ways} for at least {move.moved:.0%} of the images ({medians})"


def _class_changes(evidence: Evidence) -> Iterator[str]:
    before, now = evidence.before.class_counts, evidence.now.class_counts
    if not before.sum() or not now.sum():
        return
    changes = now / now.sum() - before / before.sum()
    for at in (int(changes.argmax()), int(changes.argmin())):
        old, new = before[at] / before.sum(), now[at] / now.sum()
        yield f"class {evidence.classes[at]}: {new:.0%} of the images, before {old:.0%}"


def _resembles(found: Signs, kinds: set[str]) -> str | None:
    if found.like is None or found.like[0] not in kinds:
        return None
    return f"of the damage on the reference's card the scores resemble {found.like[0]!r} most"


def _where(evidence: Evidence) -> str:
    changed, segments = len(evidence.changed), evidence.segments
    if segments <= 1:
        return "there is one segment"
    if changed == segments:
        return f"in all {segments} segments"
    names = ", ".join(evidence.changed[:3]) + ", ..." * (changed > 3)
    return f"in {changed} of {segments} segments: {names}" if changed else f"in none of {segments} segments alone"
