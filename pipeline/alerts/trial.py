"""Notifications that say of themselves that nothing has happened: to see whether a channel works, or how soon."""

from datetime import datetime
from typing import Any

from pipeline.alerts.incident import Action
from pipeline.alerts.notification import Notification
from pipeline.alerts.standing import Standing


def trial(action: Action, *, deployment: str, now: datetime) -> Notification:
    """A made-up event of no incident, with every field of webhook v1."""
    cause = "somebody ran `oodwatch notify test`"
    payload = _made_up("test", 0, cause, deployment=deployment, segment="test", now=now)
    return Notification(0, 0, action, {**payload, "to": "ok" if action == "resolve" else "shift"}, now)


def drill(
    key: int, flagged: int, n: int, *, deployment: str, model: str, reference: str, segment: str, now: datetime
) -> dict[str, Any]:
    """The payload of a drill whose n images were scored, of webhook v1. Its state is `drill`, its severity info."""
    payload = _made_up("drill", key, "somebody ran `oodwatch drill`", deployment=deployment, segment=segment, now=now)
    known = {"model": model, "reference": reference, "unit": "share of images flagged", "value": flagged / n, "n": n}
    return {**payload, **known, "to": "drill"}


def standing_trial(notification: Notification) -> Standing:
    """The same for a channel that is told what stands; it ends by itself."""
    at = notification.created_at
    return Standing(notification.incident_id, at, "open", None, (notification,))


def _made_up(name: str, key: int, cause: str, *, deployment: str, segment: str, now: datetime) -> dict[str, Any]:
    at = now.isoformat()
    return {
        "version": 1,
        name: True,
        "transition": 0,
        "incident": key,
        "alert": {"signal": "fraction", "segment": segment},
        "fingerprint": f"oodwatch/{deployment[:200]}/{key}",
        "at": at,
        "from": "ok",
        "to": "ok",
        "severity": "info",
        "deployment": deployment,
        "model": None,
        "reference": None,
        "segment": segment,
        "window": {"from": at, "to": at},
        "value": None,
        "normal": None,
        "warning": None,
        "critical": None,
        "n": 0,
        "n_effective": 0,
        "onset": at,
        "attribution": [],
        "cause": [{"kind": name, "evidence": [cause]}],
        "matters": None,
        "trust": None,
        "links": {},
    }
