"""Where a monitor dies by its own hand: between the statements of its transactions."""

from collections.abc import Callable
from typing import Any, Literal

from tests.faults.soak.wrapping import Installer, PassBy, after, before, wrap

MonitorPoint = Literal[
    "before any statement",
    "after the claim",
    "after the parts are deleted",
    "after the ticks are stored",
    "after the state is stored",
    "after the checkpoints are stored",
    "after the verdicts are stored",
    "after the transitions are stored",
    "after a level is made",
    "before the monitor's COMMIT",
    "after the monitor's COMMIT",
    "after incidents are stored",
    "before a notification is sent",
    "after a notification is sent",
]
_ALL: tuple[MonitorPoint, ...] = MonitorPoint.__args__  # type: ignore[attr-defined]
#: Of a monitor that tells somebody of incidents.
TELLING_POINTS = _ALL[-3:]
MONITOR_POINTS = _ALL[:-3]


def _before_statement(pass_by: PassBy) -> None:
    from sqlalchemy import Engine, event

    event.listen(Engine, "before_cursor_execute", lambda *_: pass_by())


def _around_monitor_commit(ahead: PassBy, behind: PassBy) -> None:
    """The COMMIT of a transaction that has claimed the monitor's position, and of no other."""
    from sqlalchemy.engine.default import DefaultDialect

    claimed = False

    def claim(original: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        nonlocal claimed
        original(*arguments, **named)
        claimed = True

    def commit(original: Callable[..., Any], *arguments: Any) -> None:
        nonlocal claimed
        of_the_monitor, claimed = claimed, False
        if of_the_monitor:
            ahead()
        original(*arguments)
        if of_the_monitor:
            behind()

    for owner in _stages_of_the_monitor():
        wrap(owner, "claim", claim)
    wrap(DefaultDialect, "do_commit", commit)


def _after_stored(name: str) -> Installer:
    def install(pass_by: PassBy) -> None:
        for owner in _stages_of_the_monitor():
            if hasattr(owner, name):
                wrap(owner, name, after(pass_by))

    return install


def _after_incidents(pass_by: PassBy) -> None:
    from pipeline.stages import alerting

    wrap(alerting, "store", after(pass_by))


def _around_sending(around: Callable[[PassBy], Callable[..., Any]]) -> Installer:
    def install(pass_by: PassBy) -> None:
        from pipeline.senders.alertmanager import Alertmanager
        from pipeline.senders.apprise_url import AppriseUrl
        from pipeline.senders.pagerduty import PagerDuty
        from pipeline.senders.stdout import Stdout
        from pipeline.senders.webhook import Webhook

        def renew(original: Callable[..., Any], *arguments: Any) -> Any:
            """A notification, or what stands once more: that comes so often that nobody would live to tell more."""
            is_notification = arguments[-1] is None
            return (around(pass_by) if is_notification else around(lambda: None))(original, *arguments)

        for sender in (AppriseUrl, PagerDuty, Stdout, Webhook):
            wrap(sender, "send", around(pass_by))
        wrap(Alertmanager, "renew", renew)

    return install


def _stages_of_the_monitor() -> list[Any]:
    from pipeline.stages import folding, judging, rolling

    return [folding, judging, rolling]


MONITOR_INSTALLERS: dict[str, Installer] = {
    "before any statement": _before_statement,
    "after the claim": _after_stored("claim"),
    "after the parts are deleted": _after_stored("delete_parts"),
    "after the ticks are stored": _after_stored("put_ticks"),
    "after the state is stored": _after_stored("put_state"),
    "after the checkpoints are stored": _after_stored("replace_checkpoints"),
    "after the verdicts are stored": _after_stored("put_verdicts"),
    "after the transitions are stored": _after_stored("add_transitions"),
    "after a level is made": _after_stored("note_made"),
    "before the monitor's COMMIT": lambda pass_by: _around_monitor_commit(pass_by, lambda: None),
    "after the monitor's COMMIT": lambda pass_by: _around_monitor_commit(lambda: None, pass_by),
    "after incidents are stored": _after_incidents,
    "before a notification is sent": _around_sending(before),
    "after a notification is sent": _around_sending(after),
}
