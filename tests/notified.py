"""What there is to tell, in little: an incident, its events, and servers that are told of them."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sqlalchemy import Engine, insert, select, update

from pipeline.alerts.delivery import Undelivered
from pipeline.alerts.incident import Action
from pipeline.alerts.notification import Notification
from pipeline.senders.sender import Channel, Renewer, Sender
from pipeline.stages.delivering import Delivering
from pipeline.storage.alert_schema import AlertRow, IncidentEventRow, IncidentRow, OutboxRow
from pipeline.storage.deployments import ensure_deployment
from pipeline.storage.outbox import enqueue
from pipeline.storage.references import save_reference
from tests.faults.scored import reference

T0 = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def payload(severity: str = "critical", **changed: Any) -> dict[str, Any]:
    """Webhook v1 with every field filled in."""
    return {
        "version": 1,
        "transition": 7,
        "incident": 3,
        "alert": {"signal": "fraction", "segment": "cam-3"},
        "fingerprint": "oodwatch/digits/3",
        "at": "2026-11-24T03:00:00+00:00",
        "from": "ok",
        "to": "critical",
        "severity": severity,
        "deployment": "digits",
        "model": "digits@0f3a",
        "reference": "digits-r1",
        "segment": "cam-3",
        "window": {"from": "2026-11-24T02:10:00+00:00", "to": "2026-11-24T03:00:00+00:00"},
        "unit": "share of images flagged",
        "value": 0.314,
        "interval": {"low": 0.28, "high": 0.35},
        "normal": 0.011,
        "warning": 0.1,
        "critical": 0.25,
        "n": 1200,
        "n_effective": 410.5,
        "onset": "2026-11-24T02:10:00+00:00",
        "attribution": [{"segment": "cam-3", "share": 0.91}, {"segment": "cam-1", "share": 0.09}],
        "cause": [{"kind": "lens", "title": "a lens", "score": 0.8, "evidence": ["sharpness fell by 40 %"]}],
        "matters": {
            "reference_accuracy": 0.9,
            "accuracy_at_most": {"share": 0.71, "low": 0.68, "high": 0.74, "n": 410},
        },
        "trust": {"newest_result_age_seconds": 12.0, "lag_records": 0, "scored_ratio": 1.0, "reservations": []},
        "links": {"incident": "https://oodwatch.example.com/incident/3"},
        **changed,
    }


def notification(action: Action = "trigger", event_id: int = 7, at: datetime = T0, **changed: Any) -> Notification:
    """One event of incident 3."""
    return Notification(event_id, 3, action, payload(**changed), at)


class Story:
    """A deployment `d`, its incidents and their events, written as the alerting stage does."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        with engine.begin() as conn:
            self.reference_id = save_reference(conn, reference())
            self.deployment_id = ensure_deployment(conn, "d", model_id="m@0", reference_id=self.reference_id, now=T0)

    def incident(self, *, kind: str = "shift", at: datetime = T0) -> int:
        """A new one that is open."""
        with self.engine.begin() as conn:
            incident = conn.execute(
                insert(IncidentRow)
                .values(
                    deployment_id=self.deployment_id,
                    kind=kind,
                    handling="open",
                    onset=at - 10 * MINUTE,
                    state="critical",
                    peak="critical",
                    provisional=False,
                    opened_at=at,
                )
                .returning(IncidentRow.id)
            ).scalar_one()
            conn.execute(
                insert(AlertRow).values(
                    incident_id=incident,
                    deployment_id=self.deployment_id,
                    reference_id=self.reference_id,
                    signal="fraction",
                    segment=f"cam-{incident}",
                    state="critical",
                    peak="critical",
                    provisional=False,
                    onset=at - 10 * MINUTE,
                    detail="",
                    raised_at=at,
                    updated_at=at,
                )
            )
        return incident

    def event(
        self, incident: int, *channels: str, action: Action = "trigger", at: datetime = T0, **changed: Any
    ) -> int:
        """One event, to be told on these channels; a resolve closes the incident, a trigger opens it."""
        with self.engine.begin() as conn:
            event = conn.execute(
                insert(IncidentEventRow)
                .values(incident_id=incident, at=at, kind=action, who="monitor", why="")
                .returning(IncidentEventRow.id)
            ).scalar_one()
            if action in ("resolve", "trigger"):
                resolved_at = at if action == "resolve" else None
                conn.execute(update(IncidentRow).where(IncidentRow.id == incident).values(resolved_at=resolved_at))
            told = payload(deployment="d", incident=incident, transition=event, **changed)
            enqueue(conn, event, incident, action, told, channels, at)
        return event

    def outbox(self) -> list[Any]:
        """All rows, in order."""
        with self.engine.connect() as conn:
            return list(conn.execute(select(OutboxRow.__table__).order_by(OutboxRow.id)))


@dataclass(frozen=True)
class Request:
    """What a receiver was asked."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@dataclass
class Receiver:
    """A server on 127.0.0.1 that answers with what `answer` gives: a status, with headers or a text."""

    answer: Callable[[Request], tuple[int, Mapping[str, str], bytes] | None] = lambda request: (200, {}, b"")
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    @property
    def keys(self) -> list[str]:
        """The idempotency keys in the order in which they came."""
        return [request.headers.get("idempotency-key", "") for request in self.requests]


@contextmanager
def receiving(
    answer: Callable[[Request], tuple[int, Mapping[str, str], bytes] | None] = lambda request: (200, {}, b""),
    port: int = 0,
) -> Iterator[Receiver]:
    """A running receiver; an answer of None closes the connection instead."""
    receiver = Receiver(answer)

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            names = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, names, body)
            receiver.requests.append(request)
            answered = receiver.answer(request)
            if answered is None:
                self.close_connection = True
                return
            status, headers, text = answered
            self.send_response(status)
            for name, value in {"content-length": str(len(text)), **headers}.items():
                self.send_header(name, value)
            with suppress(ConnectionError):  # whoever asked has died
                self.end_headers()
                self.wfile.write(text)

        do_POST = do_GET = _handle

        def log_message(self, *_: object) -> None:
            """Not into the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Clock:
    """Moves when it is told to."""

    def __init__(self, now: datetime = T0) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Spoken:
    """A sender that remembers, and fails as long as there are failures left."""

    told: list[Notification] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    def send(self, notification: Notification) -> None:
        self.told.append(notification)
        if self.failures:
            raise self.failures.pop(0)


def channel(name: str, teller: Sender | Renewer, *, secret: str = "") -> Channel:
    """One whose claims last a minute."""
    return Channel(
        name, "test", teller, "nowhere", MINUTE, lambda text: text.replace(secret, "***") if secret else text
    )


def delivering(engine: Engine, clock: Callable[[], datetime], *channels: Channel, **more: Any) -> Delivering:
    """Pauses are the longest that they can be."""
    options: dict[str, Any] = {
        "deadman": None,
        "retry": None,
        "uniform": lambda low, high: high,
        "renew_every": MINUTE,
        "succeeded": lambda: 0,
        **more,
    }
    return Delivering(engine, channels, clock=clock, **options)


def passing() -> Undelivered:
    """A failure that trying again may mend."""
    return Undelivered("answered 503 Service Unavailable")
