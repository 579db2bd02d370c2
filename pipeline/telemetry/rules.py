"""Rules for Prometheus: what to be woken for where oodwatch itself is in trouble.

Shifts are not among them: the monitor tells of those itself, with a bound on its false alarms that no rule
on a rate has.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert."""

    name: str
    expression: str  # PromQL
    hold: str  # for so long
    severity: Literal["warning", "critical"]
    summary: str
    cure: str


RULES: Sequence[Rule] = (
    Rule(
        "OodwatchAbsent",
        "absent(oodwatch_ready)",
        "5m",
        "critical",
        "No oodwatch process is scraped.",
        "Start worker and monitor, or mend the scrape's targets.",
    ),
    Rule(
        "OodwatchNotReady",
        "oodwatch_ready == 0",
        "5m",
        "critical",
        "{{ $labels.instance }} is not ready: its records do not move.",
        "Its /readyz says why; see `oodwatch health`.",
    ),
    Rule(
        "OodwatchThreadSilent",
        "oodwatch_thread_silence_seconds > 300",
        "1m",
        "warning",
        "Thread {{ $labels.thread }} of {{ $labels.instance }} has shown no life for 5 min.",
        "Its log holds the stacks once /livez fails; restart it.",
    ),
    Rule(
        "OodwatchNewestImageOld",
        "time() - max by (deployment) (oodwatch_newest_event_timestamp_seconds) > 600",
        "5m",
        "warning",
        "{{ $labels.deployment }}: the newest image is over 10 min old.",
        "`oodwatch ledger` tells whether images wait or none come.",
    ),
    Rule(
        "OodwatchLag",
        "sum by (topic) (oodwatch_consumer_lag_records) > 10000"
        " and sum by (topic) (deriv(oodwatch_consumer_lag_records[15m])) > 0",
        "15m",
        "warning",
        "{{ $labels.topic }}: over 10,000 records wait, and ever more.",
        "Add workers, up to the number of partitions.",
    ),
    Rule(
        "OodwatchRecordsLost",
        "increase(oodwatch_expired_records_total[1h]) > 0",
        "0m",
        "critical",
        "The log deleted records before they were read.",
        "Give the topic a longer retention, or add workers.",
    ),
    Rule(
        "OodwatchDeadLetters",
        "sum(rate(oodwatch_dead_letters_total[15m]))"
        " / (sum(rate(oodwatch_dead_letters_total[15m])) + sum(rate(oodwatch_images_scored_total[15m]))) > 0.01",
        "15m",
        "warning",
        "Over 1 % of the records cannot be scored.",
        "`oodwatch dead-letters` says why.",
    ),
    Rule(
        "OodwatchDatabaseTrouble",
        "increase(oodwatch_database_retries_total[10m]) > 10",
        "10m",
        "warning",
        "{{ $labels.instance }} tries the database again and again.",
        "Look at the database; nothing is lost meanwhile.",
    ),
    Rule(
        "OodwatchMonitorStopped",
        "time() - max(oodwatch_monitor_last_success_timestamp_seconds) > 300",
        "1m",
        "critical",
        "No monitor has ended a run for 5 min: nobody judges the traffic.",
        "Start one, or read its log.",
    ),
    Rule(
        "OodwatchNobodyLeads",
        "absent(oodwatch_leader == 1)",
        "5m",
        "critical",
        "No monitor leads any deployment.",
        "Start one, or end the process that holds the lead.",
    ),
    Rule(
        "OodwatchWatermarkBehind",
        "time() - oodwatch_watermark_timestamp_seconds > 900",
        "5m",
        "warning",
        "{{ $labels.deployment }}: judged only up to 15 min ago.",
        "One slow partition holds the watermark; see `oodwatch ledger`.",
    ),
)


def prometheus_rules(rules: Sequence[Rule] = RULES) -> str:
    """A rule file, YAML. JSON strings are YAML's, so nothing needs to be escaped another way."""
    lines = ["groups:", "  - name: oodwatch", "    rules:"]
    for rule in rules:
        lines += [
            f"      - alert: {rule.name}",
            f"        expr: {json.dumps(rule.expression)}",
            f"        for: {rule.hold}",
            f"        labels: {json.dumps({'severity': rule.severity})}",
            "        annotations:",
            f"          summary: {json.dumps(rule.summary)}",
            f"          description: {json.dumps(rule.cure)}",
        ]
    return "\n".join(lines) + "\n"
