"""A notification that says of itself that nothing has happened: to see whether a channel works."""

from datetime import datetime

from pipeline.alerts.incident import Action
from pipeline.alerts.notification import Notification
from pipeline.alerts.standing import Standing


def trial(action: Action, *, deployment: str, now: datetime) -> Notification:
    """A made-up event of no incident, with every field of webhook v1."""
    at = now.isoformat()
    payload = {
        "version": 1,
        "test": True,
        "transition": 0,
        "incident": 0,
        "alert": {"signal": "fraction", "segment": "test"},
        "fingerprint": f"oodwatch/{deployment}/0",
        "at": at,
        "from": "ok",
        "to": "ok" if action == "resolve" else "shift",
        "severity": "info",
        "deployment": deployment,
        "model": None,
        "reference": None,
        "segment": "test",
        "window": {"from": at, "to": at},
        "value": None,
        "normal": None,
        "warning": None,
        "critical": None,
        "n": 0,
        "n_effective": 0,
        "onset": at,
        "attribution": [],
        "cause": [{"kind": "test", "evidence": ["somebody ran `oodwatch notify test`"]}],
        "matters": None,
        "trust": None,
        "links": {},
    }
    return Notification(0, 0, action, payload, now)


def standing_trial(notification: Notification) -> Standing:
    """The same for a channel that is told what stands; it ends by itself."""
    at = notification.created_at
    return Standing(notification.incident_id, at, "open", None, (notification,))
