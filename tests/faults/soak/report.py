"""One line a run, and what all runs together prove."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from scipy.stats import beta

from tests.faults.soak.oracle import Verdict

_COLUMNS = (
    ("scenario", 26),
    ("database", 8),
    ("acked", 8),
    ("kills", 5),
    ("scored", 8),
    ("dead", 5),
    ("gaps", 6),
    ("lost", 5),
    ("unread", 6),
    ("twice", 6),
    ("alien", 6),
    ("ledger", 6),
    ("parts", 5),
    ("pause s", 7),
    ("s", 5),
)


@dataclass(frozen=True)
class Outcome:
    """One run of one scenario."""

    scenario: str
    database: str
    seed: int
    kills: int
    kills_at: dict[str, int]
    other_faults: dict[str, int]
    fenced: int  # ranges
    verdict: Verdict
    failures: tuple[str, ...]  # workers that ended by themselves
    longest_pause_s: float
    recovery_s: tuple[float, float] | None  # p50 and p95 from a kill until another moved the dead one's cursors
    seconds: float
    mutant: str | None = None
    caught: str | None = None  # of a mutant: how the oracle noticed

    @property
    def passed(self) -> bool:
        """Clean; a mutant must not be."""
        if self.mutant is not None:
            return self.caught is not None
        return self.verdict.is_clean and not self.failures

    def as_json(self) -> str:
        """One line."""
        return json.dumps({**asdict(self), "passed": self.passed}, ensure_ascii=False)

    def as_text(self) -> str:
        """A row of the table, and below it what is not as it should be."""
        verdict = self.verdict
        values = (
            self.scenario if self.mutant is None else f"mutant: {self.mutant}",
            self.database,
            f"{verdict.acknowledged:,}",
            self.kills,
            f"{verdict.scored:,}",
            verdict.dead,
            verdict.gaps,
            verdict.lost,
            verdict.unread,
            verdict.duplicated,
            verdict.alien,
            _mark(verdict.ledger_exact),
            _mark(verdict.parts_equal_rows),
            f"{self.longest_pause_s:.1f}",
            f"{self.seconds:.0f}",
        )
        row = "  ".join(
            f"{value!s:<{width}}" if i < 2 else f"{value!s:>{width}}"
            for i, (value, (_, width)) in enumerate(zip(values, _COLUMNS, strict=True))
        )
        notes = {**self.other_faults, "ranges fenced": self.fenced}
        faults = [f"{count} {what}" for what, count in notes.items() if count]
        if self.recovery_s is not None:
            faults.append("recovered in {:.1f} s, 95 % in {:.1f} s".format(*self.recovery_s))
        lines = [f"{row}  {', '.join(faults)}".rstrip()]
        if self.mutant is not None:
            lines.append(f"    {'caught: ' + self.caught if self.caught else 'NOT CAUGHT'}")
        elif not self.passed:
            lines += [f"    {remark}" for remark in (*verdict.remarks, *self.failures)]
            lines += [f"    wrong energies {verdict.wrong_energy}, misjudged {verdict.misjudged}"]
        return "\n".join(lines)


def header() -> str:
    """Names of the columns."""
    names = "  ".join(f"{name:<{width}}" if i < 2 else f"{name:>{width}}" for i, (name, width) in enumerate(_COLUMNS))
    return f"{names}  other faults"


def upper_bound(failures: int, trials: int, confidence: float = 0.95) -> float:
    """One-sided Clopper-Pearson: the failure rate is below this at the given confidence; 1 without a trial."""
    if trials == 0 or failures >= trials:
        return 1.0
    return float(beta.ppf(confidence, failures + 1, trials - failures))


def summary(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Totals over all runs of the product itself, and the mutants beside them."""
    runs = [outcome for outcome in outcomes if outcome.mutant is None]
    mutants = [outcome for outcome in outcomes if outcome.mutant is not None]
    others: Counter[str] = Counter()
    for run in runs:
        others.update(run.other_faults)
    kills = sum(run.kills for run in runs)
    wrong = sum(v.lost + v.unread + v.duplicated + v.alien for v in (run.verdict for run in runs))
    faults = kills + others.total()
    return {
        "runs": len(runs),
        "acknowledged": sum(run.verdict.acknowledged for run in runs),
        "kills": kills,
        "other faults": dict(others),
        "lost, unread, duplicated or alien": wrong,
        "not clean": sum(not run.passed for run in runs),
        "loss per fault below, at 95 %": upper_bound(min(wrong, faults), faults),
        "loss per record below, at 95 %": upper_bound(wrong, sum(run.verdict.acknowledged for run in runs)),
        "mutants caught": f"{sum(mutant.passed for mutant in mutants)} of {len(mutants)}",
    }


def _mark(exact: bool) -> str:
    return "exact" if exact else "WRONG"
