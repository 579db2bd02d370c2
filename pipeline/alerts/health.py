"""What the health rules find. These alerts stand apart from the detector's false-alarm budget, and say so. Pure."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from pipeline.alerts import health_rules
from pipeline.alerts.health_rules import Found
from pipeline.alerts.incident import Key
from pipeline.alerts.snapshot import Snapshot

APART = " (the pipeline's own health, apart from the false-alarm budget)"

_RULES: Mapping[str, Callable[[Snapshot, bool], Found]] = {
    "results": health_rules.results,
    "lag": health_rules.lag,
    "retention": health_rules.retention,
    "ledger": health_rules.ledger,
    "dead_letters": health_rules.dead_letters,
    "clocks": health_rules.clocks,
    "workers": health_rules.workers,
    "disk": health_rules.disk,
    "judging": health_rules.judging,
    "model": health_rules.model,
    "handover": health_rules.handover,
}

#: Names of the rules: signals of alerts in incidents of kind `health`.
RULES = tuple(_RULES)


@dataclass(frozen=True, slots=True)
class Finding:
    """How a rule finds it."""

    rule: str
    state: str  # ok, warning, error, baseline_invalid
    since: datetime
    detail: str


def findings(seen: Snapshot, firing: Collection[Key]) -> list[Finding]:
    """What every rule that has something to go by says; `firing`: the keys of open alerts."""
    said = []
    for name, rule in _RULES.items():
        found = rule(seen, (name, "") in firing)
        if found is not None:
            state, since, detail = found
            said.append(Finding(name, state, since, detail if state == "ok" else detail + APART))
    return said
