"""Where models come from: packages of the registry, what their repair changed, who promoted which and why."""

from collections.abc import Mapping
from html import escape
from statistics import fmean
from typing import Any

import streamlit as st

from dashboard import data, markup
from dashboard.frame import Page
from pipeline.storage.packages import RegisteredPackage

_HISTORY = 20
_LONGEST = 200


def lineage(page: Page, deployment: str) -> None:
    """Nothing where nothing is registered but what to do."""
    packages = data.packages(page.key)
    st.html(markup.heading("Packages", "what can be promoted, and what made it; newest first"))
    if not packages:
        st.html(markup.note("Nothing is registered. A repaired model becomes a candidate by: oodwatch models register"))
        return
    active = data.active_package(page.key, deployment)
    rows = [
        (
            escape(f"{one.name} {one.hash[:12]}") + (", scores now" if one.hash == active else ""),
            escape(one.parent or ""),
            escape("; ".join(_changed(one.repair or {}))),
            f"{one.registered_at:%Y-%m-%d %H:%M} by {escape(one.registered_by)}",
        )
        for one in reversed(packages)
    ]
    st.html(markup.table(("package", "made from", "before and after", "registered"), rows))
    candidate = next((one for one in reversed(packages) if one.hash != active), None)
    if candidate is not None:
        st.html(
            markup.note("Hold it against what scores now, then let it score; running workers change by themselves:")
        )
        st.code(_commands(candidate), language="sh")
    _history(page, deployment)


def _changed(repair: Mapping[str, Any]) -> list[str]:
    """What its own report says, in words."""
    before, after = _figures(repair, "before"), _figures(repair, "after")
    found = [str(repair["kind"])] if "kind" in repair else []
    return found + [f"{name} {before[name]:.1%} to {after[name]:.1%}" for name in before if name in after]


def _figures(repair: Mapping[str, Any], name: str) -> dict[str, float]:
    """Means over OOD sets and over groups; a report of another shape says less."""
    part = repair.get(name)
    if not isinstance(part, dict):
        return {}
    sets, groups = list(part.get("sets", {}).values()), list(part.get("groups", {}).values())
    found = {words: fmean(one[key] for one in sets) for key, words in (("fpr95", "FPR95"), ("auroc", "AUROC")) if sets}
    if groups:
        accuracies = [one["accuracy"] for one in groups]
        found |= {"worst group": min(accuracies), "mean of groups": fmean(accuracies)}
    if part.get("accuracy") is not None:
        found["accuracy"] = part["accuracy"]
    return found


def _commands(candidate: RegisteredPackage) -> str:
    which = candidate.hash[:12]
    return f'oodwatch models compare {which} --model DIR\noodwatch models promote {which} --reason "..."'


def _history(page: Page, deployment: str) -> None:
    events = data.model_events(page.key, deployment)
    st.html(markup.heading("Hand-overs", "who changed what scores, and why; newest first"))
    rows = [
        (
            f"{one.at:%Y-%m-%d %H:%M}",
            escape(one.event),
            escape(one.model or (one.package or "the worker's own")[:12]),
            escape(one.who),
            escape(one.why[:_LONGEST]),
        )
        for one in reversed(events[-_HISTORY:])
    ]
    st.html(markup.table(("at", "", "model", "who", "why"), rows) if rows else markup.note("None yet."))
