"""Where it comes from: what is more than normal, shared out to segments and classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, sqrt

OTHER = "other"
SIGNIFICANT = 3.0  # standard deviations
_SHOWN = 8
_SMALL = 1.0  # %; less goes to `other`


@dataclass(frozen=True, slots=True)
class Counted:
    """n images, k of them flagged, and the share q that is normal there."""

    n: float
    k: float
    q: float

    @property
    def excess(self) -> float:
        """k − q·n: flagged images that normal traffic would not have brought."""
        return self.k - self.q * self.n


@dataclass(frozen=True, slots=True)
class Share:
    """One part of the whole."""

    name: str
    percent: int
    excess: float  # images
    share: float | None  # flagged of its images now; None of `other`, and where nothing is to be divided by
    normal: float | None


def attribute(
    parts: Mapping[str, Counted], d: float = 1.0, *, shown: int = _SHOWN, named: str = ""
) -> tuple[Share, ...]:
    """Whole percents of the excess by part, the largest first; they sum to exactly 100.

        x_s = max(0, k_s − q_s·n_s),   percent_s = 100·x_s / Σ x

    A part with fewer flags than normal has no share: it explains nothing, and it must not let others explain more
    than all. Parts after the first `shown`, those under 1 %, and, where some part stands out, those that do not (3
    standard deviations, `d` images counting as one) are `other`. Rounded by largest remainders, ties by name; 0 % is
    left out. Nothing where no part has an excess. The part `named` is never `other`, where it has an excess.
    """
    excess = {name: max(0.0, part.excess) for name, part in parts.items()}
    total = sum(excess.values())
    if total <= 0:
        return ()
    order = sorted((name for name in excess if excess[name] > 0), key=lambda name: (-excess[name], name))
    clear = [name for name in order if is_significant(parts[name], d)] or order
    listed = [name for name in clear if name not in {OTHER, named} and 100 * excess[name] >= _SMALL * total]
    asked = [named] if excess.get(named) else []
    own = sorted([*asked, *listed[: shown - len(asked)]], key=order.index)
    rest = sum(excess[name] for name in order if name not in own)
    amounts = [*(excess[name] for name in own), *([rest] if len(own) < len(order) else [])]
    percents = hundred(amounts)
    shares = [
        Share(name, percent, excess[name], parts[name].k / parts[name].n if parts[name].n else None, parts[name].q)
        for name, percent in zip(own, percents, strict=False)
    ]
    if len(amounts) > len(own):
        shares.append(Share(OTHER, percents[-1], rest, None, None))
    return tuple(one for one in shares if one.percent or one.name in asked)


def hundred(amounts: Sequence[float]) -> list[int]:
    """Whole percents of the sum of what is not negative, which add up to 100: largest remainders, the first of equals.

    Raises ValueError where the sum is not above 0.
    """
    total = sum(amounts)
    if total <= 0 or min(amounts) < 0:
        raise ValueError(f"{amounts} cannot be shared out: all at least 0, their sum above it")
    exact = [100 * amount / total for amount in amounts]
    percents = [floor(value) for value in exact]
    missing = 100 - sum(percents)
    for at in sorted(range(len(exact)), key=lambda at: (percents[at] - exact[at], at))[:missing]:
        percents[at] += 1
    return percents


def normal_share(k: float, n: float, of_all: float, *, weight: float = 200.0) -> float:
    """A part's own normal share: k of n images before the onset, drawn towards that of all traffic.

        q = (k + w·q_all) / (n + w),   w = 200 images

    so that a part that is new, or nearly so, is held against all the others.
    """
    return (k + weight * of_all) / (n + weight)


def is_significant(part: Counted, d: float) -> bool:
    """Whether the excess lies 3 standard deviations beyond chance, d images counting as one."""
    return part.n > 0 and part.excess > SIGNIFICANT * sqrt(d * part.n * part.q * (1 - part.q)) + 1
